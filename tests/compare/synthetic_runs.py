"""Synthetic evaluations whose differences are known."""

import numpy as np
from sklearn.metrics import roc_auc_score

from end2_tf import workdir
from end2_tf.compare import differences, runs
from end2_tf.compare.differences import Pair

N = 600
P_RIGHT, P_WRONG = 0.8, 0.1  # of the label, where the prediction is right or wrong
QUESTION = Pair("end2", "end")


def model(error=0.1, total=1.0, knowledge=None, seeds=3, noise=0.0, ood=("ring_410", "ring_800")):
    """One model's arrays, a dict a seed.

    Args:
        error: Share of wrong predictions; the first examples are the wrong ones, so that models are paired.
        total: By how many standard deviations OOD inputs have more total uncertainty.
        knowledge: The same of knowledge uncertainty; None for a model without it.
        seeds: How many.
        noise: Standard deviation over seeds of `error` and of the separations.
        ood: The OOD sets.
    """
    found = []
    for seed in range(seeds):
        common, own = np.random.default_rng(0), np.random.default_rng(seed)
        shift = noise * (seed - (seeds - 1) / 2)
        wrong = np.arange(N) < round(N * (error + shift))
        labels = np.arange(N) % 3
        probs = np.full((N, 3), (1 - P_RIGHT) / 2)
        probs[np.arange(N), np.where(wrong, (labels + 1) % 3, labels)] = P_RIGHT
        arrays = {"test/probs": probs}
        for kind, separation in (("total", total), ("knowledge", knowledge)):
            if separation is not None:
                for place in ("test", *ood):
                    away = 0.0 if place == "test" else separation + 10 * shift
                    z = common.standard_normal(N) + 0.01 * own.standard_normal(N)
                    arrays[f"{place}/{kind}_uncertainty"] = 10 + z + away
        found.append({name: np.asarray(values, np.float32) for name, values in arrays.items()})
    return found


def auroc(seed, dataset, kind):
    inside, outside = seed[f"test/{kind}_uncertainty"], seed[f"{dataset}/{kind}_uncertainty"]
    return roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside]))


def write(
    root,
    models,
    *,
    data="spirals",
    path=None,
    extra=(),
    gaps=(),
    kept=None,
    split="test",
    shifted=(),
    ensemble=None,
    methods=None,
    **results,
):
    """Writes a finished run.

    Args:
        root: Its workdir.
        models: Names and arrays, as `model` returns them.
        data: The data set's name.
        path: Of own data.
        extra: Further rows, (model, dataset, metric, value).
        gaps: Shares of gaps, (model, metric, share).
        kept: How many seeds' arrays are on disk; all by default.
        split: That of the evaluation.
        shifted: OOD sets that are shifted sets too.
        ensemble, methods: The config's parts of these names.
        **results: Further fields of results.json.
    """
    ood = [name.split("/")[0] for name in next(iter(models.values()))[0] if name.endswith("/total_uncertainty")][1:]
    rows = []

    def row(name, dataset, metric, values):
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        value = float(np.mean(values))
        rows.append({"model": name, "dataset": dataset, "metric": metric, "value": value, "sd": sd, "n": len(values)})

    labels = np.arange(N) % 3
    for name, per_seed in models.items():
        wrong = [seed["test/probs"].argmax(1) != labels for seed in per_seed]
        row(name, "test", "error", [w.mean() for w in wrong])
        row(name, "test", "nll", [-np.log(np.where(w, P_WRONG, P_RIGHT)).mean() for w in wrong])
        row(name, "test", "ece", [0.02] * len(per_seed))
        row(name, "test", "prr", [50.0] * len(per_seed))
        for dataset in ood:
            for kind in ("total", "knowledge"):
                if f"test/{kind}_uncertainty" in per_seed[0]:
                    row(name, dataset, f"ood_auroc_{kind}", [auroc(seed, dataset, kind) for seed in per_seed])
    for name, dataset, metric, value in extra:
        rows.append({"model": name, "dataset": dataset, "metric": metric, "value": value, "sd": None, "n": 1})
    for dataset in shifted:
        rows.append({"model": "end", "dataset": dataset, "metric": "error", "value": 0.5, "sd": None, "n": 1})
    artefact = workdir.Artefact(root, "evaluation", "0123456789abcdef")
    folder = artefact.begin()
    workdir.write_npz(folder / "labels.npz", test=labels)
    for name, per_seed in models.items():
        for seed, arrays in enumerate(per_seed[:kept]):
            place = folder / "seeds" / name / f"{seed}.npz" if seed else folder / "predictions" / f"{name}.npz"
            workdir.write_npz(place, **arrays)
    content = {
        "experiment": f"{data}_mlp_end2",
        "config": {
            "data": {"name": data, "path": path},
            "ensemble": ensemble or {"backbone": "mlp"},
            "methods": methods or {},
            "student": {"epochs": 7},
            "evaluation": {"split": split},
        },
        "counts": {"test": N, **dict.fromkeys(ood, N)},
        "num_members": 5,
        "rows": rows,
        "gap_closed": [{"model": m, "metric": k, "value": v, "gap": 0.05} for m, k, v in gaps],
        **results,
    }
    workdir.write_json(folder / "results.json", content)
    workdir.write_json(root / "results.json", content)
    artefact.finish()
    return root


def full(**changes):
    """Every method, EnD² with AUX nearly as good as the ensemble and well above EnD by knowledge uncertainty."""
    return {
        "ensemble": model(0.10, 1.5, 2.5, seeds=1),
        "single": model(0.15, 1.0, seeds=5),
        "single_matched": model(0.14, 1.0),
        "end": model(0.10, 1.2),
        "end_aux": model(0.10, 1.4),
        "end2_nll": model(0.13, 1.0, 1.5),
        "end2_nll_aux": model(0.13, 1.0, 2.0),
        "end2_proxy": model(0.11, 1.2, 1.8),
        "end2_proxy_aux": model(0.11, 1.3, 2.1),
        "end2": model(0.10, 1.2, 2.0),
        "end2_aux": model(0.10, 1.4, 2.49),
    } | changes


def compared(tmp_path, models, **options):
    """A finished run, and its differences by pair, data set, metric and score."""
    finished = runs.Finished(write(tmp_path / "run", models, **options))
    return finished.run, {(d.pair, d.dataset, d.metric, d.score): d for d in differences.of(finished, 100)}
