"""Models as they leave the lab: SavedModels with their uncertainties and the decision to answer or abstain."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from end2_tf import uncertainty
from end2_tf.config import Export
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples, hold_out
from end2_tf.export import savedmodel, signatures
from end2_tf.export.thresholds import Scores, Thresholds, choose

_BATCH = 1000
_NUM_EXAMPLES, _NUM_OUTSIDE = 10, 4


@dataclass(frozen=True)
class Exported:
    """One exported version, and what it decides.

    Attributes:
        path: Its folder.
        was_ready: Whether it was there already.
        thresholds: When it abstains.
        decisions: Of the test set and each OOD set: what is answered, and how well.
        cautions: What its user should know of how the thresholds were chosen, a sentence each.
    """

    path: Path
    was_ready: bool
    thresholds: Thresholds
    decisions: Mapping[str, Mapping[str, float]]
    cautions: tuple[str, ...] = ()

    def summary(self) -> str:
        test = self.decisions["test"]
        abstained = [f"{name} {100 * d['abstained']:.0f} %" for name, d in self.decisions.items() if name != "test"]
        outside = f"; abstains from {', '.join(abstained)}" if abstained else ""
        return (
            f"answers {100 * (1 - test['abstained']):.1f} % of test with {100 * test['error']:.2f} % error instead of "
            f"{100 * test['error_of_all']:.2f} %{outside}"
        )


def export(
    model: keras.Model,
    name: str,
    root: Path,
    data: DataSet,
    settings: Export,
    *,
    seed: int = 0,
    details: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> Exported:
    """Chooses a model's thresholds and writes its next version to `<root>/<name>/<version>/`.

    Args:
        model: A student, a single network, or an ensemble as one model.
        name: What a server calls it.
        root: Folder of all exported models.
        data: What it was trained on: thresholds come from validation and calibration, what they do from test and OOD.
        settings: See `config.Export`.
        seed: Of how validation is split where there are no calibration examples.
        details: More for the metadata.
        report: Told what is being done.
    """
    report("asking the model")
    answers = {part: _measures(model, examples.inputs) for part, examples in _sets(data).items()}
    calibration_split, validation, calibration = _held_out(data, answers, seed)
    thresholds = choose(
        validation,
        calibration,
        coverage=settings.coverage,
        max_error=settings.max_error,
        delta=settings.delta,
        ood_rejection=settings.ood_rejection,
    )
    decisions = _decisions(data, answers, thresholds)
    report("writing and trying it")
    outside = [examples.inputs[:8] for examples in data.ood.values()]
    version, was_ready = savedmodel.write(
        model,
        root / name,
        inputs=np.concatenate([data.test.inputs[:32], *outside]),
        thresholds=thresholds,
        lite=settings.lite and name.rpartition("_")[2] != "ensemble",
        details={
            "name": name,
            "classes": list(data.class_names),
            "calibration_split": calibration_split,
            "decisions": {part: savedmodel.finite(numbers) for part, numbers in decisions.items()},
            "distribution": _distribution(answers["validation"]),
            "examples": _examples(data),
            **(details or {}),
        },
    )
    cautions = _cautions(data, thresholds, answers["validation"])
    return Exported(root / name / str(version), was_ready, thresholds, decisions, cautions)


def _cautions(data: DataSet, thresholds: Thresholds, measures: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    found = []
    if data.calibration is None:
        found.append(
            f"the thresholds come from the {len(data.validation)} validation examples, since no others were held out; "
            "data.calibration_fraction does that, so that their promise holds"
        )
    if thresholds.ood_rejection and np.isinf(thresholds.unfamiliar) and "knowledge_uncertainty" in measures:
        needed = int(np.ceil(1 / thresholds.ood_rejection)) - 1
        found.append(
            f"no input is taken for unfamiliar: {thresholds.num_validation} examples are too few for "
            f"export.ood_rejection={thresholds.ood_rejection:g}, which needs {needed}"
        )
    return tuple(found)


def _sets(data: DataSet) -> dict[str, Examples]:
    sets = {"validation": data.validation, "test": data.test, **{f"ood/{name}": e for name, e in data.ood.items()}}
    return sets if data.calibration is None else sets | {"calibration": data.calibration}


def _measures(model: keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    found = model.predict(inputs, batch_size=_BATCH, verbose=0)
    return found if isinstance(found, dict) else uncertainty.from_members(found)


def _held_out(data: DataSet, answers: Mapping[str, Mapping[str, np.ndarray]], seed: int) -> tuple[str, Scores, Scores]:
    """Returns where the calibration examples come from, and the scores of validation and calibration examples."""
    validation = Scores.of(answers["validation"], _labels(data.validation))
    if data.calibration is not None:
        return "calibration", validation, Scores.of(answers["calibration"], _labels(data.calibration))
    numbered = Examples(np.arange(len(data.validation)), data.validation.labels)
    rest, half = hold_out(numbered, 0.5, seed)
    return "half of validation", validation.select(rest.inputs), validation.select(half.inputs)


def _labels(examples: Examples) -> np.ndarray:
    assert examples.labels is not None  # `dataset.load` sees to it
    return examples.labels


def _distribution(measures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the percentiles 0 to 100 of each uncertainty on validation inputs, nats."""
    names = [name for name in measures if name.endswith("_uncertainty")]
    return {
        "n": len(measures["probs"]),
        "percentiles": {
            name: [float(f"{value:.5g}") for value in np.percentile(measures[name], np.arange(101))] for name in names
        },
    }


def _examples(data: DataSet) -> list[dict[str, Any]]:
    """Returns a few inputs to try a server with: a test input of each class, and some of each OOD set."""
    if len(data.input_shape) == 3 and data.input_shape[2] not in signatures.CHANNELS:
        return []  # no PNG file holds them
    labels = _labels(data.test)
    classes, first = np.unique(labels, return_index=True)
    chosen = [("test", data.class_names[label], data.test.inputs[i]) for label, i in zip(classes, first, strict=True)][
        :_NUM_EXAMPLES
    ]
    for name, examples in data.ood.items():
        chosen += [(name, None, each) for each in examples.inputs[:_NUM_OUTSIDE]]
    return [{"set": part, "class": label, **_written(value)} for part, label, value in chosen]


def _written(value: np.ndarray) -> dict[str, Any]:
    """Returns one input for JSON: a PNG file in base64, or features."""
    if value.ndim != 3:
        return {"features": [float(f"{x:.6g}") for x in value]}
    stream = io.BytesIO()
    Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value).save(stream, "PNG")
    return {"png": base64.b64encode(stream.getvalue()).decode("ascii")}


def _decisions(
    data: DataSet, answers: Mapping[str, Mapping[str, np.ndarray]], thresholds: Thresholds
) -> dict[str, dict[str, float]]:
    """Returns what the thresholds do to the test set and to each OOD set."""
    scores = Scores.of(answers["test"], _labels(data.test))
    abstained = scores.abstained(thresholds)
    found = {
        "test": {
            "n": len(scores),
            "abstained": float(abstained.mean()),
            "error": float(scores.is_wrong[~abstained].mean()) if not abstained.all() else float("nan"),
            "error_of_all": float(scores.is_wrong.mean()),
        }
    }
    for name, examples in data.ood.items():
        outside = Scores.of(answers[f"ood/{name}"], np.zeros(len(examples), np.int64))
        found[name] = {"n": len(outside), "abstained": float(outside.abstained(thresholds).mean())}
    return found
