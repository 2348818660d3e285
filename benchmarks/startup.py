"""What starting costs: answers of the command line against half a second, `import end2_tf` against TensorFlow's own.

    python benchmarks/startup.py [--quick] [--rows=FILE]

Answers: `main.py --help`, `--list`, an unknown flag and an experiment that doesn't exist, each as a user waits for it:
a process of its own, from its start to its end, the files in the system's cache. Before they are timed, each is run
once with Python's list of imports, in which TensorFlow and Keras must not be. Imports: `import end2_tf` and the same
with `import tensorflow, keras` after it, which registers our classes, each against `import tensorflow, keras` alone,
in processes that take turns.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import timing

from end2_tf.errors import End2Error

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = {  # arguments of main.py → exit code
    "--help": 0,
    "--list": 0,
    "--bogus": 2,
    "--experiment=bogus": 2,
}
NAMES = {"--bogus": "an unknown flag", "--experiment=bogus": "an unknown experiment"}
HEAVY = ("tensorflow", "keras")
THEIRS = "import tensorflow, keras"
OURS = {"import end2_tf": "import end2_tf", f"import end2_tf; {THEIRS}": f"import end2_tf; {THEIRS}"}
LIMIT = 0.5  # seconds
SHARE = 1.05  # of TensorFlow's and Keras's own import


def measure(quick: bool) -> list[timing.Row]:
    """Measures both; a try leaves out the imports of TensorFlow, which take seconds each."""
    for flag, code in ANSWERS.items():
        check(flag, code)
    repetitions = 2 if quick else timing.REPETITIONS
    answers = timing.in_turns({flag: functools.partial(answer, flag) for flag in ANSWERS}, repetitions, seconds=0)
    rows = [
        timing.Row("startup", f"main.py, {NAMES.get(flag, flag)}", "s", tuple(times), LIMIT, is_lower_better=True)
        for flag, times in answers.items()
    ]
    imports = ["import end2_tf"] if quick else [THEIRS, *OURS]
    times = timing.in_turns({code: functools.partial(run, ["-c", code]) for code in imports}, repetitions, seconds=0)
    rows += [timing.Row("startup", code, "s", tuple(found)) for code, found in times.items()]
    if not quick:
        rows += [
            timing.Row("startup", f"{code} / {THEIRS}", "×", timing.ratios(times[code], times[THEIRS]), SHARE, True)
            for code in OURS
        ]
    return rows


def answer(flag: str) -> None:
    """Asks the command line, as a user does."""
    run([str(ROOT / "main.py"), flag], ANSWERS[flag])


def check(flag: str, code: int) -> None:
    """Raises End2Error if an answer has another exit code, or imports TensorFlow or Keras."""
    imported = run(["-X", "importtime", str(ROOT / "main.py"), flag], code)
    found = {line.rsplit("|", 1)[-1].strip() for line in imported.splitlines() if line.startswith("import time:")}
    if "end2_tf.cli" not in found:
        raise End2Error(f"main.py {flag} doesn't say what it imports. Run it with -X importtime and read what it says.")
    for module in HEAVY:
        if module in found:
            raise End2Error(
                f"main.py {flag} imports {module}. Allowed: neither of {', '.join(HEAVY)}. Import it later."
            )


def run(arguments: Sequence[str], code: int = 0) -> str:
    """Runs Python in a process of its own; returns what it wrote to stderr."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != code:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise End2Error(f"python {' '.join(arguments)} ended with {done.returncode}. Allowed: {code}. It says: {last}")
    return done.stderr


if __name__ == "__main__":
    sys.exit(timing.main(__doc__, measure))
