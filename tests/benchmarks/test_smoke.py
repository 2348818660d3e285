from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from end2_tf import registry

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "smoke.py"


@pytest.fixture(scope="module")
def smoke():
    spec = importlib.util.spec_from_file_location("smoke_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def _results(errors, num_members=2):
    rows = [{"model": m, "dataset": "test", "metric": "error", "value": e} for m, e in errors.items()]
    shifted = {"model": "end2", "dataset": "fog", "metric": "error", "value": 0.9}
    return {"rows": [shifted, *rows], "num_members": num_members}


def _fake(code):
    """Returns a command that does what the text says with `folder`, the workdir it was given."""
    start = "import sys, json; folder = next(a for a in sys.argv if a.startswith('--workdir=')).partition('=')[2]\n"
    return [sys.executable, "-c", start + code]


@pytest.mark.parametrize(
    ("errors", "num_members", "expected"),
    [
        ({"single": 0.3, "ensemble": 0.2, "end": 0.25, "end2_nll": 0.22}, 2, ("end2_nll", 0.22)),
        ({"single": 0.3, "ensemble": 0.2, "single_matched": 0.1}, 2, ("ensemble", 0.2)),
        ({"single": 0.3, "ensemble": 0.3}, 1, ("single", 0.3)),
        ({"end2_aux": None}, 2, ("end2_aux", None)),
    ],
)
def test_one_number_of_each(smoke, errors, num_members, expected):
    assert smoke.test_error(_results(errors, num_members)) == expected


def test_a_pattern_chooses(smoke):
    names = ["b_end2", "a_end", "b_end"]
    assert smoke.chosen(names, "b_*") == ["b_end", "b_end2"]
    assert smoke.chosen(names, "*") == sorted(names)


def test_data_that_are_not_there_skip_an_experiment(smoke, tmp_path):
    experiments = registry.experiments()
    outcome = smoke.run("cifar10_vgg16", experiments["cifar10_vgg16"], str(tmp_path), ["never started"])
    assert outcome.state == "skipped"
    assert "'cifar10' isn't in" in outcome.reason
    assert smoke.missing(experiments["spirals_mlp_end2"], str(tmp_path)) == ""
    assert "data.path" in smoke.missing(experiments["own_data_end2"], None)


def test_what_ran_and_what_failed(smoke):
    experiment = registry.experiments()["spirals_mlp_end2"]
    written = f"open(folder + '/results.json', 'w').write(json.dumps({_results({'end2': 0.125})}))"
    ran = smoke.run("a", experiment, None, _fake(written))
    assert (ran.state, ran.model, ran.error) == ("ran", "end2", 0.125)
    failed = smoke.run("b", experiment, None, _fake("sys.stderr.write('first\\nerror: no room\\n'); sys.exit(3)"))
    assert (failed.state, failed.reason) == ("failed", "exit 3: error: no room")
    skipped = smoke.Outcome("c", "skipped", reason="no data")
    *lines, empty, first, second = smoke.table([ran, failed, skipped]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "ran", f"{ran.seconds:.0f}", "end2", "12.5"],
        ["b", "failed", f"{failed.seconds:.0f}"],
        ["c", "skipped"],
    ]
    assert (empty, first, second) == ("", "b failed: exit 3: error: no room", "c skipped: no data")


@pytest.mark.parametrize(("state", "code"), [("ran", 0), ("skipped", 0), ("failed", 1)])
def test_only_a_failure_is_one(smoke, monkeypatch, state, code):
    said = []
    monkeypatch.setattr(smoke, "run", lambda name, *_: smoke.Outcome(name, state if name.endswith("end2") else "ran"))
    assert smoke.main(["--only=spirals_*"], said.append) == code
    assert said[0] == f"spirals_mlp_end2: {state} (1 of 1)"


def test_a_pattern_that_matches_nothing(smoke):
    said = []
    assert smoke.main(["--only=nothing"], said.append) == 2
    assert said[0].startswith("--only is 'nothing', which matches no experiment: cifar")
