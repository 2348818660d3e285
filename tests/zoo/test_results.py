"""results.csv and tables, without any model."""

import pytest

from end2_tf.zoo import results
from end2_tf.zoo.results import Results


def _row(entry, dataset, metric, mean, sd="", n="1"):
    return dict(zip(results.COLUMNS, (entry, dataset, metric, mean, sd, n, "python main.py", "abc"), strict=True))


def test_rows_are_replaced_by_entry(tmp_path):
    old = [
        _row("a_b_end", "test", "error", "0.5"),
        _row("a_b_end", "test", "ece", "0.1"),
        _row("c_d_end", "t", "m", "1"),
    ]
    new = [_row("a_b_end", "test", "error", "0.25")]
    found = results.merged(old, new, ["a_b_end"])
    assert found == [new[0], old[2]]  # what the entry no longer has is gone
    (tmp_path / "results.csv").write_text(results.to_csv(found))
    assert results.read(tmp_path / "results.csv") == found
    assert results.read(tmp_path / "none.csv") == []


def test_commands_with_commas_survive(tmp_path):
    row = _row("a_b_end", "test", "error", "0.5") | {"command": "python main.py --set 'student.methods=end,end2'"}
    (tmp_path / "r.csv").write_text(results.to_csv([row]))
    assert results.read(tmp_path / "r.csv") == [row]


def test_entries_are_in_the_order_of_comparison():
    methods = ["end2_aux", "ensemble", "end", "single", "end2_nll", "single_matched", "mine", "end2"]
    names = [f"x_y_{m}" for m in methods]
    order = sorted([*names, "a_b_end2"], key=results.sort_key)
    wanted = ("single", "single_matched", "ensemble", "end", "end2_nll", "end2", "end2_aux", "mine")
    assert order == ["a_b_end2", *(f"x_y_{m}" for m in wanted)]


def test_cells_are_mean_spread_and_number():
    rows = [
        _row("e", "test", "error", "0.0952", "0.0007", "3"),
        _row("e", "test", "nll", "0.3424"),
        _row("e", "test", "prr", ""),
        _row("e", "far", "ood_auroc_total", "0.815", "0.01", "3"),
        _row("e", "rotated", "error", "0.2"),
        _row("other", "test", "error", "0.9"),
    ]
    found = Results(rows, {"e": "[mine](e)"})
    assert found.test() == [
        ["model", "error %", "NLL", "ECE %", "PRR", "rank corr."],
        ["[mine](e)", "9.52 ± 0.07 (3)", "0.342", "–", "–", "–"],
    ]
    assert found.detection() == [["model", "far, total", "far, knowledge"], ["[mine](e)", "81.5 ± 1.0 (3)", "–"]]
    assert found.shifted() == [["model", "rotated"], ["[mine](e)", "20.0"]]
    assert Results(rows[:1], {"e": "e"}).detection() == Results(rows[:1], {"e": "e"}).shifted() == []


@pytest.mark.parametrize(("text", "ruler"), [((0,), "|---|--:|"), ((0, 1), "|---|---|")])
def test_markdown(text, ruler):
    assert results.markdown([["a", "b"], ["x|y", "1"]], text).splitlines() == ["| a | b |", ruler, "| x/y | 1 |"]
