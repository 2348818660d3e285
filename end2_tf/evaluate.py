"""Models × data sets → rows of numbers, and the arrays that pictures are made of. Knows no plotting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import config, metrics, uncertainty, workdir
from end2_tf.data.dataset import DataSet
from end2_tf.ensemble import Ensemble
from end2_tf.measures import MEASURES
from end2_tf.models import UncertaintyClassifier
from end2_tf.progress import Report

Arrays = dict[str, np.ndarray]
MAP_POINTS = 200  # a side of the grid for maps of two-dimensional inputs
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
        data: Test and OOD sets.
        settings: Bins, batch size.
        report: Called with progress.
    """

    def __init__(self, data: DataSet, settings: config.Evaluation, report: Report = lambda *args: None):
        self.data, self.settings, self.report = data, settings, report
        self.labels = np.asarray(data.test.labels)
        self.inputs = {"test": data.test.inputs, **{name: examples.inputs for name, examples in data.ood.items()}}
        self.grid = _grid(data)
        self.rows: list[Row] = []
        self.predictions: dict[str, dict[str, Arrays]] = {}
        self.simplex: dict[str, Any] = {}

    def add_ensemble(self, ensemble: Ensemble) -> None:
        """Measures the ensemble, and its members as `single`."""
        kept: dict[str, Arrays] = {}
        singles: dict[str, list[Arrays]] = {}
        for name, inputs in self._all_inputs():
            self.report(f"ensemble on {name}", len(kept), len(self.inputs) + 1, {})
            logits = ensemble.predict_logits(inputs, self.settings.batch_size)
            kept[name] = uncertainty.from_members(logits)
            probs = _softmax(logits)
            if name in self.inputs:
                singles[name] = [uncertainty.from_probs(probs[:, m]) for m in range(ensemble.num_members)]
            self.predictions.setdefault("single", {})[name] = uncertainty.from_probs(probs[:, 0])
        self.predictions["ensemble"] = kept
        self._add_rows("single", [{name: singles[name][m] for name in singles} for m in range(ensemble.num_members)])
        self._add_rows("ensemble", [kept])
        self._choose_for_simplex(ensemble)

    def add_student(self, method: str, models: list[UncertaintyClassifier]) -> None:
        """Measures a method's students, one a seed; pictures show the first."""
        per_seed = []
        for seed, model in enumerate(models):
            inputs = dict(self._all_inputs()) if seed == 0 else self.inputs
            per_seed.append(self._measure(model, inputs))
        self.predictions[method] = per_seed[0]
        self._add_rows(method, per_seed)
        if self.simplex and "alphas" in (outputs := models[0].predict_measures(self.simplex["inputs"])):
            ids = self.simplex["class_ids"]
            self.simplex[f"alphas/{method}"] = np.take_along_axis(outputs["alphas"], ids, axis=1)

    def _measure(self, model: UncertaintyClassifier, inputs: dict[str, np.ndarray]) -> dict[str, Arrays]:
        """Returns a student's measures on several sets of inputs, from one pass over all of them."""
        outputs = model.predict_measures(np.concatenate(list(inputs.values())), self.settings.batch_size)
        if "alphas" in outputs:
            measured = uncertainty.from_alphas(outputs["alphas"].astype(np.float64))
        else:  # from logits: in float32 a probability can be 0, and its NLL infinite
            measured = uncertainty.from_probs(_softmax(outputs["logits"]))
        ends = np.cumsum([len(x) for x in inputs.values()])
        parts = {name: np.split(values, ends[:-1]) for name, values in measured.items()}
        return {name: {k: parts[k][i] for k in parts} for i, name in enumerate(inputs)}

    def add_posterior(self) -> None:
        """Adds the true posterior as `bayes`, where the data set knows it."""
        if self.data.posterior is None:
            return
        measured = {}
        for name, inputs in self._all_inputs():
            if name not in ("test", "map"):
                continue
            measured[name] = uncertainty.from_probs(np.asarray(self.data.posterior(inputs)))
        for arrays in measured.values():
            arrays["data_uncertainty"] = arrays["total_uncertainty"]
            arrays["knowledge_uncertainty"] = np.zeros_like(arrays["total_uncertainty"])
        self.predictions["bayes"] = measured
        values = metrics.classification(measured["test"]["probs"], self.labels, self.settings.num_bins)
        self.rows += [Row("bayes", "test", metric, values[metric], None, 1) for metric in ("error", "nll", "brier")]

    def gap_closed(self) -> list[dict[str, Any]]:
        """Returns how much of the gap between single model and ensemble each student closes, on the test set.

        A share of a gap that is within two standard errors of the members' mean is left undefined.
        """
        found = {(r.model, r.metric): r for r in self.rows if r.dataset == "test"}
        gaps = []
        for metric in ("error", "nll"):
            if ("single", metric) not in found:
                continue
            single = found["single", metric]
            gap = single.value - found["ensemble", metric].value
            noise = (single.sd or 0.0) / np.sqrt(single.n)  # of the members' mean
            for model in dict.fromkeys(r.model for r in self.rows):
                if model not in ("single", "ensemble", "bayes") and (model, metric) in found:
                    value = (single.value - found[model, metric].value) / gap if gap > 2 * noise else None
                    gaps.append({"model": model, "metric": metric, "value": value, "gap": gap})
        return gaps

    def write(self, folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes `results.json` and the arrays for the report; returns the content of the former."""
        folder.mkdir(parents=True, exist_ok=True)
        workdir.write_npz(folder / "labels.npz", test=self.labels)
        names = ("probs", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty")
        for model, datasets in self.predictions.items():
            arrays = {
                f"{dataset}/{name}": np.asarray(values[name], np.float32)
                for dataset, values in datasets.items()
                for name in names
                if name in values
            }
            workdir.write_npz(folder / "predictions" / f"{model}.npz", **arrays)
        if self.grid is not None:
            few = {f"ood/{name}": examples.inputs[:1000] for name, examples in self.data.ood.items()}
            auxiliary = self.data.auxiliary.inputs[:1000] if self.data.auxiliary is not None else np.zeros((0, 2))
            workdir.write_npz(
                folder / "map.npz",
                x=self.grid["x"],
                y=self.grid["y"],
                train_inputs=self.data.train.inputs,
                train_labels=self.data.train.labels,
                auxiliary_inputs=auxiliary,
                **few,
            )
        if self.simplex:
            workdir.write_npz(folder / "simplex.npz", **self.simplex)
        results = {
            **summary,
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
        test = run["test"]
        for metric, value in metrics.classification(test["probs"], self.labels, self.settings.num_bins).items():
            yield ("test", metric), value
        teacher = self.predictions.get("ensemble", {}).get("test")
        if teacher is not None and test is not teacher and "knowledge_uncertainty" in test:
            ours, theirs = test["knowledge_uncertainty"], teacher["knowledge_uncertainty"]
            yield ("test", "knowledge_rank_correlation"), metrics.rank_correlation(ours, theirs)
            mean = float(np.mean(theirs))  # 0 for an ensemble of one member
            yield ("test", "knowledge_mean_ratio"), float(np.mean(ours)) / mean if mean > 0 else float("nan")
        scores = [name for name in MEASURES if name in test]
        for dataset in self.data.ood:
            found = metrics.out_of_distribution(
                {name: test[name] for name in scores}, {name: run[dataset][name] for name in scores}
            )
            for metric, value in found.items():
                yield (dataset, metric), value

    def _choose_for_simplex(self, ensemble: Ensemble) -> None:
        """Chooses a few inputs that show what the measures mean; their three most probable classes span the simplex."""
        test = self.predictions["ensemble"]["test"]
        total, knowledge = test["total_uncertainty"], test["knowledge_uncertainty"]
        chosen = [
            ("in-domain, members sure", "test", int(np.argsort(total)[len(total) // 4])),
            ("in-domain, classes overlap", "test", int(np.argmax(test["data_uncertainty"] - knowledge))),
            ("in-domain, members disagree", "test", int(np.argsort(knowledge)[-max(1, len(knowledge) // 200)])),
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


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _grid(data: DataSet) -> dict[str, np.ndarray] | None:
    """Returns a square grid around two-dimensional data, wide enough to show every OOD set; None for other inputs."""
    if data.input_shape != (2,):
        return None
    reach = [np.abs(data.train.inputs).max(), *(np.quantile(np.abs(e.inputs), 0.99) for e in data.ood.values())]
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
