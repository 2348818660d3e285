"""All benchmarks, one after the other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import run
import timing

ROWS = {
    "startup": [
        timing.Row("startup", "help", "s", (0.3, 0.4, 0.2), 0.5, True),
        timing.Row("startup", "more", "s", (1,)),
    ],
    "stacked": [timing.Row("stacked", "ours / theirs", "×", (1.5, 1.6, 1.7), 1.8)],
    "growth": [
        timing.Row("growth", "time of a thing against classes", "exponent", (0.8,), 1.1, True),
        timing.Row("growth", "time of a thing against members", "exponent", (1.2,), 1.1, True),
    ],
    "gpu": [timing.Row("gpu", "a step (some GPU)", "ms", (2.0, 3.0, 4.0))],
}


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Lets scripts answer at once, and files be elsewhere."""
    names = []

    def start(command):
        name = Path(command[1]).stem
        names.append(name)
        target = next(part for part in command if part.startswith("--rows=")).removeprefix("--rows=")
        Path(target).write_text(json.dumps(timing.to_csv(ROWS.get(name, []))))
        return 0 if name in ROWS else 1

    monkeypatch.setattr(run, "_start", start)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(run, "README", tmp_path / "README.md")
    run.README.write_text("a\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\nb\n")
    return names


def test_every_benchmark_is_a_script_with_rows():
    for name in run.BENCHMARKS:
        assert "timing.main(" in (run.HERE / f"{name}.py").read_text(encoding="utf-8"), name


def test_rows_of_all_are_written_and_shown(started):
    assert run.main(["--only=startup,stacked"]) == 0
    assert started == ["startup", "stacked"]
    with open(run.RESULTS, encoding="utf-8") as file:
        assert [row["what"] for row in csv.DictReader(file)] == ["help", "more", "ours / theirs"]
    page = run.README.read_text()
    assert page.startswith("a\n")
    assert page.endswith("b\n")
    assert "old" not in page
    assert "| `startup` | help | 0.300 (0.200–0.400; 3) s | ≤ 0.5 | met |" in page
    assert "| `stacked` | ours / theirs | 1.60 (1.50–1.70; 3) × | ≥ 1.8 | missed |" in page
    assert "more" not in page
    assert run.main(["--only=startup"]) == 0  # the other's rows stay
    assert "ours / theirs" in run.README.read_text()


def test_what_was_measured_is_kept_where_a_later_one_is_interrupted(started, monkeypatch):
    start = run._start

    def interrupted(command):
        if Path(command[1]).stem == "stacked":
            raise KeyboardInterrupt
        return start(command)

    monkeypatch.setattr(run, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.main(["--only=startup,stacked"])
    assert "| `startup` | help |" in run.README.read_text()


def test_one_that_fails_is_named_and_a_try_writes_nothing(started, capsys):
    assert run.main(["--only=startup,measures", "--quick"]) == 1
    assert "failed: measures." in capsys.readouterr().err
    assert not run.RESULTS.exists()
    assert run.main(["--only=statup"]) == 2
    assert "--only has 'statup'. Allowed: startup, " in capsys.readouterr().err


def test_a_gpus_rows_are_a_table_of_their_own_and_only_made_when_asked_for(started):
    assert run.main(["--only=gpu"]) == 0
    assert "| some GPU | median (range; n) |" in run.README.read_text()
    assert "| a step | 3.00 (2.00–4.00; 3) ms |" in run.README.read_text()
    assert "target" not in run.README.read_text()
    assert run.main(["--only=startup"]) == 0
    text = run.README.read_text()
    assert text.index("| `startup` | help |") < text.index("| a step |")
    assert "gpu" in {row["benchmark"] for row in csv.DictReader(run.RESULTS.read_text().splitlines())}
    assert run.GPU not in run.BENCHMARKS


def test_exponents_are_told_in_a_sentence(started):
    assert run.main(["--only=growth"]) == 0
    text = run.README.read_text()
    assert "1 of 2 exponents at most 1.1, the largest 1.2, of time of a thing against members." in " ".join(
        text.split()
    )
    assert "|" not in text


@pytest.mark.parametrize(
    ("value", "expected"), [(0.063921, "0.0639"), (1.0566, "1.06"), (45.61, "45.6"), (1234.5, "1,234"), (0, "0")]
)
def test_three_digits(value, expected):
    assert run._rounded(value) == expected
