from __future__ import annotations

import csv
import io

import pytest

from end2_tf import study_tables
from end2_tf.grid import COLUMNS


def results(values, *, methods=("end2_aux",), taught=None, num_seeds=1, epochs=100, **numbers):
    rows = [
        {"model": model, "dataset": dataset, "metric": metric, "value": v[0], "sd": v[1], "n": v[2]}
        for (model, dataset, metric), v in values.items()
    ]
    student = {"methods": list(methods), "num_seeds": num_seeds, "epochs": epochs}
    return {
        "rows": rows,
        "num_members": 20,
        "counts": {"validation": 5000, "ring": 2000},
        "config": {"student": student, "transfer": {"num_members": taught}},
        **numbers,
    }


ENSEMBLE = {
    ("single", "validation", "error"): (0.1, 0.001, 20),
    ("ensemble", "validation", "error"): (0.0951, None, 1),
    ("ensemble", "ring", "ood_auroc_knowledge"): (0.9, None, 1),
}
STUDENT = {
    ("end2_aux", "validation", "error"): (0.09524, 0.00123, 3),
    ("end2_aux", "validation", "kl_to_ensemble"): (0.01234, 0.0002, 3),
    ("end2_aux", "validation", "nll"): (None, None, 1),
    ("end2_aux", "ring", "ood_auroc_knowledge"): (0.8876, 0.01, 3),
    ("end2_aux", "ring", "ood_fpr95_total"): (0.5, 0.01, 3),
}


@pytest.fixture
def lines():
    first = results(ENSEMBLE | STUDENT, num_seeds=3)
    second = results(
        ENSEMBLE
        | {("end", "validation", "error"): (0.1, None, 1), ("end2", "validation", "error"): (0.2, None, 1)}
        | {("teacher", "validation", "error"): (0.097, None, 1)},
        methods=("end", "end2"),
        taught=5,
        epochs=50,
    )
    third = results(ENSEMBLE | STUDENT | {("teacher", "validation", "error"): (0.097, None, 1)}, taught=5)
    return study_tables.lines({"as | is": first, "few": second, "again": third}, dict.fromkeys("abc", "e"))


@pytest.fixture(autouse=True)
def _labels(monkeypatch):
    original = study_tables.lines
    monkeypatch.setattr(
        study_tables,
        "lines",
        lambda found, ensembles: original(found, dict(zip(found, ensembles.values(), strict=True))),
    )


def test_the_ensemble_and_its_members_stand_first_and_a_teacher_before_its_students(lines):
    assert [line.label for line in lines] == [
        "ensemble of 20",
        "one member",
        "as | is",
        "ensemble of the first 5",
        "few: end",
        "few: end2",
        "again",
    ]
    assert [(line.variant, line.model) for line in lines][:4] == [
        ("", "ensemble"),
        ("", "single"),
        ("as | is", "end2_aux"),
        ("few", "teacher"),
    ]


def test_ensembles_that_differ_stand_before_their_students():
    found = study_tables.lines({"a": results(ENSEMBLE), "b": results(ENSEMBLE)}, {"a": "1", "b": "2"})
    assert [line.label for line in found] == ["ensemble of 20, a", "a", "ensemble of 20, b", "b"]
    assert [line.variant for line in found] == ["a", "a", "b", "b"]


def test_without_students_members_are_compared():
    found = study_tables.lines(
        {"a": results(ENSEMBLE, methods=()), "b": results(ENSEMBLE, methods=())}, {"a": "1", "b": "2"}
    )
    assert [line.label for line in found] == [
        "ensemble of 20, a",
        "one member, a",
        "ensemble of 20, b",
        "one member, b",
    ]
    assert study_tables.in_domain(found, ("error",))[2] == ["one member, a", "10.00 ± 0.10 (20)"]
    text = study_tables.protocol(found, "spirals", ())
    assert "`spirals`: 20 members. Measured" in text
    assert "over members (n)" in text


def test_tables_are_mean_spread_and_n(lines):
    table = study_tables.in_domain(lines, COLUMNS)
    assert table[0] == ["variant", "error %", "NLL", "KL", "PRR", "ECE %", "rank corr.", "knowledge ratio"]
    assert table[1][:4] == ["ensemble of 20", "9.51", "–", "–"]
    assert table[2][:4] == ["one member", "10.00 ± 0.10 (20)", "–", "–"]
    assert table[3][:4] == ["as | is", "9.52 ± 0.12 (3)", "–", "0.0123 ± 0.0002 (3)"]
    assert {len(line) for line in table} == {8}
    (ood,) = study_tables.detection(lines, (*COLUMNS, "ood_fpr95_total"))
    assert ood[0] == ["variant", "ring, total", "ring, knowledge", "ring, fpr95 total"]
    assert ood[3] == ["as | is", "–", "88.8 ± 1.0 (3)", "50.0 ± 1.0 (3)"]
    assert study_tables.detection(lines, ("error",)) == []


def test_csv_has_every_number_once(lines):
    found = list(csv.DictReader(io.StringIO(study_tables.to_csv(lines))))
    assert tuple(found[0]) == ("variant", "method", "dataset", "metric", "mean", "sd", "n")
    assert found[0] == {
        "variant": "",
        "method": "ensemble",
        "dataset": "validation",
        "metric": "error",
        "mean": "0.0951",
        "sd": "",
        "n": "1",
    }
    assert [r["mean"] for r in found if (r["variant"], r["metric"]) == ("as | is", "nll")] == [""]
    assert len(found) == 2 + 1 + 5 + 1 + 1 + 1 + 5
    fewer = list(csv.DictReader(io.StringIO(study_tables.to_csv(lines, ("error", "ood_auroc_knowledge")))))
    assert fewer == [r for r in found if not r["metric"].startswith("ood_") or r["metric"] == "ood_auroc_knowledge"]
    assert 0 < len(fewer) < len(found)


def test_protocol_says_what_was_done(lines):
    text = study_tables.protocol(lines, "spirals", ("end2_aux",))
    assert (
        "`spirals`: 20 members, students by `end2_aux` unless a line says otherwise, 50 to 100 epochs, 1 to 3" in text
    )
    assert "`end2_aux`" in study_tables.protocol(lines, "spirals", ("end3",))  # the first variant's
    assert "students by the method that a line names, 50 to 100" in study_tables.protocol(lines, "spirals", ())
    assert "Measured on 5,000 validation inputs, told from ring 2,000." in text


def test_protocol_knows_epochs_of_single_methods():
    found = results(ENSEMBLE, methods=("end2_aux", "prior_network"), epochs=90)
    found["config"]["methods"] = {"end2_aux": {"epochs": None}, "prior_network": {"epochs": 45}}
    assert ", 45 to 90 epochs" in study_tables.protocol(study_tables.lines({"a": found}, {"a": "1"}), "spirals", ())


def test_changes_are_as_on_the_command_line():
    assert list(study_tables.changes({"a": {}, "b": {"data.auxiliary": {"name": "mnist"}, "student.epochs": 3}})) == [
        "- a: the experiment as it is",
        '- b: `data.auxiliary={"name": "mnist"}`, `student.epochs=3`',
    ]


def test_legend_explains_the_columns_that_are_there():
    assert "AUROC" not in study_tables.legend(("error", "prr"))
    assert study_tables.legend(("error",)) == ""
    assert study_tables.legend(COLUMNS).count(":") >= 4
    assert study_tables.legend(("ood_auroc_total", "ood_auroc_epkl", "ood_auroc_max_prob")).endswith(
        "by total uncertainty, epkl (expected pairwise KL) and max prob (maximum probability)."
    )
