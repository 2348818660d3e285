"""What all benchmarks share: taking turns, medians and ranges, rows of results.csv.

A benchmark is a script beside this one that answers one question in `Row`s, prints them, and with `--rows=FILE` writes
them, for `benchmarks/run.py`. Ratios are of things that took turns in one run; absolute times are of one machine.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from end2_tf import stages, tables
from end2_tf.errors import End2Error, ModelError

REPETITIONS = 7
SECONDS = 0.5  # a repetition at least: a single call would drown in the system's noise
COLUMNS = ("benchmark", "what", "unit", "median", "low", "high", "n", "target", "met", "processor", "versions")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured quantity: a number a repetition.

    Attributes:
        benchmark: The script's name.
        what: The quantity, in words.
        unit: Of the values; × for a ratio.
        values: A number a repetition.
        target: The value to reach; None where there is no such claim.
        is_lower_better: Whether the target is a limit from above.
    """

    benchmark: str
    what: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    is_lower_better: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self._is_met_by(self.median, self.target)

    @property
    def digits(self) -> int:
        """Decimals that show three digits, and more where a rounded median would be on the target's other side."""
        digits = max(0, 3 - len(f"{abs(int(self.median))}")) if abs(self.median) >= 1 else 3
        if self.target is not None:
            while self._is_met_by(round(self.median, digits), self.target) != self.is_met:
                digits += 1
        return digits

    def _is_met_by(self, value: float, target: float) -> bool:
        return value <= target if self.is_lower_better else value >= target


def in_turns(
    calls: Mapping[str, Callable[[], Any]], repetitions: int = REPETITIONS, seconds: float = SECONDS
) -> dict[str, list[float]]:
    """Times calls that take turns, after each has run for about `seconds` to warm up.

    Whoever went first goes last the next time, so that a machine which slows down is unfair to nobody.

    Returns:
        Seconds of one call, a number a repetition.
    """
    numbers = {}
    for name, call in calls.items():
        call()  # traces graphs
        numbers[name] = 1
        while seconds_of(call, numbers[name]) * numbers[name] < seconds:
            numbers[name] *= 2
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(repetitions):
        for name in list(calls)[:: -1 if repetition % 2 else 1]:
            times[name].append(seconds_of(calls[name], numbers[name]))
    return times


def seconds_of(call: Callable[[], Any], number: int = 1) -> float:
    """Returns the mean time of so many calls in a row."""
    started = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - started) / number


def ratios(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """Returns one ratio a repetition: of what was measured in the same turn."""
    return tuple(a / b for a, b in zip(above, below, strict=True))


def spread(values: Iterable[float], digits: int) -> str:
    """Returns median (lowest–highest)."""
    found = list(values)
    low, high = min(found), max(found)
    return f"{statistics.median(found):,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def table(rows: Sequence[Row]) -> str:
    """Returns rows as aligned text, with what they were measured on."""
    lines = [["", "median (lowest–highest)", "unit", "n", "target", ""]]
    for row in rows:
        goal = "" if row.target is None else f"{'≤' if row.is_lower_better else '≥'} {row.target:g}"
        state = {None: "", True: "met", False: "missed"}[row.is_met]
        lines.append([row.what, spread(row.values, row.digits), row.unit, str(len(row.values)), goal, state])
    return "\n".join([*tables.aligned(lines), f"{processor()}.", versions()])


def to_csv(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns rows with the columns `COLUMNS`."""
    return [
        {
            "benchmark": row.benchmark,
            "what": row.what,
            "unit": row.unit,
            "median": f"{row.median:.4g}",
            "low": f"{min(row.values):.4g}",
            "high": f"{max(row.values):.4g}",
            "n": len(row.values),
            "target": "" if row.target is None else f"{'<=' if row.is_lower_better else '>='} {row.target:g}",
            "met": "" if row.is_met is None else ("yes" if row.is_met else "no"),
            "processor": processor(),
            "versions": versions(),
        }
        for row in rows
    ]


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def versions() -> str:
    """Returns the versions that numbers may depend on."""
    return ", ".join(f"{name} {version}" for name, version in stages.versions().items())


def processor() -> str:
    """Returns the name of the processor, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} logical cores"


def peak_resident() -> int:
    """Returns the peak of this process's resident memory so far, bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except OSError:  # not Linux, where a child's getrusage would begin with its parent's peak
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def number_from_a_process(code: str, failure: str) -> int:
    """Returns the last number that code prints in a process of its own, which finds the scripts beside this one.

    Raises:
        ModelError: the process failed; `failure` begins the message, and the last line of its complaint ends it.
    """
    places = [str(Path(__file__).resolve().parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        raise ModelError(f"{failure}: {reason}")
    return int(done.stdout.split()[-1])


def main(description: str, measure: Callable[..., list[Row]], arguments: Sequence[str] | None = None) -> int:
    """Runs a benchmark's command line: `--quick` for a try, `--rows=FILE` for the rows as JSON; returns the exit code.

    Args:
        description: The script's docstring; its first line is shown.
        measure: Called with `quick`, whether numbers needn't be good.
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a try in seconds, whose numbers say nothing")
    parser.add_argument("--rows", type=Path, help="write the rows to this file, as JSON")
    given = parser.parse_args(arguments)
    try:
        rows = measure(quick=given.quick)
    except End2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(table(rows))
    if given.rows is not None:
        given.rows.write_text(json.dumps(to_csv(rows), indent=1), encoding="utf-8")
    return 0
