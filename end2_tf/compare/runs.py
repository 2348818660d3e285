"""A finished run: what a page tells of it, and every seed's predictions on the same examples."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from end2_tf import registry, tables, workdir
from end2_tf.errors import ConfigError, DataError, WorkdirError
from end2_tf.reading import texts
from end2_tf.report.inputs import Evaluation, Row

TEACHERS = ("ensemble", "teacher")
METHODS = (*TEACHERS, *(model for model in tables.MODELS if model not in ("bayes", *TEACHERS)))

Kind = Literal["total", "knowledge"]
KINDS: tuple[Kind, ...] = ("total", "knowledge")

TEST_METRICS = ("error", "nll", "ece", "prr")
_COMPARED = (
    *TEST_METRICS,
    *(f"ood_auroc_{kind}" for kind in KINDS),
    "knowledge_rank_correlation",
    "knowledge_mean_ratio",
)

# Near OOD sets look like the in-domain data and differ in their classes; all others are far. Image sets are sorted as
# in OpenOOD (Yang et al., NeurIPS 2022), where notMNIST and Fashion-MNIST are near MNIST. The spirals reach radius 355.
NEAR = {
    "cifar10": ("cifar100", "tiny_imagenet32"),
    "fashion_mnist": ("emnist", "kmnist", "mnist", "not_mnist"),
    "mnist": ("emnist", "fashion_mnist", "kmnist", "not_mnist"),
    "spirals": ("ring_410",),
}

_LEAST = float(np.finfo(np.float64).smallest_subnormal)


@dataclasses.dataclass(frozen=True)
class Gap:
    """The share of the gap between a single member and the ensemble that a model closes; None within noise."""

    model: texts.Name
    metric: texts.Name
    value: float | None
    gap: float


@dataclasses.dataclass(frozen=True)
class Run:
    """What a comparison tells of one run, plain values all of it, so that it can be kept in a file.

    Args:
        name: Data set, own file's name and backbone of the members, as in a zoo; "own" for members that were brought.
        experiment: Its experiment's name.
        commit: Of the code that evaluated it; "" where it isn't known.
        data: Name of the data set.
        backbone: Of the members.
        is_brought: Whether the members were made elsewhere.
        is_smoke: Whether it is a try of the machinery.
        num_members: Of the ensemble.
        epochs: Of each student, but for those of `epochs_of`.
        counts: Examples of each set.
        models: The ensemble and what is compared with it, in the order of `METHODS`; methods of one's own come last.
        labels: What models are called; of the ensemble too where it isn't one of them.
        label_shares: Of the label in the target of the mean, of students of the ensemble.
        ood: The OOD sets of other classes; those that are shifted sets too are no test of knowing the unknown.
        scores: Of each model what a user would choose to find OOD inputs: knowledge uncertainty, if it has it.
        kept: How many seeds' predictions were on disk.
        rows: Its measures.
        gap_closed: Shares of gaps.
        epochs_of: Of students whose method has a number of its own.
        commits_of: Of the code that evaluated students of a later run with the same ensemble.
    """

    name: texts.Name
    experiment: texts.Name
    commit: texts.Name | Literal[""]
    data: texts.Name
    backbone: texts.Name | Literal[""]
    is_brought: bool
    is_smoke: bool
    num_members: int | None
    epochs: int | None
    counts: dict[texts.Name, int]
    models: list[texts.Name]
    labels: dict[texts.Name, texts.Name]
    label_shares: dict[texts.Name, float]
    ood: list[texts.Name]
    scores: dict[texts.Name, Kind]
    kept: dict[texts.Name, int]
    rows: list[Row]
    gap_closed: list[Gap]
    epochs_of: dict[texts.Name, int] = dataclasses.field(default_factory=dict)
    commits_of: dict[texts.Name, texts.Name | Literal[""]] = dataclasses.field(default_factory=dict)

    def distance(self, ood: str) -> str:
        """Returns whether an OOD set is "near" or "far"; "" where the in-domain data aren't known to `NEAR`."""
        near = NEAR.get(self.data)
        return "" if near is None else "near" if ood in near else "far"

    def label(self, model: str) -> str:
        return self.labels.get(model, model)

    def value(self, model: str, metric: str, dataset: str = "test") -> float | None:
        row = self._index.get((model, metric, dataset))
        return None if row is None else row.value

    def sd(self, model: str, metric: str, dataset: str = "test") -> float | None:
        """Sample standard deviation over seeds (of `single`: over members); None where there is one only."""
        row = self._index.get((model, metric, dataset))
        return None if row is None else row.sd

    def num_seeds(self, model: str) -> int:
        """How many trainings a model's rows are the mean of; for `single` the members."""
        row = self._index.get((model, "error", "test"))
        return row.n if row is not None and row.n else 1

    def best_kind(self, model: str) -> Kind:
        return self.scores.get(model, "total")

    @functools.cached_property
    def _index(self) -> dict[tuple[str, str, str], Row]:
        return {(row.model, row.metric, row.dataset): row for row in self.rows}


