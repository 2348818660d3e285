"""The comparison of EnD and EnD² on synthetic evaluations whose differences are known."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from end2_tf import cli, workdir
from end2_tf.compare import answer, differences, page, runs, targets
from end2_tf.compare.differences import BEST, Difference, Pair
from end2_tf.errors import ConfigError, DataError, WorkdirError

ROOT = Path(__file__).resolve().parents[1]
N = 600
P_RIGHT, P_WRONG = 0.8, 0.1  # of the label, where the prediction is right or wrong


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
    run = runs.Run(write(tmp_path / "run", models, **options))
    return run, {(d.pair, d.dataset, d.metric, d.score): d for d in differences.of(run, 100)}


QUESTION = Pair("end2", "end")


def test_differences_are_those_that_were_put_in(tmp_path):
    models = {"end": model(0.20, 1.0), "end2": model(0.10, 2.0, 3.0)}
    _, found = compared(tmp_path, models)
    error, nll = found[QUESTION, "test", "error", ""], found[QUESTION, "test", "nll", ""]
    assert error.value == pytest.approx(-0.1)
    assert nll.value == pytest.approx(0.1 * np.log(P_WRONG / P_RIGHT), rel=1e-6)
    for difference in (error, nll):
        assert difference.low < difference.value < difference.high < 0
        assert difference.outcome == "wins"
    half = 1.96 * np.sqrt(0.1 * 0.9 / N)  # a tenth of the examples differ by -1, the rest by 0
    assert error.low == pytest.approx(-0.1 - half, abs=0.3 * half)
    assert error.high == pytest.approx(-0.1 + half, abs=0.3 * half)


@pytest.mark.parametrize(("score", "kind"), [("total", "total"), (BEST, "knowledge")])
def test_auroc_by_total_of_both_and_by_each_models_best_score(tmp_path, score, kind):
    models = {"end": model(0.1, 1.0), "end2": model(0.1, 0.5, 2.0)}
    _, found = compared(tmp_path, models)
    for dataset in ("ring_410", "ring_800"):
        expected = np.mean([auroc(s, dataset, kind) for s in models["end2"]])
        expected -= np.mean([auroc(s, dataset, "total") for s in models["end"]])
        difference = found[QUESTION, dataset, "ood_auroc", score]
        assert difference.value == pytest.approx(expected, abs=1e-9)
        assert difference.outcome == ("wins" if score == BEST else "loses")


def test_equal_models_tie(tmp_path):
    _, found = compared(tmp_path, {"end": model(0.1, 1.0), "end2": model(0.1, 1.0, 1.0)})
    for key, difference in found.items():
        if key[3] != BEST:
            assert difference.value == 0
            assert difference.outcome == "ties"


def test_a_difference_within_the_spread_over_seeds_is_a_tie(tmp_path):
    small = {"end": model(0.20, 1.0), "end2": model(0.15, 1.0, 1.0)}
    varied = {"end": model(0.20, 1.0, noise=0.05), "end2": model(0.15, 1.0, 1.0, noise=0.05)}
    _, found = compared(tmp_path / "a", small)
    _, noisy = compared(tmp_path / "b", varied)
    key = (QUESTION, "test", "error", "")
    assert found[key].high < 0
    assert noisy[key].high < 0  # surely more than chance over examples
    assert (found[key].outcome, noisy[key].outcome) == ("wins", "ties")
    assert noisy[key].spread == pytest.approx(0.05 * np.sqrt(2), rel=0.02)


def test_the_ensemble_counts_as_given_but_a_student_of_one_seed_tells_nothing(tmp_path):
    models = full(end2_aux=model(0.2, 1.0, 1.0), end_aux=model(0.1, 1.4, seeds=1))
    run, found = compared(tmp_path, models)
    assert found[Pair("end2_aux", "ensemble"), "test", "error", ""].outcome == "loses"
    for key, difference in found.items():
        if "end_aux" in key[0]:
            assert difference.spread is None
            assert difference.outcome == "unknown"
    table = page.difference_table(run, list(found.values()))
    column = table[0].index("EnD² + AUX − EnD + AUX")
    assert table[1][column].startswith("+10.00<br>[")  # no mark
    text = " ".join(answer.of_run(run, list(found.values())))
    assert (
        "With auxiliary data, EnD² against EnD: with one seed can't be told from luck on error (+10.00 points)" in text
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "spread", "metric", "outcome"),
    [
        (0.02, 0.01, 0.03, 0.01, "ood_auroc", "wins"),
        (-0.02, -0.03, -0.01, 0.01, "ood_auroc", "loses"),
        (0.02, 0.01, 0.03, 0.01, "error", "loses"),
        (-0.02, -0.03, -0.01, 0.01, "nll", "wins"),
        (0.02, -0.01, 0.05, 0.01, "ood_auroc", "ties"),  # the interval has 0
        (0.02, 0.0, 0.05, 0.01, "ood_auroc", "ties"),
        (0.02, 0.01, 0.03, 0.02, "ood_auroc", "ties"),  # the spread isn't exceeded
        (0.0004, 0.0003, 0.0005, 0.0, "ood_auroc", "ties"),  # printed as 0.0
        (0.0006, 0.0003, 0.0009, 0.0, "ood_auroc", "wins"),
        (0.02, 0.01, 0.03, None, "ood_auroc", "unknown"),
    ],
)
def test_outcomes(value, low, high, spread, metric, outcome):
    assert Difference(QUESTION, "x", metric, "", value, low, high, spread).outcome == outcome


def test_missing_methods_are_skipped(tmp_path):
    models = {name: full()[name] for name in ("ensemble", "single", "end", "end2", "end2_proxy")}
    run, found = compared(tmp_path, models | {"mine": model(0.1, 1.0, 1.0)})
    assert run.models == ["ensemble", "single", "end", "end2_proxy", "end2", "mine"]
    assert {key[0] for key in found} == {QUESTION}
    text = page.page([(run, list(found.values()))], {run.name: targets.checks(run)}, False)
    assert "Without auxiliary data, EnD² against EnD" in text
    assert "With auxiliary data" not in text


def test_without_the_two_methods_there_is_no_answer(tmp_path):
    run, found = compared(tmp_path, {"ensemble": full()["ensemble"], "end": full()["end"]})
    assert not found
    assert answer.overall([(run, [])]) == ["No run has both EnD and EnD², so there is nothing to answer."]


def test_a_set_that_is_ood_and_shifted_is_no_ood_set(tmp_path):
    run, found = compared(tmp_path, full(), shifted=["ring_800"])
    assert run.ood == ["ring_410"]
    assert all(key[1] != "ring_800" for key in found)


def test_near_and_far_sets(tmp_path):
    known = runs.Run(write(tmp_path / "known", full()))
    assert [known.distance(name) for name in known.ood] == ["near", "far"]
    own = runs.Run(write(tmp_path / "own", full(), data="own_data"))
    assert [own.distance(name) for name in own.ood] == ["", ""]
    assert own.name == "own_data_mlp"


def test_nll_is_finite_where_a_stored_probability_is_0(tmp_path):
    sure = model(0.2, 1.0)
    for seed in sure:
        seed["test/probs"] = np.eye(3, dtype=np.float32)[seed["test/probs"].argmax(1)]
    run = runs.Run(write(tmp_path, {"end": sure, "end2": model(0.1, 1.0, 1.0)}))
    nll = run.nll("end")
    assert nll.shape == (3, N)
    assert nll.max() == pytest.approx(149 * np.log(2))  # the least float32 above 0 is 2^-149
    assert nll.min() == 0


def _question(outcomes, metric="ood_auroc", score=BEST):
    signs = {"wins": 0.03, "loses": -0.03, "ties": 0.03, "unknown": 0.03}
    better = 1 if metric == "ood_auroc" else -1
    return [
        Difference(
            QUESTION,
            f"set_{i}" if score else "test",
            metric,
            score,
            better * signs[o],
            *sorted((better * signs[o] / 2, better * signs[o] * 2)),
            {"ties": 1.0, "unknown": None}.get(o, 0.0),
        )
        for i, o in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("ood", "accuracy", "starts", "ends"),
    [
        (["wins", "wins"], ["ties"], "Yes: ", "error and NLL differ by no more than noise."),
        (["wins", "ties"], ["wins"], "In part: ", "it has the lower error and NLL in every comparison."),
        (["wins", "loses"], ["wins", "ties"], "It depends: ", "lower in some comparisons and higher in none."),
        (["ties", "ties"], ["wins", "loses"], "No: at telling", "lower in some comparisons and higher in others."),
        (
            ["loses", "ties"],
            ["loses"],
            "No: EnD² tells OOD inputs worse",
            "higher in some comparisons and lower in none.",
        ),
        (["unknown"], ["unknown"], "Not known yet: ", "error and NLL can't be told either."),
        (
            ["wins", *["unknown"] * 9],
            ["ties"],
            "In part: EnD² tells OOD inputs better than EnD in some comparisons and worse in none (of those that can "
            "be told, 1 of 10);",
            "noise.",
        ),
        (["wins", "wins"], ["wins", "unknown"], "Yes: ", "higher in none (of those that can be told, 1 of 2)."),
        ([], ["ties"], "No OOD set was measured; ", "noise."),
    ],
)
def test_the_headline_follows_the_outcomes(tmp_path, ood, accuracy, starts, ends):
    run = runs.Run(write(tmp_path, full()))
    headline = answer.overall([(run, _question(ood) + _question(accuracy, "error", ""))])[0]
    assert headline.startswith(starts)
    assert headline.endswith(ends)


def test_the_tally_counts_and_averages(tmp_path):
    run = runs.Run(write(tmp_path, full()))
    five = _question(["wins", "wins", "loses", "ties", "unknown"])
    lines = answer.overall([(run, five + _question(["ties"], "error", ""))])
    assert (
        "EnD² wins 2 of 5 comparisons, ties in 1 and loses 1 (1 of one seed aren't told): +1.8 points on average."
        in lines[1]
    )


def test_words_about_one_data_set(tmp_path):
    run, found = compared(tmp_path, full())
    lines = answer.of_run(run, list(found.values()))
    gain = 100 * found[QUESTION, "ring_410", "ood_auroc", BEST].value
    far = 100 * found[QUESTION, "ring_800", "ood_auroc", BEST].value
    assert lines[0] == (
        "Without auxiliary data, EnD² against EnD: ties on error (0.00 points) and NLL (0.000 nats); by total "
        "uncertainty it ties on ring_410 (near, 0.0 points) and ring_800 (far, 0.0 points); by knowledge against total "
        f"uncertainty it wins on ring_410 (near, +{gain:.1f} points) and ring_800 (far, +{far:.1f} points)."
    )
    control = next(line for line in lines if "against the same network trained on labels alone" in line)
    assert "wins on error (−4.00 points)" in control


ALONE = "the same network trained on labels alone"
MIXED_UP = f"{ALONE} but on the students' inputs"


@pytest.mark.parametrize(
    ("controls", "verdict"),
    [
        (
            {"single_mixup": model(0.12, 1.0)},
            f"EnD² + AUX beats {ALONE} and {MIXED_UP} in NLL and OOD detection. So its gain is distillation's, not "
            "that of its size, training or in-domain inputs.",
        ),
        (
            {},
            f"EnD² + AUX beats {ALONE} in NLL and OOD detection. So its gain isn't that of its size or training "
            "alone; but that network has the members' inputs, not the students', so a part of it may be the inputs'.",
        ),
        (
            {"single_mixup": model(0.05, 1.0)},
            f"Not all that EnD² + AUX gains is distillation's: {MIXED_UP} beats it on NLL.",
        ),
        (
            {"single_matched": model(0.10, 1.0), "single_mixup": model(0.05, 2.49, 2.49)},
            f"Not all that EnD² + AUX gains is distillation's: {ALONE} is level with it on NLL; {MIXED_UP} beats it "
            f"on NLL; {MIXED_UP} is level with it on ring_410 and ring_800.",
        ),
        ({"single_mixup": model(0.12, 1.0, seeds=1)}, None),  # the one control that decides can't be told
    ],
)
def test_the_gain_is_distillations_only_if_no_control_has_it_too(tmp_path, controls, verdict):
    run, found = compared(tmp_path, full(**controls))
    lines = answer.of_run(run, list(found.values()))
    told = [line for line in lines if " gain" in line]
    assert told == ([verdict] if verdict else [])
    assert any(f"against {MIXED_UP}:" in line for line in lines) == ("single_mixup" in controls)


def test_the_best_score_of_two_models_without_knowledge_is_total_and_said_once(tmp_path):
    run, found = compared(tmp_path, {"end": model(0.1, 1.0), "end2": model(0.1, 2.0)})
    (line,) = answer.of_run(run, list(found.values()))
    assert line.count("by total uncertainty") == 1
    assert "knowledge" not in line


@pytest.mark.parametrize("brought", [{"models": "members/*.keras"}, {"predictions": "said.npz"}])
def test_members_that_were_brought_are_said_to_be(tmp_path, brought):
    ensemble = {"backbone": "auto", **brought}
    root = write(tmp_path / "run", {"end": model(0.1, 1.0), "end2": model(0.1, 1.0, 1.0)}, ensemble=ensemble)
    text = page.build([root], tmp_path / "out", 50).read_text(encoding="utf-8")
    assert "an ensemble of 5 networks that were brought, not trained here." in text
    assert "(auto)" not in text


def test_the_labels_in_students_targets_are_told(tmp_path):
    methods = {
        "single_matched": {"loss": "cross_entropy"},
        "end": {"loss": "ensemble_distillation", "labels": 0.3},
        "end2_nll": {"loss": "dirichlet_nll", "labels": 0.0},
        "end2": {"loss": "mean_precision", "labels": 0.3},
    }
    models = {name: found for name, found in full().items() if name in methods}
    text = page.build([write(tmp_path / "run", models, methods=methods)], tmp_path / "out", 50).read_text("utf-8")
    assert "The label's share in the target of the mean: 0.3 for EnD, EnD²; 0 for EnD² (NLL)." in text
    none = {name: {**method, "labels": 0.0} for name, method in methods.items()}
    text = page.build([write(tmp_path / "none", models, methods=none)], tmp_path / "out", 50).read_text("utf-8")
    assert "The label's share" not in text


def test_runs_of_own_data_are_told_apart_by_their_files(tmp_path):
    paths = ["some/birds.npz", "other/fish.npz"]
    roots = [write(tmp_path / str(i), full(), data="own_data", path=path) for i, path in enumerate(paths)]
    assert [run.name for run in runs.read(roots)] == ["own_data_birds_mlp", "own_data_fish_mlp"]


def _checks(tmp_path, models=None, **options):
    run = runs.Run(write(tmp_path / "run", models or full(), **options))
    return {c.what: c for c in targets.checks(run) if c.student == "end2_aux"}


@pytest.mark.parametrize(
    ("data", "share", "passed"),
    [("cifar10", 0.81, True), ("cifar10", 0.79, False), ("fashion_mnist", 0.94, False), ("fashion_mnist", 0.96, True)],
)
def test_closed_gaps_are_asked_for_by_entry(tmp_path, data, share, passed):
    gaps = [("end2_aux", "error", share), ("end2_aux", "nll", None)]
    found = _checks(tmp_path, data=data, gaps=gaps)
    assert found["Error gap closed"].passed is passed
    assert found["Error gap closed"].found == f"{100 * share:.0f} %"
    assert (found["NLL gap closed"].passed, found["NLL gap closed"].found) == (None, "within noise")


@pytest.mark.parametrize(
    ("share", "found"), [(0.796, "79.6 %"), (0.79996, "79.996 %"), (0.804, "80 %"), (0.79, "79 %"), (-0.3, "−30 %")]
)
def test_a_share_that_misses_does_not_look_like_its_target(tmp_path, share, found):
    check = _checks(tmp_path, data="cifar10", gaps=[("end2_aux", "error", share)])["Error gap closed"]
    assert (check.found, check.target, check.passed) == (found, "≥ 80 %", share >= 0.8)


def test_no_miss_looks_like_its_target(tmp_path):
    extra = [
        ("end2_aux", "test", "knowledge_rank_correlation", 0.8997),
        ("end2_aux", "test", "knowledge_mean_ratio", 1.2003),
    ]
    found = _checks(tmp_path, extra=extra)
    assert found["Rank correlation of knowledge"].found == "0.8997"
    assert found["Mean knowledge over the ensemble's"].found == "1.2003"
    assert differences.amount(0.00103, "error", limit=0.001) == "+0.103 points"
    assert differences.amount(-0.00504, "ood_auroc", limit=-0.005) == "−0.504 points"
    assert differences.amount(0.00004, "ood_auroc", limit=0.0) == "+0.004 points"
    assert differences.amount(0.0, "ood_auroc", limit=0.0) == "0.0 points"


def test_where_the_gap_is_small_being_close_to_the_ensemble_counts(tmp_path):
    models = full(single=model(0.105, 1.0, seeds=5), end2_aux=model(0.102, 1.4, 2.49))
    found = _checks(tmp_path, models)
    assert "Error gap closed" not in found
    assert found["Error against the ensemble"].value == pytest.approx(1 / N)  # of 0.002
    assert found["Error against the ensemble"].passed
    assert found["NLL against the ensemble"].value == pytest.approx(np.log(P_RIGHT / P_WRONG) / N)  # of 0.005
    assert found["NLL against the ensemble"].passed


def test_checks_against_ensemble_and_end(tmp_path):
    extra = [
        ("end2_aux", "test", "knowledge_rank_correlation", 0.91),
        ("end2_aux", "test", "knowledge_mean_ratio", 1.25),
    ]
    found = _checks(tmp_path, full(end2_aux=model(0.11, 1.4, 2.3)), extra=extra)
    passed = {what: check.passed for what, check in found.items()}
    assert passed["Error against EnD"] is False  # a point above
    assert passed["NLL against EnD"] is False
    assert passed["PRR against the ensemble"] is True
    assert passed["AUROC on ring_410 by knowledge against the ensemble"] is False
    assert passed["AUROC on ring_410 by knowledge against EnD and a single member"] is True
    assert passed["Rank correlation of knowledge"] is True
    assert passed["Mean knowledge over the ensemble's"] is False
    assert passed["NLL against the same network on labels"] is True


def test_the_smallest_lead_decides_and_what_is_missing_is_left_open(tmp_path):
    models = full(single=model(0.15, 1.45, seeds=5))
    del models["single_matched"]
    found = _checks(tmp_path, models)
    total = found["AUROC on ring_410 by total against EnD and a single member"]
    expected = np.mean([auroc(s, "ring_410", "total") for s in models["end2_aux"]])
    expected -= np.mean([auroc(s, "ring_410", "total") for s in models["single"]])
    assert total.value == pytest.approx(expected)
    assert total.passed is False
    assert found["NLL against the same network on labels"].passed is None
    assert found["Rank correlation of knowledge"].passed is None


def test_build_writes_page_numbers_and_picture(tmp_path):
    roots = [write(tmp_path / "a", full()), write(tmp_path / "b", full(), data="cifar10", command="x --smoke")]
    out = tmp_path / "pages"
    assert page.build(roots, out, 50) == out / "end_or_end2.md"
    text = (out / "end_or_end2.md").read_text(encoding="utf-8")
    assert text.startswith("# EnD or EnD²?")
    assert "**Yes: EnD² tells OOD inputs better than EnD in every comparison" in text
    assert "![AUROC of every method on every OOD set](end_or_end2.png)" in text
    assert "## spirals_mlp" in text
    assert text.count("A smoke run") == 1
    line = next(line for line in text.splitlines() if line.startswith("| EnD + AUX (n 3)"))
    assert line.split(" | ")[1] == "10.00 ± 0.00"
    assert "**pass**" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    rows = list(csv.DictReader((out / "end_or_end2.csv").open(encoding="utf-8")))
    assert tuple(rows[0]) == page.CSV_HEADER
    assert {row["part"] for row in rows} == {"result", "difference", "target"}
    value = next(
        row
        for row in rows
        if (row["run"], row["part"], row["model"], row["metric"])
        == ("cifar10_mlp", "difference", "end2_nll_aux", "error")
    )
    assert float(value["value"]) == pytest.approx(0.03)
    assert (value["against"], value["outcome"]) == ("end2_aux", "loses")
    with Image.open(out / "end_or_end2.png") as image:
        assert image.width >= 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 50  # something is drawn


def test_without_ood_sets_there_is_no_picture(tmp_path):
    models = {name: model(0.1, 1.0, 1.0 if name == "end2" else None, ood=()) for name in ("end", "end2")}
    page.build([write(tmp_path / "run", models)], tmp_path / "out", 50)
    assert not (tmp_path / "out" / "end_or_end2.png").exists()
    assert ".png" not in (tmp_path / "out" / "end_or_end2.md").read_text(encoding="utf-8")


def test_seeds_whose_predictions_were_not_kept_are_told(tmp_path):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)}, kept=1)
    text = page.build([root], tmp_path / "out", 50).read_text(encoding="utf-8")
    assert "of the seeds whose predictions were kept: EnD 1 of 3, EnD² 1 of 3." in text


def test_seeds_of_other_lengths_are_refused(tmp_path):
    models = {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)}
    root = write(tmp_path, models)
    models["end"][1]["test/probs"] = models["end"][1]["test/probs"][:5]
    write(tmp_path, {**models, "end": [models["end"][0]] * 3})
    folder = next((root / "evaluation").iterdir())
    workdir.write_npz(folder / "seeds" / "end" / "1.npz", **models["end"][1])
    workdir.Artefact(root, "evaluation", folder.name).finish()
    with pytest.raises(DataError, match=r"seeds of 'end' .* have 5, 600 values"):
        runs.Run(root).wrong("end")


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    good = write(tmp_path / "good", full())
    with pytest.raises(ConfigError, match="names no workdir"):
        page.build([], tmp_path)
    with pytest.raises(WorkdirError, match=r"has no results\.json, so no run was finished there"):
        runs.read([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="both runs of spirals_mlp"):
        runs.read([good, write(tmp_path / "again", full())])
    with pytest.raises(ConfigError, match="evaluated on its validation split"):
        runs.read([write(tmp_path / "validation", full(), split="validation")])


def test_an_altered_evaluation_is_refused(tmp_path):
    root = write(tmp_path, full())
    folder = next((root / "evaluation").iterdir())
    workdir.write_npz(folder / "predictions" / "end2.npz", **model(0.0, 9.0, 9.0)[0])
    with pytest.raises(WorkdirError, match="was altered or isn't complete"):
        runs.Run(root)
    results = json.loads((root / "results.json").read_text(encoding="utf-8"))
    workdir.write_json(root / "results.json", results | {"num_members": 6})
    with pytest.raises(WorkdirError, match="is of no evaluation"):
        runs.Run(root)


def test_the_newest_evaluation_is_not_taken_for_the_current_one(tmp_path):
    root = write(tmp_path, full())
    other = workdir.Artefact(root, "evaluation", "fedcba9876543210")
    workdir.write_json(other.begin() / "results.json", {"rows": []})
    other.finish()
    assert runs.Run(root).evaluation.folder.name == "0123456789abcdef"


def test_command_line(tmp_path, capsys):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    assert cli.main(["main.py", f"--compare={root}", f"--output={tmp_path / 'out'}"]) == 0
    assert f"Page:    {tmp_path / 'out' / 'end_or_end2.md'}" in capsys.readouterr().out
    assert cli.main(["main.py", f"--compare={root}", "--experiment=spirals_mlp_end2"]) == 2
    assert "--experiment is given, but --compare has no use for it." in capsys.readouterr().err
    assert cli.main(["main.py", f"--compare={tmp_path / 'nothing'}"]) == 3
    assert "no run was finished there" in capsys.readouterr().err
    assert cli.main(["main.py", "--compare=,"]) == 2
    assert "names no workdir" in capsys.readouterr().err


def test_comparing_imports_no_tensorflow(tmp_path):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    code = (
        "import sys; from end2_tf import cli\n"
        f"assert cli.main(['main.py', '--compare={root}', '--output={tmp_path / 'out'}']) == 0\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
