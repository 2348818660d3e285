"""Synthetic evaluation folders: three spirals in the plane, and ten classes of small images."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma, logsumexp, softmax
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

STUDENTS = {
    # share of the ensemble's logits, log of the precision's factor in-domain, and far from the data
    "single_matched": (0.95, None, None),
    "end": (0.9, None, None),
    "end_aux": (0.9, None, None),
    "end2_nll": (0.85, -0.9, 3.0),
    "end2_nll_aux": (0.85, -0.9, -0.3),
    "end2": (0.95, 0.0, 4.0),
    "end2_aux": (0.95, 0.0, 0.0),
}


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(np.maximum(p, 1e-30)), axis=-1)


def _dirichlet_measures(alphas: np.ndarray) -> dict[str, np.ndarray]:
    alpha0 = alphas.sum(axis=1)
    mean = alphas / alpha0[:, None]
    data = digamma(alpha0 + 1) - np.sum(mean * digamma(alphas + 1), axis=1)
    total = _entropy(mean)
    return {"total_uncertainty": total, "data_uncertainty": data, "knowledge_uncertainty": np.maximum(total - data, 0)}


def _member_measures(probs: np.ndarray) -> dict[str, np.ndarray]:
    """Of member probabilities, (n, members, classes)."""
    total = _entropy(probs.mean(axis=1))
    data = _entropy(probs).mean(axis=1)
    return {"total_uncertainty": total, "data_uncertainty": data, "knowledge_uncertainty": total - data}


def _alphas(probs: np.ndarray, share: float, log_factor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A student's alphas: the members' mean, and the precision at which EPKL is theirs, both a little off."""
    mean_log = np.log(np.maximum(probs, 1e-12)).mean(axis=1)
    mean = probs.mean(axis=1)
    epkl = -_entropy(probs).mean(axis=1) - np.sum(mean * mean_log, axis=1)
    alpha0 = (probs.shape[2] - 1) / np.maximum(epkl, 1e-5) * np.exp(log_factor)
    alpha0 *= np.exp(0.5 * rng.standard_normal(len(alpha0)))
    logits = share * np.log(mean + 1e-6)
    logits += 0.25 * rng.standard_normal(logits.shape)
    return softmax(logits, axis=1) * alpha0[:, None]


