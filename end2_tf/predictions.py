"""Inputs of a user's file or folder, and the table of what a model says of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from end2_tf.data import checks, image_folder, images
from end2_tf.data.sources import own_data
from end2_tf.errors import ConfigError, DataError, ZooError, suggestion
from end2_tf.reading import npz, texts

_ARRAYS = ("x", "x_test")  # looked for in this order
_UNCERTAINTIES = ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty")
_ABSTAIN = "abstain"
TERMINAL = "-"


def target(path: Path, output: str | None) -> Path | None:
    """Returns where to write the CSV: beside the input unless named; None for the terminal.

    Raises:
        ConfigError: the name isn't one of a CSV file.
    """
    if output is None:
        return path.resolve().parent / f"{path.resolve().stem}_predictions.csv"
    if output == TERMINAL:
        return None
    if Path(output).suffix.lower() != ".csv" or Path(output).is_dir():
        raise ConfigError(f"--output is {output!r}. Allowed: a file name that ends in .csv, or - for the terminal.")
    return Path(output)


def read(path: Path, shape: tuple[int, ...], name: str) -> tuple[list[str], np.ndarray]:
    """Returns what to call the inputs, and the inputs as the model takes them.

    Args:
        path: An .npz file (array `x` or `x_test`, or its only one), an image, or a folder of images at any depth.
            Images are brought to the size and channels that the model takes.
        shape: Of one input.
        name: Of the model, for messages.
    """
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"--input is {str(path)!r}, which doesn't exist. {suggestion(path.name, siblings)}"
            "Give an .npz file, an image, or a folder of images."
        )
    if path.suffix.lower() == ".npz":
        inputs = _from_npz(path, shape)
        return [str(i) for i in range(len(inputs))], inputs
    files = _images(path)
    if len(shape) != 3:
        taken = f"{shape[0]} features" if len(shape) == 1 else f"inputs of shape {shape}"
        raise DataError(f"--input is {str(path)!r}, but {name} takes {taken}. Give an .npz file of those.")
    return _decode(path, files, shape)


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        files = image_folder.images_in(path)
        if not files:
            raise DataError(f"{path} has no image. Put {', '.join(sorted(image_folder.SUFFIXES))} files there.")
        return files
    if not image_folder.is_image(path):
        raise DataError(f"--input is {str(path)!r}. Allowed: an .npz file, an image, or a folder of images.")
    return [path]


def _decode(root: Path, files: list[Path], shape: tuple[int, ...]) -> tuple[list[str], np.ndarray]:
    inputs = np.empty((len(files), *shape), np.uint8)
    for file, out in zip(files, inputs, strict=True):  # one by one: sizes and channels may differ
        image = image_folder.decode([image_folder.Folder(file.parent, ((file, 0),))], None)[0]
        out[:] = images.adapt_images(image, (shape[0], shape[1], shape[2]))[0]
    names = [file.relative_to(root).as_posix() if root.is_dir() else file.name for file in files]
    return names, inputs


def _from_npz(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    there = npz.names(path)
    chosen = next((key for key in _ARRAYS if key in there), there[0] if len(there) == 1 else None)
    if chosen is None:
        raise DataError(
            f"{path} has no array {' or '.join(_ARRAYS)} (arrays: {texts.listed(there)}). "
            "Name one of them so, or save only one."
        )
    values, name = npz.read(path, [chosen])[chosen], f"{path}: {chosen}"
    misfit = DataError(
        f"{name} has shape {values.shape}, but the model takes (n, {', '.join(map(str, shape))}). "
        "Give inputs of the kind it was trained on."
    )
    if values.ndim > 2 and len(shape) != 3:
        raise misfit
    if values.ndim > 2 and np.issubdtype(values.dtype, np.floating) and values.size:
        _check_pixels(values, name)
    inputs = own_data.as_inputs(values, None, name)
    checks.check_inputs(inputs, name)
    if inputs.ndim == 4:
        return images.adapt_images(inputs, (shape[0], shape[1], shape[2]))
    if inputs.shape[1:] != shape:
        raise misfit
    return inputs


def _check_pixels(values: np.ndarray, name: str) -> None:
    """Raises DataError where floats aren't pixel values, in words for somebody who can't set a scale."""
    checks.check_finite(values, name)
    if values.min() >= 0 and values.max() <= 1:
        raise DataError(f"{name} has no value above 1, but pixels go from 0 to 255. Multiply by 255 and round.")
    fractions = values[values != np.rint(values)]
    if fractions.size:
        raise DataError(f"{name} has {fractions[0]:g}, but pixels are whole numbers from 0 to 255. Scale and round.")


@dataclass(frozen=True)
class Table:
    """What a model says of inputs.

    Attributes:
        columns: input, predicted_class, confidence, total_uncertainty, then data_uncertainty and knowledge_uncertainty
            where there are any (nats), prob_<class> for each class, and abstain where it is decided.
        rows: A cell a column each: names, numbers, and whether to abstain.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | bool]]

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(texts.cell, self.columns))
        writer.writerows(map(_cell, row) for row in self.rows)
        return text.getvalue()

    def records(self) -> list[dict[str, str | float | bool]]:
        """Returns the rows by column, for JSON."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def table(names: Sequence[str], found: Mapping[str, np.ndarray], classes: Sequence[str]) -> Table:
    """Returns predictions as a table, numbers to six digits.

    Args:
        names: Of the inputs, (n).
        found: Measures by name, each with the batch first: `probs`, uncertainties, perhaps `abstain`.
        classes: Names, in the order of `probs`.
    """
    probs = found["probs"]
    if probs.shape[1] != len(classes):
        raise ZooError(
            f"the model predicts {probs.shape[1]} classes, but its metadata name {len(classes)}. Publish it again."
        )
    names, classes = ([texts.shown(name) for name in each] for each in (names, classes))
    measures = [name for name in _UNCERTAINTIES if name in found]
    decision = [_ABSTAIN] if _ABSTAIN in found else []
    rows: list[list[str | float | bool]] = []
    for row, name in enumerate(names):
        best = int(probs[row].argmax())
        numbers = [probs[row, best], *(found[m][row] for m in measures), *probs[row]]
        decided = [bool(found[d][row]) for d in decision]
        rows.append([name, classes[best], *(float(f"{value:.6g}") for value in numbers), *decided])
    return Table(
        ["input", "predicted_class", "confidence", *measures, *(f"prob_{c}" for c in classes), *decision], rows
    )


def _cell(value: str | float | bool) -> str:
    if isinstance(value, str):
        return texts.cell(value)
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
