"""Sentences and tables made of rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from end2_tf.report import tables
from end2_tf.report.inputs import Evaluation


def _evaluation(folder: Path, values: dict, **fields: object) -> Evaluation:
    """An evaluation of the values given as {(model, metric, dataset): value or (value, sd, n)}."""
    rows = []
    for (model, metric, dataset), value in values.items():
        value, sd, n = value if isinstance(value, tuple) else (value, None, 1)
        rows.append({"model": model, "metric": metric, "dataset": dataset, "value": value, "sd": sd, "n": n})
    (folder / "results.json").write_text(json.dumps({"rows": rows, **fields}), encoding="utf-8")
    return Evaluation(folder)


ERRORS = {
    ("end2_aux", "error", "test"): 0.0493,
    ("ensemble", "error", "test"): 0.0392,
    ("single", "error", "test"): (0.0512, 0.003, 10),
}


def _knowing(correlation: float, student: float, teacher: float) -> dict:
    return ERRORS | {
        ("end2_aux", "knowledge_rank_correlation", "test"): correlation,
        ("end2_aux", "ood_auroc_knowledge", "ring"): student,
        ("ensemble", "ood_auroc_knowledge", "ring"): teacher,
    }


def test_headline_gives_accuracy_and_cost(tmp_path: Path):
    first = tables.headline(_evaluation(tmp_path, ERRORS))[0].replace("\xa0", " ")
    assert first == (
        "EnD² + AUX gets 4.93 % of the test inputs wrong with one forward pass; "
        "the ensemble of 10 gets 3.92 % wrong with 10 passes, and a single member 5.12 %."
    )


@pytest.mark.parametrize(
    ("correlation", "student", "teacher", "words"),
    [
        (0.91, 0.93, 0.92, ["much like", "about as well as", "93.0 % against 92.0 %"]),
        (0.60, 0.80, 0.92, ["roughly like", "less well than"]),
        (0.30, 0.95, 0.90, ["only loosely like", "better than"]),
        (-0.10, 0.49, 0.51, ["hardly like", "poorly", "50 % is chance"]),
    ],
)
def test_headline_says_whether_the_student_knows(
    tmp_path: Path, correlation: float, student: float, teacher: float, words: list[str]
):
    second = tables.headline(_evaluation(tmp_path, _knowing(correlation, student, teacher)))[1].replace("\xa0", " ")
    assert second.startswith("Its knowledge uncertainty ranks test inputs")
    for word in words:
        assert word in second


def test_headline_averages_over_ood_sets(tmp_path: Path):
    values = _knowing(0.9, 0.9, 0.8)
    values |= {("end2_aux", "ood_auroc_knowledge", "b"): 0.7, ("ensemble", "ood_auroc_knowledge", "b"): 0.6}
    second = tables.headline(_evaluation(tmp_path, values))[1].replace("\xa0", " ")
    assert "(2 OOD sets, on average)" in second
    assert "80.0 % against 70.0 %" in second


@pytest.mark.parametrize(
    ("students", "recommended"),
    [(["end", "end2", "end2_aux"], "end2_aux"), (["end", "end2"], "end2"), (["end"], "end"), ([], None)],
)
def test_recommended_student(tmp_path: Path, students: list[str], recommended: str | None):
    values = {(m, "error", "test"): 0.1 for m in ["single", "ensemble", *students]}
    assert _evaluation(tmp_path, values).recommended == recommended


def test_spread_and_best(tmp_path: Path):
    values = {
        ("ensemble", "prr", "test"): 99.0,
        ("end", "prr", "test"): (71.04, 1.26, 3),
        ("end2", "prr", "test"): (71.02, 0.5, 3),
        ("end2_nll", "prr", "test"): 60.0,
        ("single_matched", "prr", "test"): 80.0,
    }
    (column,), lines = tables.results(_evaluation(tmp_path, values))
    cells = {line.label: line.cells[0] for line in lines}
    assert column.head == "PRR"
    assert column.arrow == "↑"
    assert cells["EnD"].text == "71.0"
    assert cells["EnD"].spread == "± 1.3 (3)"
    assert {label for label, cell in cells.items() if cell.best} == {"EnD", "EnD²"}  # equal as printed
    assert cells["EnD² (NLL)"].spread == ""


PUBLISHED = {
    "source": "a paper",
    "test": {
        "end2_nll": {"error": [0.073, 0.002], "nll": [0.25, 0.0]},
        "single": {"error": [0.08, 0.004]},
        "end": {"prr": [85.0, None]},  # of no column here
    },
    "ood": {"ring": {"end2_nll": {"ood_auroc_knowledge": [0.8, None]}}},
}


def test_published_figures_stand_below_our_own(tmp_path: Path):
    values = _knowing(0.9, 0.9, 0.8) | {("single", "nll", "test"): 0.5}
    heads, lines = tables.results(_evaluation(tmp_path, values, config={"published": PUBLISHED}))
    assert [line.label for line in lines] == [
        "Single member",
        "Single member, published",
        "Ensemble of 10",
        "EnD² + AUX",
        "EnD² (NLL), published",  # which this run hasn't
    ]
    assert [line.is_published for line in lines] == [False, True, False, False, True]
    assert [head.metric for head in heads] == [
        "error", "nll", "knowledge_rank_correlation", "ood_auroc_knowledge"
    ]  # fmt: skip
    assert [(c.text, c.spread, c.best) for c in lines[1].cells] == [
        ("8.0", "± 0.4", False), ("–", "", False), ("–", "", False), ("–", "", False)
    ]  # fmt: skip
    assert [(c.text, c.spread) for c in lines[4].cells] == [
        ("7.3", "± 0.2"), ("0.25", "± 0.00"), ("–", ""), ("80.0", "")
    ]  # fmt: skip


def test_published_figures_are_no_rivals_of_our_own(tmp_path: Path):
    values = {("end2", "error", "test"): 0.2, ("end2_nll", "error", "test"): 0.3}
    _, lines = tables.results(_evaluation(tmp_path, values, config={"published": PUBLISHED}))
    assert [line.label for line in lines if line.cells[0].best] == ["EnD²"]


def test_published_figures_of_the_test_set_are_not_shown_beside_validation(tmp_path: Path):
    values = {("end2_nll", "error", "validation"): 0.3, ("end2_nll", "ood_auroc_knowledge", "ring"): 0.9}
    _, lines = tables.results(_evaluation(tmp_path, values, split="validation", config={"published": PUBLISHED}))
    assert [line.label for line in lines] == ["EnD² (NLL)"]


def test_one_network_alone(tmp_path: Path):
    values = {(m, "error", "test"): (0.08, None, 1) for m in ("single", "ensemble")}
    evaluation = _evaluation(tmp_path, values, num_members=1)
    _, (line,) = tables.results(evaluation)
    assert (line.label, line.note) == ("Single member", "trained on labels")
    assert evaluation.label("ensemble") == "Single member"  # whose training history is under that name
    assert tables.headline(evaluation)[0].replace("\xa0", " ") == "A single member gets 8.00 % wrong."


def test_undefined_values_are_dashes_and_never_best(tmp_path: Path):
    values = {
        ("end", "prr", "test"): None,
        ("end2", "prr", "test"): float("nan"),
        ("end2_aux", "prr", "test"): (50.0, float("nan"), 2),
        ("ensemble", "prr", "test"): 60.0,
    }
    _, lines = tables.results(_evaluation(tmp_path, values))
    assert [line.cells[0].text for line in lines] == ["60.0", "–", "–", "50.0"]
    assert not any(line.cells[0].best for line in lines)  # no rival
    assert all(line.cells[0].spread == "" for line in lines)


def test_gaps(tmp_path: Path):
    given = [
        {"model": "end2", "metric": "error", "value": 0.854, "gap": 0.0125},
        {"model": "end2", "metric": "nll", "value": None, "gap": -0.1},
        {"model": "end", "metric": "error", "value": -0.2, "gap": 0.0125},
    ]
    heads, lines = tables.gaps(_evaluation(tmp_path, ERRORS, gap_closed=given))
    assert heads == [("Error", "of 1.25 %"), ("NLL", "of -0.100 nats")]
    assert [(line.label, [c.text for c in line.cells]) for line in lines] == [
        ("EnD", ["-20 %", "–"]),
        ("EnD²", ["85 %", "–"]),
    ]


def test_every_metric_has_a_definition(tmp_path: Path):
    names = ["error", "nll", "brier", "ece", "prr", "misclassification_auroc", "misclassification_aupr"]
    names += ["knowledge_rank_correlation", "knowledge_mean_ratio", "ood_auroc_total", "ood_aupr_epkl", "ood_fpr95_mkl"]
    values = {("end2", name, "test"): 0.5 for name in names}
    own = {"error": "Ours."}
    found = tables.definitions(_evaluation(tmp_path, values, num_bins=20, definitions=own))
    assert len(found) == len(names)
    assert all(sentence and unit for _, sentence, unit in found)
    sentences = {label: sentence for label, sentence, _ in found}
    assert sentences["Error"] == "Ours."
    assert "Number of bins here: 20." in sentences["ECE"]


def test_headline_leaves_out_ood_sets_that_are_shifted_sets(tmp_path: Path):
    values = _knowing(0.9, 0.95, 0.94) | {
        ("end2_aux", "ood_auroc_knowledge", "jpeg"): 0.5,
        ("ensemble", "ood_auroc_knowledge", "jpeg"): 0.5,
        ("end2_aux", "error", "jpeg"): 0.05,
    }
    second = tables.headline(_evaluation(tmp_path, values))[1].replace("\xa0", " ")
    assert "95.0 % against 94.0 %" in second
    assert "(ring)" in second


def test_shifted_sets_stand_beside_the_test_set(tmp_path: Path):
    assert tables.shifted(_evaluation(tmp_path, ERRORS)) == ([], [])
    values = ERRORS | {
        ("end2_aux", "error", "fog"): 0.2,
        ("ensemble", "error", "fog"): 0.15,
        ("ensemble", "knowledge_mean", "fog"): 0.03,
        ("ensemble", "ood_auroc_total", "fog"): 0.9,
    }
    evaluation = _evaluation(tmp_path, values)
    heads, lines = tables.shifted(evaluation)
    assert list(dict.fromkeys(head.group for head in heads)) == ["test", "fog"]
    assert [head.metric for head in heads[4:]] == ["error", "nll", "ece", "knowledge_mean"]
    assert [line.label for line in lines] == ["Ensemble of 10", "EnD² + AUX"]  # a single member has no row there
    assert [cell.text for cell in lines[0].cells] == ["3.92", "–", "–", "–", "15.00", "–", "–", "0.0300"]
    assert "Knowledge mean" in [label for label, _, _ in tables.definitions(evaluation)]


def test_what_was_measured_on_validation_says_so(tmp_path: Path):
    values = {
        (m, metric, "validation" if d == "test" else d): v for (m, metric, d), v in _knowing(0.9, 0.9, 0.9).items()
    }
    evaluation = _evaluation(tmp_path, values, split="validation")
    text = " ".join(tables.headline(evaluation)).replace("\xa0", " ")
    assert "gets 4.93 % of the validation inputs wrong" in text
    assert "ranks validation inputs much like" in text
    assert "tells validation inputs from OOD inputs (ring)" in text
    assert "test" not in text
    assert [c.dataset for c in tables.columns(evaluation)] == ["validation", "validation", "ring"]
    assert evaluation.shifted_names == []
