"""Where a run's seconds go: the parts are those between the lines it prints, and make up the whole."""

from __future__ import annotations

import pipeline
import pytest

from end2_tf import registry

SAID = [
    (1.0, "spirals_mlp_end2 in runs/x\n"),
    (6.0, "data      train 2,700 examples\n"),
    (6.5, "          mixed_precision is asked for\n"),
    (16.0, "ensemble  10 s       runs/x/ensemble: 100 members\n"),
    (17.0, "transfer  1 s        runs/x/transfer\n"),
    (37.0, "student   20 s       runs/x/student: 7 students\n"),
    (38.0, "evaluate  1 s        runs/x\n"),
    (40.0, "report    2 s        runs/x\n"),
    (40.1, "\n"),
    (40.1, "ensemble  of the table of results\n"),
]


def test_lines_end_parts():
    assert pipeline.ends(SAID) == {
        "start": 1.0,
        "data": 6.0,
        "ensemble": 16.0,
        "transfer": 17.0,
        "student": 37.0,
        "evaluate": 38.0,
        "report": 40.0,
    }
    assert pipeline.STAGES == registry.STAGES


def test_parts_make_up_the_whole():
    moments = pipeline.ends(SAID) | {"exit": 40.5}
    rows = {row.what: row.median for row in pipeline.rows(moments, 3.0, {"members": 8.0, "students": 7.0})}
    names = ["start and import", "data", *pipeline.STAGES, "exit"]
    assert [rows[name] for name in names] == [4.0, 2.0, 10.0, 1.0, 20.0, 1.0, 2.0, 0.5]
    assert rows["all"] == sum(rows[name] for name in names)
    assert sum(rows[f"{name}, of all"] for name in names) == pytest.approx(100)
    assert rows["all / steps alone"] == pytest.approx(40.5 / 15)


def test_a_run_that_fails_is_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "EXPERIMENT", "nothing")
    with pytest.raises(SystemExit, match="the run failed with exit code 2"):
        pipeline.run(tmp_path, quick=True)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["members", "students"])
def test_pure_steps_are_measured_in_a_process_of_their_own(what):
    assert 0 < pipeline._child(what, quick=True) < 600
