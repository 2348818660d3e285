"""What all benchmarks share."""

from __future__ import annotations

import csv
import json
import time

import pytest
import timing

from end2_tf.errors import ConfigError


def test_calls_take_turns_and_whoever_went_first_goes_last():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b") or time.sleep(0.002)}
    times = timing.in_turns(calls, repetitions=3, seconds=0.0)
    assert "".join(order[-6:]) == "abbaab"
    assert [len(values) for values in times.values()] == [3, 3]
    assert min(times["b"]) >= 0.002 > min(times["a"])


def test_a_short_call_is_made_often_enough():
    made = []
    times = timing.in_turns({"short": lambda: made.append(0) or time.sleep(0.001)}, repetitions=2, seconds=0.02)
    assert len(made) > 2 * 15
    assert all(0.001 <= value < 0.01 for value in times["short"])


@pytest.mark.parametrize(
    ("target", "is_lower_better", "met"),
    [(2.0, False, True), (2.1, False, False), (2.0, True, True), (1.9, True, False)],
)
def test_a_target_is_for_the_median(target, is_lower_better, met):
    row = timing.Row("b", "ratio", "×", (1.0, 2.0, 9.0), target, is_lower_better)
    assert row.is_met is met
    line = next(line for line in timing.table([row]).splitlines() if line.startswith("ratio"))
    assert "2.00 (1.00–9.00)" in line
    assert line.endswith("met" if met else "missed")


@pytest.mark.parametrize(
    ("median", "shown"),
    [(1.5004, "1.5004 (1"), (1.4996, "1.50 (1"), (12.34, "12.3 (12"), (0.1234, "0.123 (0"), (1234.5, "1,234 (1")],
)
def test_digits_tell_on_which_side_of_the_target_a_median_is(median, shown):
    row = timing.Row("b", "ratio", "×", (median,), target=1.5, is_lower_better=True)
    assert shown in timing.table([row])


def test_rows_are_written_with_what_they_were_measured_on(tmp_path, capsys):
    rows = [timing.Row("b", "time", "ms", (12.345,)), timing.Row("b", "share", "%", (50.0, 51.0, 52.0), 40, True)]
    path = tmp_path / "rows.json"
    assert timing.main("A try.", lambda quick: rows, ["--quick", f"--rows={path}"]) == 0
    assert "12.3 (12.3–12.3)" in capsys.readouterr().out
    timing.write_csv(json.loads(path.read_text()), tmp_path / "results.csv")
    with open(tmp_path / "results.csv", encoding="utf-8") as file:
        time_row, share = csv.DictReader(file)
    assert time_row["met"] == time_row["target"] == ""
    assert (share["median"], share["low"], share["high"], share["n"]) == ("51", "50", "52", "3")
    assert (share["target"], share["met"]) == ("<= 40", "no")
    assert "tensorflow" in share["versions"]
    assert "core" in share["processor"]


def test_a_users_mistake_is_one_line(capsys):
    def refused(quick):
        raise ConfigError("quick is 3. Allowed: yes or no.")

    assert timing.main("A try.", refused, []) == ConfigError.exit_code
    assert capsys.readouterr().err == "error: quick is 3. Allowed: yes or no.\n"