class _Writer:
    """Collects what an evaluation writes, for any data given by member probabilities."""

    def __init__(self, folder: Path, members: dict[str, np.ndarray], labels: np.ndarray, far: dict, models: list[str]):
        self.folder, self.members, self.labels, self.models = folder, members, labels, models
        self.rng = np.random.default_rng(7)
        self.ood = [name for name in members if name not in ("test", "map")]
        self.alphas: dict[str, dict[str, np.ndarray]] = {}
        self.predictions: dict[str, dict[str, np.ndarray]] = {m: {} for m in models}
        for name, probs in members.items():
            for model in models:
                self._predict(model, name, probs, far[name])
        self.rows: list[dict] = []

    def _predict(self, model: str, dataset: str, members: np.ndarray, far: np.ndarray) -> None:
        out = self.predictions[model]
        if model == "single":
            probs, measures = members[:, 0], {}
        elif model == "ensemble":
            probs, measures = members.mean(axis=1), _member_measures(members)
        else:
            share, inside, outside = STUDENTS[model]
            factor = far * (outside or 0.0) + (1 - far) * (inside or 0.0)
            alphas = _alphas(members, share, factor, self.rng)
            probs = alphas / alphas.sum(axis=1, keepdims=True)
            measures = {} if outside is None else _dirichlet_measures(alphas)
            if outside is not None:
                self.alphas.setdefault(model, {})[dataset] = alphas
        out[f"{dataset}/probs"] = probs.astype(np.float32)
        for key, value in ({"total_uncertainty": _entropy(probs)} | measures).items():
            out[f"{dataset}/{key}"] = value.astype(np.float32)

    def row(self, model: str, metric: str, value: float, dataset: str = "test") -> None:
        n = {"single": self.members["test"].shape[1], "ensemble": 1}.get(model, 3)
        sd = None if n == 1 else abs(float(value)) * 0.03
        self.rows.append(
            {"model": model, "dataset": dataset, "metric": metric, "value": float(value), "sd": sd, "n": n}
        )

    def measure(self) -> None:
        wrong_by_model = {}
        for model in self.models:
            out = self.predictions[model]
            p = out["test/probs"].astype(np.float64)
            wrong = p.argmax(axis=1) != self.labels
            wrong_by_model[model] = wrong
            picked = p[np.arange(len(p)), self.labels]
            onehot = np.eye(p.shape[1])[self.labels]
            auroc = roc_auc_score(wrong, out["test/total_uncertainty"])
            self.row(model, "error", wrong.mean())
            self.row(model, "nll", -np.log(np.maximum(picked, 1e-12)).mean())
            self.row(model, "brier", ((p - onehot) ** 2).sum(axis=1).mean())
            confidence = p.max(axis=1)
            bins = np.minimum((confidence * 15).astype(int), 14)
            gaps = [
                abs((~wrong[bins == b]).mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)
            ]
            self.row(model, "ece", sum(gaps))
            self.row(model, "prr", 100 * (2 * auroc - 1))
            self.row(model, "misclassification_auroc", auroc)
            knowledge = out.get("test/knowledge_uncertainty")
            if knowledge is not None and model != "ensemble":
                teacher = self.predictions["ensemble"]["test/knowledge_uncertainty"]
                self.row(model, "knowledge_rank_correlation", spearmanr(knowledge, teacher).statistic)
                self.row(model, "knowledge_mean_ratio", knowledge.mean() / teacher.mean())
            for name in self.ood:
                for kind in ("total", "knowledge"):
                    inside, outside = (out.get(f"{d}/{kind}_uncertainty") for d in ("test", name))
                    if inside is not None:
                        truth = np.repeat([0, 1], [len(inside), len(outside)])
                        self.row(
                            model, f"ood_auroc_{kind}", roc_auc_score(truth, np.concatenate([inside, outside])), name
                        )

    def gaps(self) -> list[dict]:
        found = {(r["model"], r["metric"]): r["value"] for r in self.rows if r["dataset"] == "test"}
        gaps = []
        for model in self.models:
            for metric in ("error", "nll") if model not in ("single", "ensemble") else ():
                gap = found["single", metric] - found["ensemble", metric]
                value = (found["single", metric] - found[model, metric]) / gap if gap > 0 else None
                gaps.append({"model": model, "metric": metric, "value": value, "gap": gap})
        return gaps

    def write(self, experiment: str, class_names: list[str], config: dict) -> None:
        (self.folder / "predictions").mkdir(parents=True)
        (self.folder / "history").mkdir()
        for model, arrays in self.predictions.items():
            np.savez(self.folder / "predictions" / f"{model}.npz", **arrays)
        np.savez(self.folder / "labels.npz", test=self.labels)
        for model in self.models:
            if model != "single":
                self._history(model)
        results = {
            "experiment": experiment,
            "created": "2024-11-24T16:30:00+00:00",
            "config": config,
            "versions": {"end2_tf": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1"},
            "seconds": {"ensemble": 312.4, "transfer": 8.2, "student": 655.0, "evaluation": 12.1},
            "class_names": class_names,
            "counts": {name: len(probs) for name, probs in self.members.items() if name != "map"},
            "num_bins": 15,
            "num_members": self.members["test"].shape[1],
            "rows": self.rows,
            "gap_closed": self.gaps(),
            "definitions": {"error": "Share of test inputs whose most probable class is not the label."},
            "notes": ["The OOD ring has the radius of the auxiliary ring, with other noise."],
        }
        (self.folder / "results.json").write_text(json.dumps(results))

    def _history(self, model: str) -> None:
        epochs = 45 if model == "ensemble" else 90
        t = np.arange(1, epochs + 1) / epochs
        noise = np.cumsum(self.rng.standard_normal(epochs)) * 0.004
        error = next(r["value"] for r in self.rows if r["model"] == model and r["metric"] == "error")
        dirichlet = (STUDENTS.get(model) or (0, None))[1] is not None
        temperature = np.clip(10 - 9 * (t - 0.33) / 0.33, 1, 10) if "nll" in model else np.full(epochs, 1.0)
        loss = (3.0 * np.exp(-4 * t) - 6 * t if "nll" in model else 1.2 * np.exp(-5 * t) + 0.05) + noise
        with open(self.folder / "history" / f"{model}.csv", "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(
                ["epoch", "loss", "learning_rate", "temperature", "alpha0", "validation_error", "validation_nll"]
            )
            for i in range(epochs):
                alpha0 = f"{np.exp(1 + 5 * t[i] + 5 * noise[i]):.5g}" if dirichlet else ""
                decay = np.exp(-6 * t[i])
                out.writerow(
                    [
                        i + 1,
                        loss[i],
                        1e-3 * (1 - t[i]),
                        temperature[i],
                        alpha0,
                        error + 0.4 * decay,
                        0.1 + decay + noise[i],
                    ]
                )

    def simplex(self, chosen: dict[str, tuple[str, int]], class_ids: np.ndarray, inputs: np.ndarray) -> None:
        """Writes simplex.npz for chosen inputs, {name: (dataset, index)}."""

        def three(values: np.ndarray) -> np.ndarray:
            return np.take_along_axis(values, class_ids.reshape(len(chosen), *[1] * (values.ndim - 2), 3), axis=-1)

        members = three(np.stack([self.members[d][i] for d, i in chosen.values()]))
        arrays = {f"alphas/{m}": three(np.stack([a[d][i] for d, i in chosen.values()])) for m, a in self.alphas.items()}
        np.savez(
            self.folder / "simplex.npz",
            names=np.array(list(chosen)),
            class_ids=class_ids,
            member_probs=(members / members.sum(axis=-1, keepdims=True)).astype(np.float32),
            inputs=inputs,
            **arrays,
        )


CONFIG = {
    "data": {"name": "spirals", "options": {"noise": 0.25}, "ood": {"ring": {"name": "ring"}}},
    "ensemble": {"backbone": "mlp", "num_members": 10, "epochs": 45},
    "methods": {
        "end": {"loss": "ensemble_distillation"},
        "end2_nll": {"loss": "dirichlet_nll"},
        "end2_nll_aux": {"loss": "dirichlet_nll"},
        "end2": {"loss": "mean_precision"},
        "end2_aux": {"loss": "mean_precision"},
    },
    "seed": 0,
}


def _spiral_inputs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 3, n)
    t = 6 * np.pi * np.sqrt(rng.random(n))
    angle = t + 2 * np.pi * labels / 3
    x = np.stack([-np.cos(angle), np.sin(angle)], axis=1) * t[:, None] ** 2
    return x + 0.25 * t[:, None] ** 1.5 * rng.standard_normal(x.shape), labels