class Finished:
    """A run in its workdir: what a comparison tells of it, and its predictions.

    Args:
        root: Its workdir.

    Raises:
        WorkdirError: nothing was evaluated there, or the evaluation was altered since.
        DataError: a file of the evaluation is missing or can't be read.
        ConfigError: it was evaluated on other data than the test set.
    """

    def __init__(self, root: Path):
        self.root = root
        self.evaluation = Evaluation(_evaluation(root))
        split = self.evaluation.results["config"].get("evaluation", {}).get("split", "test")
        if split != "test":
            raise ConfigError(
                f"{root} was evaluated on its {split} split. Allowed: runs with evaluation.split=test. "
                "Run its stage evaluate with that."
            )
        self.run = self._run()

    def _run(self) -> Run:
        evaluation, found = self.evaluation, self.evaluation.results
        config: dict[str, Any] = found["config"]
        data, members, student = (config.get(part, {}) for part in ("data", "ensemble", "student"))
        is_brought = bool(members.get("models") or members.get("predictions"))
        name = data.get("name", self.root.name)
        listed = [model for model in evaluation.models if model != "bayes"]
        models = [m for m in METHODS if m in listed] + [m for m in listed if m not in METHODS]
        shifted = evaluation.shifted_names
        rows = [
            Row(
                row["model"],
                row["dataset"],
                row["metric"],
                evaluation.value(row["model"], row["metric"], row["dataset"]),
                row.get("sd"),
                row.get("n"),
            )
            for row in evaluation.rows
            if row["model"] in models and row["metric"] in _COMPARED and row["dataset"] not in shifted
        ]
        return Run(
            name=tables.group(name, data.get("path"), "own" if is_brought else members.get("backbone", "")),
            experiment=found["experiment"],
            commit=found["commit"],
            data=name,
            backbone=members.get("backbone") or "",
            is_brought=is_brought,
            is_smoke="--smoke" in found["command"].split(),
            num_members=evaluation.num_members,
            epochs=student.get("epochs"),
            counts=found["counts"],
            models=models,
            labels={model: evaluation.label(model) for model in ("ensemble", *models)},
            label_shares=_label_shares(config.get("methods", {}), models),
            ood=[name for name in evaluation.ood_names if name not in shifted],
            scores={model: self._best_kind(model) for model in models},
            kept={m: len(self._files(m)) for m in models if evaluation.has_prediction(m, "test/probs")},
            rows=rows,
            gap_closed=[Gap(g["model"], g["metric"], g["value"], g["gap"]) for g in found["gap_closed"]],
            epochs_of={m: own for m in models if (own := config.get("methods", {}).get(m, {}).get("epochs"))},
        )

    def _best_kind(self, model: str) -> Kind:
        return "knowledge" if self.evaluation.has_prediction(model, "test/knowledge_uncertainty") else "total"

    def wrong(self, model: str) -> np.ndarray:
        """Whether each prediction on the test set is wrong, 0 or 1, (seeds, n)."""
        return np.stack([p.argmax(axis=1) != self.evaluation.labels for p in self._probs(model)]).astype(np.float64)

    def nll(self, model: str) -> np.ndarray:
        """-ln p(label) of each test example in nats, (seeds, n), at most 744; 103 where only float32 p were kept."""
        if self.evaluation.has_prediction(model, "test/nll"):
            return np.minimum(np.stack(self._arrays(model, "test/nll")), -math.log(_LEAST))
        rows = np.arange(len(self.evaluation.labels))
        picked = np.stack([p[rows, self.evaluation.labels] for p in self._probs(model)])
        return -np.log(np.maximum(picked, np.finfo(np.float32).smallest_subnormal).astype(np.float64))

    def scores(self, model: str, dataset: str, kind: Kind) -> np.ndarray:
        """Uncertainties in nats, (seeds, n)."""
        return np.stack(self._arrays(model, f"{dataset}/{kind}_uncertainty"))

    def _probs(self, model: str) -> list[np.ndarray]:
        return self._arrays(model, "test/probs")

    def _arrays(self, model: str, key: str) -> list[np.ndarray]:
        found = [self.evaluation.array(name, key) for name in self._files(model)]
        lengths = {len(values) for values in found}
        if len(lengths) > 1:
            sizes = ", ".join(map(str, sorted(lengths)))
            raise DataError(
                f"seeds of {model!r} in {self.evaluation.folder} have {sizes} values of {key}. Run it again."
            )
        return found

    def _files(self, model: str) -> list[str]:
        """Returns the archives of a model, a seed each: the first under predictions/, further ones under seeds/."""
        row = self.evaluation.row(model, "error")
        num_seeds = int(row["n"]) if row is not None and row.get("n") else 1
        further = [f"seeds/{model}/{seed}.npz" for seed in range(1, num_seeds)]
        return [f"predictions/{model}.npz", *(name for name in further if (self.evaluation.folder / name).is_file())]


def _label_shares(methods: dict[str, Any], models: Iterable[str]) -> dict[str, float]:
    """Returns how much of the true label is in what each student of the ensemble learns; losses differ in that."""
    learned = [model for model in models if model in methods and not registry.is_on_labels(methods[model]["loss"])]
    return {model: methods[model].get("labels", 0.0) for model in learned}


def read(roots: Iterable[Path]) -> list[Finished]:
    """Opens runs; raises ConfigError where two are of the same data and backbone, which tables couldn't tell apart."""
    found: dict[str, Finished] = {}
    for root in roots:
        finished = Finished(root)
        name = finished.run.name
        if name in found:
            raise ConfigError(
                f"{found[name].root} and {root} are both runs of {name}. Give one a data set and backbone."
            )
        found[name] = finished
    return list(found.values())


def _evaluation(root: Path) -> Path:
    """Returns the folder of the evaluation that a workdir's results.json is a copy of."""
    current = root / "results.json"
    if not current.is_file():
        raise WorkdirError(
            f"{root} has no results.json, so no run was finished there. Run it, or name another workdir."
        )
    digest = workdir.sha256(current)
    for path in sorted((root / "evaluation").glob("*/results.json")):
        if workdir.sha256(path) == digest:
            if workdir.Artefact(root, "evaluation", path.parent.name).manifest() is None:
                raise WorkdirError(f"{path.parent} was altered or isn't complete. Run its stage evaluate again.")
            return path.parent
    raise WorkdirError(f"{current} is of no evaluation in {root / 'evaluation'}. Run its stage evaluate again.")
