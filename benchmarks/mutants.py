"""Mutation testing: changes one operator or number of a module at a time, and asks whether its own tests notice.

    python benchmarks/mutants.py [--modules=schedules,dirichlet] [--every=1] [--results=FILE]

Mutants are Cosmic Ray's, of the operators in `OPERATORS`; `pip install '.[mutation]'` has it. The libraries are
imported once, and each mutant is a fork that imports the package with one module changed (no file is) and runs the
tests named in `MODULES` until one fails. TensorFlow's own import is most of a small test's time. `--every=5` tries a
fifth of the mutants, evenly spaced. Mutants that live are printed as a changed line; the exit code is 1 if one isn't
explained in tests/mutants.md. With `--results` an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = ROOT / "tests" / "mutants.md"
CPU_SECONDS = 240  # of one mutant; the slowest of these tests take a third of it
# Imported before the forks. TensorFlow's threads start with its first operation, so none may run here.
LIBRARIES = ("hypothesis.extra.numpy", "keras", "mpmath", "pytest", "scipy.stats", "sklearn.metrics")

_METRICS = ("bootstrap", "calibration", "checks", "correlation", "detection", "divergence", "in_domain", "rejection")
_LOSSES = (
    "cross_entropy",
    "dirichlet_nll",
    "ensemble_distillation",
    "hydra",
    "logit_gaussian",
    "mean_precision",
    "prior_network",
    "proxy_forward_kl",
    "proxy_reverse_kl",
    "self_distribution",
)
MODULES = {
    "schedules": ("tests/test_schedules.py",),
    "dirichlet": ("tests/test_dirichlet.py", "tests/test_uncertainty.py"),
    "uncertainty": ("tests/test_uncertainty.py",),
    "precision": ("tests/test_precision.py",),
    **{f"metrics.{name}": (f"tests/metrics/test_{name}.py",) for name in _METRICS if name != "checks"},
    "metrics.checks": ("tests/metrics",),
    "losses._base": ("tests/losses/test_base.py",),
    "losses._labels": ("tests/losses/test_cross_entropy.py", "tests/losses/test_self_distribution.py"),
    "losses._proxy": ("tests/losses/test_proxy_reverse_kl.py", "tests/losses/test_base.py"),
    **{f"losses.{name}": (f"tests/losses/test_{name}.py", "tests/losses/test_base.py") for name in _LOSSES},
}
OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Pow_Mul", "Mod_Mul", "BitAnd_BitOr")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Is_IsNot")),
    *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Invert", "ReplaceUnaryOperator_Delete_Not"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("NumberReplacer", "ZeroIterationForLoop"),
)


class Mutant(NamedTuple):
    module: str  # within the package
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """What it is, without the line's number, so that edits elsewhere keep it."""
        return f"{self.module}: {self.before} → {self.after}"


def path_of(module: str) -> Path:
    return ROOT / "end2_tf" / f"{module.replace('.', '/')}.py"


def mutants(module: str) -> Iterator[Mutant]:
    """Yields every mutant of a module that compiles, in the order of `OPERATORS` and then of the lines."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    original = path_of(module).read_text(encoding="utf-8")
    for name in OPERATORS:
        operator = OperatorProvider()[name]()
        occurrence = 0
        while (source := mutate_code(original, operator, occurrence)) is not None:
            occurrence += 1
            lines = zip(original.splitlines(), source.splitlines(), strict=False)
            number, (before, after) = next((i, pair) for i, pair in enumerate(lines, 1) if pair[0] != pair[1])
            yield Mutant(module, number, before.strip(), after.strip(), source)


class _Loader(importlib.abc.Loader):
    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.mutant.source, str(path_of(self.mutant.module)), "exec"), module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module of the package in its changed form."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != f"end2_tf.{self.mutant.module}":
            return None
        location = path_of(self.mutant.module)
        return importlib.util.spec_from_file_location(name, location, loader=_Loader(self.mutant))


def lives(mutant: Mutant) -> bool:
    """Returns whether all tests pass on a mutant; one that takes too long is noticed too."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.meta_path.insert(0, _Finder(mutant))
        import hypothesis
        import pytest

        hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
        hypothesis.settings.load_profile("mutants")
        options = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
        code = int(pytest.main([*options, *MODULES[mutant.module]]))
    finally:
        os._exit(code)


def explained() -> str:
    return EXPLAINED.read_text(encoding="utf-8") if EXPLAINED.exists() else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", default=",".join(MODULES), help="names within the package, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="try one mutant of so many")
    parser.add_argument("--results", type=Path, help="a file of JSON lines in which outcomes are kept")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    wanted = arguments.modules.split(",")
    if unknown := [name for name in wanted if name not in MODULES]:
        sys.exit(f"--modules has {unknown[0]!r}. Allowed: {', '.join(MODULES)}.")
    for name in LIBRARIES:
        importlib.import_module(name)
    known = {}
    if arguments.results and arguments.results.exists():
        known = {row["key"]: row["lives"] for row in map(json.loads, arguments.results.read_text().splitlines())}
    if arguments.results:
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
    reasons, unexplained = explained(), 0
    for module in wanted:
        tried = killed = equivalent = 0
        for mutant in list(mutants(module))[:: arguments.every]:
            key = f"{mutant.line} {mutant.key}"
            if key not in known:
                known[key] = lives(mutant)
                if arguments.results:
                    with arguments.results.open("a") as file:
                        file.write(json.dumps({"key": key, "lives": known[key]}, ensure_ascii=False) + "\n")
            tried += 1
            if not known[key]:
                killed += 1
            elif f"`{mutant.before}` → `{mutant.after}`" in reasons:
                equivalent += 1
            else:
                unexplained += 1
                print(f"{module}:{mutant.line}\n    `{mutant.before}` → `{mutant.after}`", flush=True)
        share = 100 * killed / max(tried, 1)
        print(f"{module}: {killed} of {tried} killed ({share:.0f} %), {equivalent} others explained", flush=True)
    return min(unexplained, 1)


if __name__ == "__main__":
    sys.exit(main())
