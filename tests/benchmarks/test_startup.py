from __future__ import annotations

import pytest
import startup
import timing

from end2_tf.errors import End2Error


@pytest.mark.slow
def test_answers_are_timed_and_have_a_limit():
    rows = {row.what: row for row in startup.measure(quick=True)}
    answers = [f"main.py, {what}" for what in ("--help", "--list", "an unknown flag", "an unknown experiment")]
    assert list(rows) == [*answers, "import end2_tf"]
    assert all(len(row.values) == 2 and min(row.values) > 0 for row in rows.values())
    assert all(rows[what].target == 0.5 and rows[what].is_lower_better for what in answers)


def test_imports_are_compared_with_tensorflows_of_the_same_turn(monkeypatch):
    seconds = {startup.THEIRS: [4.0, 8.0], "import end2_tf": [1.0, 1.0]}
    seconds[f"import end2_tf; {startup.THEIRS}"] = [4.0, 10.0]
    monkeypatch.setattr(startup, "check", lambda flag, code: None)
    monkeypatch.setattr(timing, "in_turns", lambda calls, *args, **kwargs: {n: seconds.get(n, [0.2]) for n in calls})
    rows = {row.what: row for row in startup.measure(quick=False)}
    light, whole = (rows[f"{code} / {startup.THEIRS}"] for code in startup.OURS)
    assert (light.values, light.is_met) == ((0.25, 0.125), True)
    assert (whole.values, whole.is_met) == ((1.0, 1.25), False)


def test_an_answer_that_imports_tensorflow_is_refused(tmp_path, monkeypatch):
    (tmp_path / "end2_tf").mkdir()
    for name in ("end2_tf/__init__.py", "end2_tf/cli.py", "keras.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "main.py").write_text("import end2_tf.cli, keras")
    monkeypatch.setattr(startup, "ROOT", tmp_path)
    with pytest.raises(End2Error, match="imports keras"):
        startup.check("--help", 0)


def test_another_exit_code_is_refused():
    with pytest.raises(End2Error, match=r"ended with 3. Allowed: 0. It says: no luck"):
        startup.run(["-c", "import sys; sys.stderr.write('no luck'); sys.exit(3)"])
