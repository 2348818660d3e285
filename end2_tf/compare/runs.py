"""A finished run as a comparison needs it: its rows, and every seed's predictions on the same examples."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from end2_tf import tables, workdir
from end2_tf.errors import ConfigError, DataError, WorkdirError
from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_TEACHERS = ("ensemble", "teacher")
METHODS = (*_TEACHERS, *(model for model in tables.MODELS if model not in ("bayes", *_TEACHERS)))

Kind = Literal["total", "knowledge"]
KINDS: tuple[Kind, ...] = ("total", "knowledge")

# Near OOD sets look like the in-domain data and differ in their classes; all others are far. Image sets are sorted as
# in OpenOOD (Yang et al., NeurIPS 2022), where notMNIST and Fashion-MNIST are near MNIST. The spirals reach radius 355.
NEAR = {
    "cifar10": ("cifar100", "tiny_imagenet32"),
    "fashion_mnist": ("emnist", "kmnist", "mnist", "not_mnist"),
    "mnist": ("emnist", "fashion_mnist", "kmnist", "not_mnist"),
    "spirals": ("ring_410",),
}

_LEAST = float(np.finfo(np.float32).smallest_subnormal)


class Run:
    """One finished run.

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
        self.config: dict[str, Any] = self.evaluation.results["config"]
        split = self.config.get("evaluation", {}).get("split", "test")
        if split != "test":
            raise ConfigError(
                f"{root} was evaluated on its {split} split. Allowed: runs with evaluation.split=test. "
                "Run its stage evaluate with that."
            )

    @functools.cached_property
    def name(self) -> str:
        """Data set, own file's name and backbone of the members, as in a zoo; "own" for members that were brought."""
        data, members = self.config.get("data", {}), self.config.get("ensemble", {})
        backbone = "own" if self.is_brought else members.get("backbone", "")
        return tables.group(data.get("name", self.root.name), data.get("path"), backbone)

    @property
    def is_brought(self) -> bool:
        """Whether the members were made elsewhere."""
        members = self.config.get("ensemble", {})
        return bool(members.get("models") or members.get("predictions"))

    @functools.cached_property
    def models(self) -> list[str]:
        """The ensemble and what is compared with it, in the order of `METHODS`; methods of one's own come last."""
        found = [m for m in self.evaluation.models if m != "bayes"]
        return [m for m in METHODS if m in found] + [m for m in found if m not in METHODS]

    @functools.cached_property
    def ood(self) -> list[str]:
        """The OOD sets of other classes; those that are shifted sets too are no test of knowing the unknown."""
        return [name for name in self.evaluation.ood_names if name not in self.evaluation.shifted_names]

    def distance(self, ood: str) -> str:
        """Returns whether an OOD set is "near" or "far"; "" where the in-domain data aren't known to `NEAR`."""
        near = NEAR.get(self.config.get("data", {}).get("name", ""))
        return "" if near is None else "near" if ood in near else "far"

    def label(self, model: str) -> str:
        return self.evaluation.label(model)

    def style(self, model: str) -> style.ModelStyle:
        return self.evaluation.style(model)

    def value(self, model: str, metric: str, dataset: str = "test") -> float | None:
        return self.evaluation.value(model, metric, dataset)

    def sd(self, model: str, metric: str, dataset: str = "test") -> float | None:
        """Sample standard deviation over seeds (of `single`: over members); None where there is one only."""
        row = self.evaluation.row(model, metric, dataset)
        return None if row is None else row.get("sd")

    def num_seeds(self, model: str) -> int:
        """How many trainings a model's rows are the mean of; for `single` the members."""
        row = self.evaluation.row(model, "error")
        return int(row["n"]) if row is not None and row.get("n") else 1

    def best_kind(self, model: str) -> Kind:
        """The score that a user of the model would choose to find OOD inputs: knowledge uncertainty, if it has it."""
        return "knowledge" if self.evaluation.has_prediction(model, "test/knowledge_uncertainty") else "total"

    def has_arrays(self, model: str) -> bool:
        return self.evaluation.has_prediction(model, "test/probs")

    def num_arrays(self, model: str) -> int:
        """How many seeds' predictions are on disk."""
        return len(self._files(model))

    def wrong(self, model: str) -> np.ndarray:
        """Whether each prediction on the test set is wrong, 0 or 1, (seeds, n)."""
        return np.stack([p.argmax(axis=1) != self.evaluation.labels for p in self._probs(model)]).astype(np.float64)

    def nll(self, model: str) -> np.ndarray:
        """-ln p(label) of each test example in nats, (seeds, n); 103 where the stored float32 p is 0."""
        rows = np.arange(len(self.evaluation.labels))
        picked = [p[rows, self.evaluation.labels].astype(np.float64) for p in self._probs(model)]
        return -np.log(np.maximum(np.stack(picked), _LEAST))

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
        further = [f"seeds/{model}/{seed}.npz" for seed in range(1, self.num_seeds(model))]
        return [f"predictions/{model}.npz", *(name for name in further if (self.evaluation.folder / name).is_file())]


def read(roots: Iterable[Path]) -> list[Run]:
    """Opens runs; raises ConfigError where two are of the same data and backbone, which tables couldn't tell apart."""
    runs: dict[str, Run] = {}
    for root in roots:
        run = Run(root)
        if run.name in runs:
            raise ConfigError(
                f"{runs[run.name].root} and {root} are both runs of {run.name}. Give one a data set and backbone."
            )
        runs[run.name] = run
    return list(runs.values())


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
