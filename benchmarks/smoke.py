"""Runs every experiment as --smoke: which work here, how long they take, and one number of each.

    python benchmarks/smoke.py --data_dir=DIR [--only='cifar10_*']

One after another, each in a process and a workdir of its own. Experiments whose data aren't in DIR are skipped, with
the reason; the exit code is 1 if one of the others failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from end2_tf import config, registry, tables, workdir
from end2_tf.config import Experiment
from end2_tf.data import dataset
from end2_tf.errors import DataError, End2Error

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("end2_aux", "end2", "end2_nll_aux", "end2_nll", "end_aux", "end", "prior_network", "ensemble")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one experiment: `ran`, `skipped` or `failed`, why not, and the test error of one model."""

    name: str
    state: str
    seconds: float = 0.0
    model: str = ""
    error: float | None = None
    reason: str = ""


def chosen(experiments: Iterable[str], pattern: str) -> list[str]:
    """Returns the names that a pattern of the shell matches, in alphabetical order."""
    return sorted(name for name in experiments if fnmatch.fnmatchcase(name, pattern))


def missing(experiment: Experiment, data_dir: str | None) -> str:
    """Returns what keeps an experiment's small version from finding its data; nothing if they are there."""
    try:
        dataset.fingerprint(config.override(experiment, experiment.smoke).data, data_dir=data_dir)
    except DataError as error:
        return str(error)
    except End2Error:  # the run will say so itself
        return ""
    return ""


def test_error(results: dict[str, Any]) -> tuple[str, float | None]:
    """Returns the model that a reader of a run looks at first, and its error on the test set, a share."""
    errors = {r["model"]: r["value"] for r in results["rows"] if (r["metric"], r["dataset"]) == ("error", "test")}
    there = tables.without_lone_member(list(errors), results["num_members"])
    model = next((name for name in (*SHOWN, *there) if name in there), "")
    return model, errors.get(model)


def run(name: str, experiment: Experiment, data_dir: str | None, command: Sequence[str]) -> Outcome:
    """Runs one experiment in a temporary workdir, unless its data aren't there."""
    reason = missing(experiment, data_dir)
    if reason:
        return Outcome(name, "skipped", reason=reason)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"--experiment={name}", "--smoke", f"--workdir={folder}", "--quiet"]
        arguments += [f"--data_dir={data_dir}"] if data_dir else []
        started = time.monotonic()
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
            return Outcome(name, "failed", seconds, reason=f"exit {done.returncode}: {said[-1]}")
        model, error = test_error(workdir.read_json(Path(folder) / "results.json"))
    return Outcome(name, "ran", seconds, model, error)


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the outcomes as a table, then the reasons of those that didn't run."""
    lines = [["experiment", "", "seconds", "model", "test error %"]]
    for each in outcomes:
        seconds = "" if each.state == "skipped" else f"{each.seconds:.0f}"
        error = "" if each.state != "ran" else "–" if each.error is None else f"{100 * each.error:.1f}"
        lines.append([each.name, each.state, seconds, each.model, error])
    reasons = [f"{each.name} {each.state}: {each.reason}" for each in outcomes if each.reason]
    return "\n".join([*tables.aligned(lines, text=(0, 1, 3)), *([""] if reasons else []), *reasons])


def main(arguments: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Runs the experiments that the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="where TFDS keeps its data; its own default otherwise")
    parser.add_argument("--only", default="*", help="a pattern of names, for instance 'cifar10_*'")
    given = parser.parse_args(arguments)
    experiments = registry.experiments()
    names = chosen(experiments, given.only)
    if not names:
        say(f"--only is {given.only!r}, which matches no experiment: {', '.join(sorted(experiments))}")
        return 2
    outcomes = []
    for name in names:
        outcomes.append(run(name, experiments[name], given.data_dir, [sys.executable, "main.py"]))
        say(f"{name}: {outcomes[-1].state} ({len(outcomes)} of {len(names)})")
    say("\n" + table(outcomes))
    return int(any(each.state == "failed" for each in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
