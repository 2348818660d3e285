"""Your own data: an .npz file of arrays, or a folder with one subfolder of images per class.

An .npz as Keras' mnist.npz: x_train, y_train, x_test, y_test; x_val and y_val if you have them; class_names if the
classes have names. Inputs are either

- images, (n, height, width) or (n, height, width, channels): whole numbers from 0 to 255, of any type. Images that were
  divided by 255 need the option pixel_scale=255; floats with fractions are refused without it, because nothing in the
  file says what 0.5 means; or
- features, (n, features): finite numbers, kept as float32.

Labels are whole numbers from 0, (n,) or (n, 1).

A folder is `train/<class>/*.png` and `test/<class>/*.png` (and `validation/` if you have it), or `<class>/*.png`: then
`test_fraction` of each class becomes the test split. PNG, JPEG, WebP, BMP, GIF, PNM and TIFF with 8 bits are read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from end2_tf.data import checks, image_folder, shards, sources
from end2_tf.data.examples import Examples, Splits, hold_out
from end2_tf.data.streams import Stream
from end2_tf.errors import DataError, suggestion
from end2_tf.reading import npz, texts

_ARRAYS = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}
_FOLDERS = {"train": "train", "validation": "validation", "test": "test"}
_CHUNK = 4096  # examples converted together; bounds the temporaries


def load(
    *,
    path: str | None,
    seed: int,
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None,
    pixel_scale: Annotated[float, Field(gt=0)] | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    lazily: bool = False,
    wanted: Sequence[str] = (),
) -> Splits:
    """Reads the file or folder.

    Args:
        path: Where it is.
        seed: Of the draw of a test split, for folders that have none.
        image_size: Height and width to resize a folder's images to; needed where they differ.
        pixel_scale: What to multiply an .npz's images by to have pixels from 0 to 255.
        test_fraction: Share of each class that becomes the test split, for folders that have none.
        lazily: Whether inputs stay in the file or folder until they are asked for. Those of an .npz must be uint8
            images or float32 features then, and are best not compressed.
        wanted: Splits of which the first that is there is read alone from an .npz; none: all. Of a folder all are:
            together they say whether its images are grey.

    Raises:
        DataError: something is missing or can't be used; the message says what and where.
    """
    place = _place(path)
    if place.is_dir():
        return _from_folder(place, image_size, test_fraction, seed, lazily)
    return _from_npz(place, pixel_scale, lazily, wanted)


def fingerprint(*, path: str | None, **options: Any) -> str:
    """Returns a digest of the contents: an .npz's checksums, or all images of a folder; not of names or dates."""
    place = _place(path)
    contents = image_folder.fingerprint(place) if place.is_dir() else npz.fingerprint(place)
    return hashlib.sha256(json.dumps(["own_data", contents, options], sort_keys=True).encode()).hexdigest()


def _place(path: str | None) -> Path:
    if not path:
        raise DataError(
            "own_data has no path. Set data.path to an .npz file or a folder of images per class "
            "(options.path for an auxiliary or OOD set)."
        )
    place = Path(path).expanduser()
    if not place.exists():
        siblings = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        raise DataError(
            f"path is {path!r}, which doesn't exist. {suggestion(place.name, siblings)}"
            "Give an .npz file or a folder of images per class."
        )
    return place


def _from_npz(path: Path, pixel_scale: float | None, lazily: bool, wanted: Sequence[str]) -> Splits:
    known = [name for pair in _ARRAYS.values() for name in pair]
    there = npz.names(path)
    chosen = sources.chosen((split for split, pair in _ARRAYS.items() if set(pair) & set(there)), wanted)
    pairs = {split: _ARRAYS[split] for split in chosen}
    kept = npz.headers(path, [x for x, _ in pairs.values()]) if lazily else {}
    streams = {x: _stream(path, x, header) for x, header in kept.items()}
    read = [name for pair in pairs.values() for name in pair if name not in streams]
    arrays = npz.read(path, [*read, "class_names"])
    splits = {}
    for split, (x, y) in pairs.items():
        labels = _labels(arrays[y], f"{path}: {y}") if y in arrays else None
        if x in streams:
            splits[split] = Examples(streams[x], labels)
        elif x in arrays:
            splits[split] = Examples(as_inputs(arrays.pop(x), pixel_scale, f"{path}: {x}"), labels)
        elif y in arrays:
            raise DataError(f"{path} has {y} but no {x}. Add {x}, or leave {y} out.")
    if not {"x_train", "x_test"} & set(there):
        near = next((text for name in there if (text := suggestion(name.lower(), known))), "")
        raise DataError(
            f"{path} has neither x_train nor x_test (arrays: {texts.listed(there)}). {near}"
            "Rename: np.savez_compressed(path, x_train=…, y_train=…, x_test=…, y_test=…)."
        )
    names = tuple(str(name) for name in np.ravel(arrays["class_names"])) if "class_names" in arrays else ()
    return Splits(splits.get("train"), splits.get("validation"), splits.get("test"), names)