def _spiral_posterior(x: np.ndarray) -> np.ndarray:
    """p(class | x): each class is a line of normal distributions, integrated over their positions."""
    t = 6 * np.pi * np.sqrt((np.arange(300) + 0.5) / 300)
    scores = []
    for k in range(3):
        angle = t + 2 * np.pi * k / 3
        centres = np.stack([-np.cos(angle), np.sin(angle)], axis=1) * t[:, None] ** 2
        parts = []
        for block in np.array_split(x, max(1, len(x) // 4000)):
            distance = ((block[:, None, :] - centres) ** 2).sum(axis=2)
            variance = (0.25 * t**1.5) ** 2
            parts.append(logsumexp(-distance / (2 * variance) - np.log(variance), axis=1))
        scores.append(np.concatenate(parts))
    return softmax(np.stack(scores, axis=1), axis=1)


def _ring(n: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    v = rng.standard_normal((n, 2))
    return 500 * v / np.linalg.norm(v, axis=1, keepdims=True) + noise * rng.standard_normal((n, 2))


def spirals(folder: Path, num_test: int = 1500, grid: int = 40, models: list[str] | None = None) -> Path:
    """Writes an evaluation of three spirals, ten members and every student, with maps and simplexes."""
    rng = np.random.default_rng(0)
    models = ["single", "ensemble", *STUDENTS] if models is None else models
    axis = np.linspace(-700, 700, grid)
    inputs = {"map": np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)}
    inputs["test"], labels = _spiral_inputs(num_test, rng)
    inputs["ring"] = _ring(max(200, num_test // 3), 40.0, rng)
    posterior = {name: _spiral_posterior(x) for name, x in inputs.items()}
    far = {name: 1 / (1 + np.exp(-(np.linalg.norm(x, axis=1) - 420) / 25)) for name, x in inputs.items()}
    frequency = rng.standard_normal((10, 3, 8, 2)) / 180
    phase = rng.uniform(0, 2 * np.pi, (10, 3, 8))
    members = {}
    for name, x in inputs.items():
        waves = np.cos(np.einsum("nd,mkfd->nmkf", x, frequency) + phase).mean(axis=3)
        wobble = (0.8 + 16 * far[name])[:, None, None] * waves
        members[name] = softmax(np.log(posterior[name] + 1e-4)[:, None, :] * 0.9 + wobble, axis=-1)
    out = _Writer(folder, members, labels, far, models)
    out.measure()
    wrong = posterior["test"].argmax(axis=1) != labels
    out.rows.append(
        {"model": "bayes", "dataset": "test", "metric": "error", "value": float(wrong.mean()), "sd": None, "n": 1}
    )
    nll = float(-np.log(posterior["test"][np.arange(num_test), labels]).mean())
    out.rows.append({"model": "bayes", "dataset": "test", "metric": "nll", "value": nll, "sd": None, "n": 1})
    out.write("spirals_end2_aux", ["0", "1", "2"], CONFIG)
    bayes = {}
    for name in ("test", "map"):
        entropy = _entropy(posterior[name])
        bayes |= {f"{name}/probs": posterior[name], f"{name}/total_uncertainty": entropy}
        bayes |= {f"{name}/data_uncertainty": entropy, f"{name}/knowledge_uncertainty": np.zeros_like(entropy)}
    np.savez(folder / "predictions" / "bayes.npz", **bayes)
    train, train_labels = _spiral_inputs(3000, rng)
    np.savez(
        folder / "map.npz",
        x=axis,
        y=axis,
        train_inputs=train,
        train_labels=train_labels,
        auxiliary_inputs=_ring(1000, 20.0, rng),
        **{"ood/ring": inputs["ring"][:200]},
    )
    measures = _member_measures(members["test"])
    chosen = {
        "in-domain, agreed": ("test", int(measures["total_uncertainty"].argmin())),
        "ambiguous": ("test", int((measures["data_uncertainty"] - 5 * measures["knowledge_uncertainty"]).argmax())),
        "OOD": ("ring", int(_member_measures(members["ring"])["knowledge_uncertainty"].argmax())),
    }
    points = np.stack([inputs[d][i] for d, i in chosen.values()])
    out.simplex(chosen, np.tile([0, 1, 2], (3, 1)), points)
    return folder


def images(folder: Path, num_test: int = 1500, models: list[str] | None = None) -> Path:
    """Writes an evaluation of ten classes of 32×32 images, with two OOD sets; no maps."""
    rng = np.random.default_rng(1)
    models = ["single", "ensemble", *STUDENTS] if models is None else models
    members, far = {}, {}
    labels = rng.integers(0, 10, num_test)
    for name, size, signal, spread in (
        ("test", num_test, 7.0, 1.0),
        ("svhn_cropped", num_test, 2.0, 1.6),
        ("lsun", num_test // 2, 3.0, 1.3),
    ):
        likely = labels if name == "test" else rng.integers(0, 10, size)
        clear = signal * rng.beta(3, 1, size)
        logits = clear[:, None] * np.eye(10)[likely] + 0.9 * rng.standard_normal((size, 10))
        noise = spread * rng.standard_normal((size, 10, 10)) * rng.gamma(2, 0.5, size)[:, None, None]
        members[name] = softmax(1.6 * (logits[:, None, :] + noise), axis=-1)
        far[name] = np.full(size, 0.0 if name == "test" else 0.8)
    out = _Writer(folder, members, labels, far, models)
    out.measure()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    out.write("cifar10_cnn_end2_aux", names, CONFIG | {"data": {"name": "cifar10"}})
    measures = _member_measures(members["test"])
    chosen = {
        "in-domain, agreed": ("test", int(measures["total_uncertainty"].argmin())),
        "ambiguous": ("test", int(measures["data_uncertainty"].argmax())),
        "OOD": ("svhn_cropped", int(_member_measures(members["svhn_cropped"])["knowledge_uncertainty"].argmax())),
    }
    class_ids = np.stack([np.argsort(-members[d][i].mean(axis=0))[:3] for d, i in chosen.values()])
    y, x = np.mgrid[0:32, 0:32]
    pictures = np.stack([128 + 120 * np.sin(x / (3 + i) + c) * np.cos(y / (5 - i)) for i in range(3) for c in range(3)])
    out.simplex(chosen, class_ids, pictures.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def spirals_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = ["single", "ensemble", "end_aux", "end2", "end2_aux"]
    return spirals(tmp_path_factory.mktemp("spirals") / "evaluation", models=models)


@pytest.fixture(scope="session")
def images_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images(tmp_path_factory.mktemp("images") / "evaluation")
