"""Models × data sets → rows of numbers, and the arrays that pictures are made of. Knows no plotting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import config, metrics, uncertainty, workdir
from end2_tf.data import shards
from end2_tf.data.dataset import DataSet
from end2_tf.ensemble import Ensemble
from end2_tf.measures import MEASURES
from end2_tf.metrics import calibration
from end2_tf.models import UncertaintyClassifier
from end2_tf.progress import Report

Arrays = dict[str, np.ndarray]
MAP_POINTS = 200  # a side of the grid for maps of two-dimensional inputs
_MAP_EXAMPLES = 50_000
SIMPLEX_MEMBERS = 100


@dataclasses.dataclass(frozen=True)
class Row:
    """One number: mean and sample standard deviation over n members or student seeds."""

    model: str
    dataset: str
    metric: str
    value: float
    sd: float | None
    n: int


class Evaluation:
    """Predictions of every model on the same examples, and what follows from them.

    Args:
        data: In-domain, OOD and shifted sets.
        settings: Which in-domain split, bins, batch size.
        report: Called with progress.
        num_students: How many there will be, for the progress.
    """

    def __init__(
        self,
        data: DataSet,
        settings: config.Evaluation,
        report: Report = lambda *args: None,
        num_students: int = 0,
    ):
        self.data, self.settings, self.report = data, settings, report
        self.num_students, self.num_done = num_students, 0
        self.split: str = settings.split
        in_domain = data.test if self.split == "test" else data.validation
        self.labels = np.asarray(in_domain.labels)
        further = data.ood | data.shifted  # a set may be both
        self.inputs = {self.split: in_domain.inputs, **{name: examples.inputs for name, examples in further.items()}}
        self.shifted_labels = {name: np.asarray(examples.labels) for name, examples in data.shifted.items()}
        self.grid = grid(data)
        self.rows: list[Row] = []
        self.predictions: dict[str, dict[str, Arrays]] = {}
        self.further_seeds: dict[str, list[dict[str, Arrays]]] = {}  # of students, without the first
        self.simplex: dict[str, Any] = {}

    def add_ensemble(self, ensemble: Ensemble, num_taught: int | None = None) -> None:
        """Measures the ensemble, its members as `single`, and as `teacher` the first `num_taught` members together."""
        if self.grid is not None and not ensemble.knows(self.grid["inputs"]).all():
            self.grid = None  # recorded predictions needn't be of what only a picture shows
        kept: dict[str, Arrays] = {}
        taught: dict[str, Arrays] = {}
        singles: dict[str, list[Arrays]] = {}
        for name, inputs in self._all_inputs():
            self._tell()
            logits = ensemble.predict_logits(inputs, self.settings.batch_size)
            kept[name] = uncertainty.from_members(logits)
            if num_taught is not None:
                taught[name] = uncertainty.from_members(logits[:, :num_taught])
            probs = _softmax(logits)
            if name in self.inputs:
                singles[name] = [uncertainty.from_probs(probs[:, m]) for m in range(ensemble.num_members)]
            self.predictions.setdefault("single", {})[name] = uncertainty.from_probs(probs[:, 0])
        self.predictions["ensemble"] = kept
        self._add_rows("single", [{name: singles[name][m] for name in singles} for m in range(ensemble.num_members)])
        self._add_rows("ensemble", [kept])
        if taught:
            self.predictions["teacher"] = taught
            self._add_rows("teacher", [taught])
        self._choose_for_simplex(ensemble)

    def _tell(self) -> None:
        """Says how many sets of the ensemble and how many students are done, and begins the next."""
        total = len(self.inputs) + (self.grid is not None) + self.num_students
        self.report("evaluating", self.num_done, total, {})
        self.num_done += 1

    def add_student(self, method: str, models: list[UncertaintyClassifier]) -> None:
        """Measures a method's students, one a seed; pictures show the first, comparisons take all."""
        per_seed = []
        for seed, model in enumerate(models):
            inputs = dict(self._all_inputs()) if seed == 0 else self.inputs
            self._tell()
            per_seed.append(self._measure(model, inputs))
        self.predictions[method], self.further_seeds[method] = per_seed[0], per_seed[1:]
        self._add_rows(method, per_seed)
        if self.simplex and "alphas" in (outputs := models[0].predict_measures(self.simplex["inputs"])):
            ids = self.simplex["class_ids"]
            self.simplex[f"alphas/{method}"] = np.take_along_axis(outputs["alphas"], ids, axis=1)

    def _measure(self, model: UncertaintyClassifier, inputs: dict[str, np.ndarray]) -> dict[str, Arrays]:
        """Returns a student's measures on several sets of inputs, from one pass over all of them."""
        outputs = model.predict_measures(np.concatenate(list(inputs.values())), self.settings.batch_size)
        # In float64, also from float32: there a probability can be 0, and its NLL infinite.
        measured = model.head.measures({name: values.astype(np.float64) for name, values in outputs.items()})
        ends = np.cumsum([len(x) for x in inputs.values()])
        parts = {name: np.split(values, ends[:-1]) for name, values in measured.items()}
        return {name: {k: parts[k][i] for k in parts} for i, name in enumerate(inputs)}

    def add_posterior(self) -> None:
        """Adds the true posterior as `bayes`, where the data set knows it."""
        if self.data.posterior is None:
            return
        measured = {}
        for name, inputs in self._all_inputs():
            if name not in (self.split, "map"):
                continue
            measured[name] = uncertainty.from_probs(np.asarray(self.data.posterior(inputs)))
        for arrays in measured.values():
            arrays["data_uncertainty"] = arrays["total_uncertainty"]
            arrays["knowledge_uncertainty"] = np.zeros_like(arrays["total_uncertainty"])
        self.predictions["bayes"] = measured
        values = metrics.classification(measured[self.split]["probs"], self.labels, self.settings.num_bins)
        self.rows += [Row("bayes", self.split, metric, values[metric], None, 1) for metric in ("error", "nll", "brier")]

    def gap_closed(self) -> list[dict[str, Any]]:
        """Returns how much of the gap between single model and ensemble each student closes in-domain.

        A share of a gap that is within two standard errors of the members' mean is left undefined.
        """
        found = {(r.model, r.metric): r for r in self.rows if r.dataset == self.split}
        gaps = []
        for metric in ("error", "nll"):
            if ("single", metric) not in found:
                continue
            single = found["single", metric]
            gap = single.value - found["ensemble", metric].value
            noise = (single.sd or 0.0) / np.sqrt(single.n)  # of the members' mean
            for model in dict.fromkeys(r.model for r in self.rows):
                if model not in ("single", "ensemble", "teacher", "bayes") and (model, metric) in found:
                    value = (single.value - found[model, metric].value) / gap if gap > 2 * noise else None
                    gaps.append({"model": model, "metric": metric, "value": value, "gap": gap})
        return gaps

    def write(self, folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes `results.json` and the arrays for the report; returns the content of the former."""
        folder.mkdir(parents=True, exist_ok=True)
        workdir.write_npz(folder / "labels.npz", **{self.split: self.labels}, **self.shifted_labels)
        for model, datasets in self.predictions.items():
            workdir.write_npz(folder / "predictions" / f"{model}.npz", **self._kept(datasets))
        for model, per_seed in self.further_seeds.items():
            for seed, datasets in enumerate(per_seed, 1):
                workdir.write_npz(folder / "seeds" / model / f"{seed}.npz", **self._kept(datasets))
        if self.grid is not None:
            few = {f"ood/{name}": examples.inputs[:1000] for name, examples in self.data.ood.items()}
            shown = self.data.train.take(_MAP_EXAMPLES, 0)
            auxiliary = self.data.auxiliary.inputs[:1000] if self.data.auxiliary is not None else np.zeros((0, 2))
            workdir.write_npz(
                folder / "map.npz",
                x=self.grid["x"],
                y=self.grid["y"],
                train_inputs=shown.inputs,
                train_labels=shown.labels,
                auxiliary_inputs=auxiliary,
                **few,
            )
        if self.simplex:
            workdir.write_npz(folder / "simplex.npz", **self.simplex)
        results = {
            **summary,
            "split": self.split,
            "class_names": list(self.data.class_names),
            "counts": {name: len(inputs) for name, inputs in self.inputs.items()},
            "num_bins": self.settings.num_bins,
            "rows": [dataclasses.asdict(r) for r in self.rows],
            "gap_closed": self.gap_closed(),
            "definitions": dict(metrics.DEFINITIONS),
        }
        workdir.write_json(folder / "results.json", _plain(results))
        return results

    def _all_inputs(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from self.inputs.items()
        if self.grid is not None:
            yield "map", self.grid["inputs"]

    def _add_rows(self, model: str, runs: list[dict[str, Arrays]]) -> None:
        """Adds the mean and spread over runs (members or seeds) of every metric on every data set."""
        collected: dict[tuple[str, str], list[float]] = {}
        for run in runs:
            for key, value in self._numbers(run):
                collected.setdefault(key, []).append(value)
        for (dataset, metric), values in collected.items():
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            self.rows.append(Row(model, dataset, metric, float(np.mean(values)), sd, len(values)))

    def _numbers(self, run: dict[str, Arrays]) -> Iterator[tuple[tuple[str, str], float]]:
        inside = run[self.split]
        for dataset, labels in ({self.split: self.labels} | self.shifted_labels).items():
            teacher = self.predictions.get("ensemble", {}).get(dataset)
            for metric, value in self._labelled(run[dataset], labels, teacher):
                yield (dataset, metric), value
        scores = [name for name in MEASURES if name in inside]
        for dataset in self.data.ood:
            found = metrics.out_of_distribution(
                {name: inside[name] for name in scores}, {name: run[dataset][name] for name in scores}
            )
            for metric, value in found.items():
                yield (dataset, metric), value

    def _labelled(self, found: Arrays, labels: np.ndarray, teacher: Arrays | None) -> Iterator[tuple[str, float]]:
        """Yields what one model's measures on a set with labels come to, also beside the ensemble's."""
        yield from metrics.classification(found["probs"], labels, self.settings.num_bins).items()
        if teacher is not None and found is not teacher:
            yield "kl_to_ensemble", metrics.mean_kl(teacher["probs"], found["probs"])
        if "knowledge_uncertainty" not in found:
            return
        ours = found["knowledge_uncertainty"]
        yield "knowledge_mean", float(np.mean(ours))
        if teacher is not None and found is not teacher:
            theirs = teacher["knowledge_uncertainty"]
            yield "knowledge_rank_correlation", metrics.rank_correlation(ours, theirs)
            mean = float(np.mean(theirs))  # 0 for an ensemble of one member
            yield "knowledge_mean_ratio", float(np.mean(ours)) / mean if mean > 0 else float("nan")

    def _choose_for_simplex(self, ensemble: Ensemble) -> None:
        """Chooses a few inputs that show what the measures mean; their three most probable classes span the simplex."""
        inside = self.predictions["ensemble"][self.split]
        total, knowledge = inside["total_uncertainty"], inside["knowledge_uncertainty"]
        chosen = [
            ("in-domain, members sure", self.split, int(np.argsort(total)[len(total) // 4])),
            ("in-domain, classes overlap", self.split, int(np.argmax(inside["data_uncertainty"] - knowledge))),
            ("in-domain, members disagree", self.split, int(np.argsort(knowledge)[-max(1, len(knowledge) // 200)])),
        ]
        for dataset in list(self.data.ood)[:3]:
            scores = self.predictions["ensemble"][dataset]["knowledge_uncertainty"]
            chosen.append((f"OOD: {dataset}", dataset, int(np.argsort(scores)[len(scores) // 2])))
        inputs = np.stack([self.inputs[dataset][index] for _, dataset, index in chosen])
        logits = ensemble.predict_logits(inputs)[:, :SIMPLEX_MEMBERS]
        ids = np.sort(np.argsort(-_softmax(logits).mean(1), axis=1)[:, :3], axis=1)
        if ids.shape[1] < 3:
            return  # two classes: no simplex to draw
        self.simplex = {
            "names": np.asarray([name for name, _, _ in chosen]),
            "inputs": inputs,
            "class_ids": ids,
            "member_probs": _softmax(np.take_along_axis(logits, ids[:, None, :], axis=2)),
        }

    def _kept(self, datasets: dict[str, Arrays]) -> Arrays:
        """Returns what of a model's measures is written, under `<dataset>/<measure>`.

        In float32 what is tiny, as a sure network's entropies and the probabilities of its mistakes, would be 0: so
        uncertainties are float64, and of the labelled inputs -ln p(label) is kept too.
        """
        kept = {}
        for dataset, values in datasets.items():
            kept[f"{dataset}/probs"] = np.asarray(values["probs"], np.float32)
            for name in ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
                if name in values:
                    kept[f"{dataset}/{name}"] = np.asarray(values[name], np.float64)
            if dataset == self.split:
                kept[f"{dataset}/nll"] = calibration.negative_log_likelihoods_of(values["probs"], self.labels)
        return kept


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def grid(data: DataSet) -> dict[str, np.ndarray] | None:
    """Returns a square grid around two-dimensional data, wide enough to show every OOD set; None for other inputs."""
    if data.input_shape != (2,):
        return None
    reach = [
        *(np.abs(part).max() for part in shards.parts(data.train.inputs)),
        *(np.quantile(np.abs(e.inputs), 0.99) for e in data.ood.values()),
    ]
    axis = np.linspace(-1.05 * max(reach), 1.05 * max(reach), MAP_POINTS, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return {"x": axis, "y": axis, "inputs": np.stack([x.ravel(), y.ravel()], axis=1)}


def _plain(value: Any) -> Any:
    """JSON has no NaN: an undefined number becomes null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