def _stream(path: Path, name: str, header: npz.Header) -> Stream:
    shape, what = header.shape, f"{path}: {name}"
    is_image = header.dtype == np.uint8 and len(shape) in (3, 4)
    if header.in_fortran_order or not (is_image or (header.dtype == np.float32 and len(shape) == 2)):
        raise DataError(
            f"{what} is {header.dtype} of shape {shape}{', in Fortran order' if header.in_fortran_order else ''}. With "
            "data.shard_rows it must be uint8 images or float32 features, in C order. Save it so, or leave that out."
        )
    row = (*shape[1:], 1) if len(shape) == 3 else shape[1:]

    def read(ids: np.ndarray) -> Iterator[np.ndarray]:
        first = 0
        for part in npz.rows(path, name, ids, shards.rows_of(header.dtype.itemsize * math.prod(row))):
            if not is_image:
                checks.check_finite(part, what, ids[first : first + len(part)])
            first += len(part)
            yield part.reshape(-1, *row)

    return Stream(read, shape[0], row, header.dtype, what)


def as_inputs(values: np.ndarray, pixel_scale: float | None, name: str) -> np.ndarray:
    """Returns an array as uint8 images (n, h, w, c) or float32 features (n, d).

    Raises:
        DataError: it is neither; the message calls it `name`.
    """
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise DataError(f"{name} is of type {values.dtype}. Allowed: whole numbers or floats.")
    if values.ndim == 2:
        checks.check_finite(values, name)
        with np.errstate(over="ignore"):
            features = values.astype(np.float32)
        checks.check_finite(features, f"{name} as float32")
        return features
    if values.ndim not in (3, 4):
        raise DataError(
            f"{name} has shape {values.shape}. Allowed: images (n, height, width) or (n, height, width, channels), "
            "or features (n, features)."
        )
    if values.ndim == 4 and values.shape[1] in (1, 3) and values.shape[3] > 4:
        raise DataError(f"{name} has shape {values.shape}, channels first. Use np.moveaxis(images, 1, 3).")
    images = values if values.dtype == np.uint8 else _pixels(values, pixel_scale, name)
    return images[..., None] if images.ndim == 3 else images


def _pixels(values: np.ndarray, scale: float | None, name: str) -> np.ndarray:
    images = np.empty(values.shape, np.uint8)
    largest = 0.0
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64)
        pixels = part if scale is None else np.round(part * scale)
        wrong = ~((pixels >= 0) & (pixels <= 255) & (pixels == np.round(pixels)))
        if wrong.any():
            first, *rest = (int(i) for i in np.argwhere(wrong)[0])
            where = ", ".join(map(str, (start + first, *rest)))
            value = part[(first, *rest)]
            is_fraction = scale is None and 0 < value < 1
            hint = " If the pixels were divided by 255, set the option pixel_scale=255." if is_fraction else ""
            scaled = "" if scale is None else f", times pixel_scale {scale:g}"
            raise DataError(f"{name}[{where}] is {value:g}{scaled}. Images need whole numbers from 0 to 255.{hint}")
        images[start : start + _CHUNK] = pixels
        largest = max(largest, float(pixels.max(initial=0)))
    if largest <= 1 and scale is None and np.issubdtype(values.dtype, np.floating):
        raise DataError(
            f"{name} is {values.dtype} with no value above 1, so 1 may mean white or almost black. Set the option "
            "pixel_scale=255 if it means white, else 1."
        )
    return images


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]  # Keras' CIFAR files
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.floating):
        whole = labels.astype(np.int64, casting="unsafe") if np.isfinite(labels).all() else None
        if whole is None or (whole != labels).any():
            raise DataError(f"{name} is {labels.dtype} with values that aren't whole. Allowed: class numbers from 0.")
        return whole
    return labels


def _from_folder(root: Path, image_size: int | None, test_fraction: float, seed: int, lazily: bool) -> Splits:
    parts = {path.name: path for path in image_folder.subfolders(root)}
    there = {split: parts[name] for split, name in _FOLDERS.items() if name in parts}
    is_split = "train" in there or "test" in there
    roots = there if is_split else {"all": root}
    names_from = roots.get("train", next(iter(roots.values())))
    class_names = tuple(path.name for path in image_folder.subfolders(names_from))
    if not class_names:
        raise DataError(
            f"{names_from} has no class folders. Lay images out as train/<class>/*.png and test/<class>/*.png, "
            "or as <class>/*.png."
        )
    for split, folder in roots.items():
        for path in image_folder.subfolders(folder):
            if path.name not in class_names:
                raise DataError(
                    f"{path} is a class that {names_from} doesn't have. {suggestion(path.name, class_names)}"
                    "Rename or remove it, or add it there."
                )
        if not image_folder.subfolders(folder):
            raise DataError(f"{folder} has no class folders. Put <class>/*.png there, or remove the {split} folder.")
    folders = {split: image_folder.scan(folder, class_names) for split, folder in roots.items()}
    decoded = (image_folder.streams if lazily else image_folder.decode)(list(folders.values()), image_size)
    examples = {
        split: Examples(images, folder.labels) for (split, folder), images in zip(folders.items(), decoded, strict=True)
    }
    if is_split:
        return Splits(examples.get("train"), examples.get("validation"), examples.get("test"), class_names)
    train, test = hold_out(examples["all"], test_fraction, seed)
    return Splits(train=train, test=test, class_names=class_names)
