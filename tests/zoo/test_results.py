"""results.csv and tables, without any model."""

import pytest

from end2_tf.errors import ZooError
from end2_tf.zoo import results
from end2_tf.zoo.results import Results


def _row(entry, dataset, metric, mean, sd="", n="1"):
    return dict(zip(results.COLUMNS, (entry, dataset, metric, mean, sd, n, "python main.py", "abc"), strict=True))


def test_rows_are_in_the_order_of_entries_and_read_as_written(tmp_path):
    rows = [
        _row("c_d_end", "t", "m", "1"),
        _row("a_b_end", "test", "error", "0.5"),
        _row("a_b_end", "test", "ece", "0.1"),
        _row("a_b_single", "test", "ece", "0.1"),
    ]
    found = results.in_order(rows)
    assert found == [rows[3], rows[1], rows[2], rows[0]]
    (tmp_path / "results.csv").write_text(results.to_csv(found))
    assert results.read(tmp_path / "results.csv") == found
    assert results.read(tmp_path / "none.csv") == []


def test_what_cannot_be_read_is_said_not_to_be_readable(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    path.write_bytes(b"entry,\xff")
    with pytest.raises(ZooError, match=r"results.csv is no text in UTF-8 .* Restore or delete it"):
        results.read(path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ZooError, match=r"results.csv can't be read: Permission denied"):
        results.read(path)


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
    assert found.shifted() == [["model", "rotated, error %"], ["[mine](e)", "20.0"]]
    assert Results(rows[:1], {"e": "e"}).detection() == Results(rows[:1], {"e": "e"}).shifted() == []


def test_a_set_that_is_ood_and_shifted_is_a_control():
    rows = [
        _row("e", "jpeg", "ood_auroc_total", "0.51"),
        _row("e", "far", "ood_auroc_total", "0.815"),
        _row("e", "jpeg", "error", "0.2"),
        _row("e", "test", "error", "0.1"),
    ]
    found = Results(rows, {"e": "e"})
    assert (found.ood, found.controls) == (["far"], ["jpeg"])
    heading, line = found.detection()
    assert heading == ["model", "far, total", "far, knowledge", "jpeg (control), total", "jpeg (control), knowledge"]
    assert line == ["e", "81.5", "–", "51.0", "–"]


@pytest.mark.parametrize(("text", "ruler"), [((0,), "|---|--:|"), ((0, 1), "|---|---|")])
def test_markdown(text, ruler):
    assert results.markdown([["a", "b"], ["x|y", "1"]], text).splitlines() == ["| a | b |", ruler, "| x/y | 1 |"]
