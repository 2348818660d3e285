import math

from end2_tf import tables


def _row(model, metric, value, dataset="test", sd=None, n=1):
    return {"model": model, "dataset": dataset, "metric": metric, "value": value, "sd": sd, "n": n}


RESULTS = {
    "rows": [
        _row("ensemble", "error", 0.1321),
        _row("single", "error", 0.1352, sd=0.0021, n=100),
        _row("single", "ood_auroc_total", 0.769, "ring"),
        _row("end2", "error", 0.13, n=3),
        _row("end2", "nll", None),
        _row("end2", "ood_auroc_total", 0.998, "ring"),
        _row("end2", "ood_auroc_knowledge", 1.0, "ring"),
        _row("mine", "error", 0.2),
    ],
    "gap_closed": [
        {"model": "end2", "metric": "error", "value": 0.98},
        {"model": "end2", "metric": "nll", "value": None},
    ],
    "counts": {"test": 30000, "ring": 10000},
}


def test_csv_has_the_promised_columns_and_empty_cells_for_what_is_undefined():
    lines = tables.rows_csv([*RESULTS["rows"], _row("x", "prr", math.nan)]).splitlines()
    assert lines[0] == "model,dataset,metric,value,sd,n"
    assert lines[2] == "single,test,error,0.1352,0.0021,100"
    assert lines[5] == "end2,test,nll,,,1"
    assert lines[-1] == "x,test,prr,,,1"


def test_cells_are_per_cent_with_spread_and_models_in_reading_order():
    heading, *lines = tables.cells(RESULTS)
    by_model = {line[0]: dict(zip(heading, line, strict=True)) for line in lines}
    assert list(by_model) == ["single", "ensemble", "end2", "mine"]
    assert by_model["single"]["error %"] == "13.52 ±0.21"
    assert by_model["single"]["n"] == "100"
    assert by_model["single"]["ring"] == "76.9 / –"
    assert by_model["end2"]["ring"] == "99.8 / 100.0"
    assert by_model["end2"]["NLL"] == "–"
    assert by_model["end2"]["gap closed %"] == "98 / –"
    assert by_model["ensemble"]["gap closed %"] == ""


def test_an_ensemble_of_one_member_is_that_member_unless_students_learn_from_it():
    alone = {**RESULTS, "rows": RESULTS["rows"][:2], "gap_closed": [], "num_members": 1}
    assert [line[0] for line in tables.cells(alone)[1:]] == ["single"]
    assert [line[0] for line in tables.cells({**alone, "num_members": 2})[1:]] == ["single", "ensemble"]
    assert "ensemble" in [line[0] for line in tables.cells({**RESULTS, "num_members": 1})]


def test_tables_of_what_was_measured_on_validation():
    moved = [r | {"dataset": "validation"} if r["dataset"] == "test" else r for r in RESULTS["rows"]]
    results = RESULTS | {"rows": moved, "split": "validation", "counts": {"validation": 500, "ring": 10000}}
    assert tables.cells(results) == tables.cells(RESULTS)
    assert tables.shifted_cells(results) == []
    assert "ring: AUROC % against validation" in tables.summary(results)


def test_shifted_sets_have_a_table_of_their_own():
    assert tables.shifted_cells(RESULTS) == []
    rows = [_row("end2", "error", 0.3, "fog"), _row("end2", "nll", 0.9, "fog"), _row("ensemble", "error", 0.2, "fog")]
    results = RESULTS | {"rows": RESULTS["rows"] + rows}
    assert tables.shifted_cells(results) == [
        ["error % / NLL on", "ensemble", "end2"],
        ["test", "13.2 / –", "13.0 / –"],
        ["fog", "20.0 / –", "30.0 / 0.90"],
    ]
    assert tables.cells(results) == tables.cells(RESULTS)
    assert "fog               20.0 / –" in tables.summary(results)


def test_summary_is_aligned_and_says_how_many_examples():
    text = tables.summary(RESULTS)
    assert "test 30,000, ring 10,000" in text
    table = text.splitlines()[:6]
    assert len({len(line) for line in table}) == 1
