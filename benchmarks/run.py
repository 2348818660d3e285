"""Runs all benchmarks, one after the other: `benchmarks/results.csv`, and the table in README.md.

python benchmarks/run.py [--only=stacked,startup] [--quick]

Rows are written after each; with `--only` the other benchmarks' stay as they are, with `--quick` nothing is written.
The exit code is 1 if a benchmark failed; a missed target is none.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import timing

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results.csv", HERE.parent / "README.md"
# With rows; others beside them answer questions that take longer, or need models.
BENCHMARKS = (
    "startup",
    "stacked",
    "convolutional",
    "distillation",
    "served",
    "reading",
    "measures",
    "growth",
    "pipeline",
)
EXPONENT = "exponent"  # the unit of rows that are too many to show
GPU = "gpu"  # runs where there is one, and only when asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="names, with commas between them")
    parser.add_argument("--quick", action="store_true", help="a try in seconds each, which writes nothing")
    given = parser.parse_args(arguments)
    names = [name.strip() for name in given.only.split(",")]
    if unknown := [name for name in names if name not in (*BENCHMARKS, GPU)]:
        print(f"error: --only has {unknown[0]!r}. Allowed: {', '.join((*BENCHMARKS, GPU))}.", file=sys.stderr)
        return 2
    failed: list[str] = []
    began = time.monotonic()
    for name in names:
        print(f"\n{name}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            rows = Path(folder) / "rows.json"
            command = [
                sys.executable,
                str(HERE / f"{name}.py"),
                f"--rows={rows}",
                *(["--quick"] if given.quick else []),
            ]
            if _start(command):
                failed.append(name)
            elif not given.quick:
                _keep(name, json.loads(rows.read_text(encoding="utf-8")))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"\nall: {(time.monotonic() - began) / 60:.1f} min", flush=True)
    if failed:
        print(f"error: failed: {', '.join(failed)}. Run one alone to see why.", file=sys.stderr)
    return 1 if failed else 0


def _start(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode


def _keep(name: str, rows: list[dict[str, str]]) -> None:
    """Writes a benchmark's rows beside those of the others."""
    known = {} if not RESULTS.is_file() else _read(RESULTS)
    merged = [row for each in (*BENCHMARKS, GPU) for row in (rows if each == name else known.get(each, []))]
    timing.write_csv(merged, RESULTS)
    _write_readme(merged)


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["benchmark"], []).append(row)
    return found


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns rows that have a target as a table, those of a GPU as another, each after what it was measured on."""
    aimed = [row for row in rows if row["target"] and row["unit"] != EXPONENT]
    of_gpu, growth = [row for row in rows if row["benchmark"] == GPU], [row for row in rows if row["unit"] == EXPONENT]
    tables = []
    if aimed:
        lines = ["| benchmark | what | median (range; n) | target | |", "|---|---|--:|--:|---|"]
        for row in aimed:
            target = row["target"].replace("<=", "≤").replace(">=", "≥")
            state = "met" if row["met"] == "yes" else "missed"
            lines.append(f"| `{row['benchmark']}` | {row['what']} | {_value(row)} | {target} | {state} |")
        tables.append("\n".join([_measured_on(aimed), "", *lines]))
    if growth:
        most = max(growth, key=lambda row: float(row["median"]))
        met, limit = sum(row["met"] == "yes" for row in growth), most["target"].removeprefix("<= ")
        tables.append(
            f"Time and memory against members, classes, batch and examples (`growth`): {met} of {len(growth)} "
            f"exponents at most {limit}, the largest {most['median']}, of {most['what']}."
        )
    if of_gpu:
        whats = [row["what"].removesuffix(")").rpartition(" (") for row in of_gpu]  # with the GPU's name at the end
        lines = [f"| {whats[0][2]} | median (range; n) |", "|---|--:|"]
        lines += [f"| {what} | {_value(row)} |" for (what, _, _), row in zip(whats, of_gpu, strict=True)]
        tables.append("\n".join([_measured_on(of_gpu), "", *lines]))
    return "\n\n".join(tables)


def _value(row: Mapping[str, str]) -> str:
    median, low, high = (_rounded(float(row[key])) for key in ("median", "low", "high"))
    return f"{median} ({low}–{high}; {row['n']}) {row['unit']}"


def _rounded(value: float) -> str:
    """Returns three digits, and all of those before the point."""
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def _measured_on(rows: Sequence[Mapping[str, str]]) -> str:
    measured = sorted({(row["processor"], row["versions"]) for row in rows})
    return f"{'; '.join(f'{where}: {what}' for where, what in measured)}."


def _write_readme(rows: Sequence[Mapping[str, str]]) -> None:
    old = README.read_text(encoding="utf-8")
    block = f"<!-- benchmarks -->\n{markdown(rows)}\n<!-- end of benchmarks -->"
    new = re.sub(r"<!-- benchmarks -->.*<!-- end of benchmarks -->", lambda _: block, old, flags=re.DOTALL)
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
