"""What measuring costs: every measure and metric against the functions they can't do without, in time and memory.

    python benchmarks/measures.py [--quick] [--rows=FILE]

Measures: those of 10⁶ Dirichlets of 10 classes (`from_alphas`), of 10⁶ predictions (`from_probs`) with all in-domain
metrics, and of ensembles of 10 members that have as many logits (`from_members`), each against the floor: one softmax,
two digamma and one log-gamma of SciPy, over the same 10⁷ values. All in float64, as evaluation has it. OOD detection:
the table of all scores (`metrics.out_of_distribution`: AUROC, AUPR, FPR95 each) against scikit-learn's `roc_auc_score`
of each. Whoever is compared takes turns. Memory: alphas of 10⁵ examples and 1,000 classes through measures, metrics
and the table, in float32 as a student returns them, in a process of its own.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import timing
from scipy import special
from sklearn.metrics import roc_auc_score

NUM, CLASSES, MEMBERS = 1_000_000, 10, 10
QUICK = 20_000
MEMORY = (100_000, 1_000)  # examples, classes
FLOOR = 1.5  # times what SciPy takes
CURVES = 1.3  # times what scikit-learn takes
LIMIT = 4.0  # GB


def measure(quick: bool) -> list[timing.Row]:
    """Measures all three; a try has fewer examples."""
    repetitions, seconds = (1, 0.0) if quick else (timing.REPETITIONS, timing.SECONDS)
    num = QUICK if quick else NUM
    parts = parts_of(num)
    times = timing.in_turns(parts, repetitions, seconds)
    rows = [timing.Row("measures", f"{name}, {num:,} × {CLASSES}", "s", tuple(found)) for name, found in times.items()]
    each = {name: timing.ratios(found, times["floor"]) for name, found in times.items() if name != "floor"}
    rows += [timing.Row("measures", f"{name} / floor", "×", values) for name, values in each.items()]
    students = tuple(sum(values) for values in zip(*(each[name] for name in STUDENTS), strict=True))
    rows.append(timing.Row("measures", f"{' + '.join(STUDENTS)} / floor", "×", students, FLOOR, is_lower_better=True))
    rows.append(
        timing.Row("measures", "from_members of as many logits / floor", "×", each["from_members"], FLOOR, True)
    )
    inside, outside = scores_of(num // 2, 0), scores_of(num // 2, 1)
    tables = {"ours": functools.partial(ood_table, inside, outside), "theirs": lambda: roc_curves(inside, outside)}
    times = timing.in_turns(tables, repetitions, seconds)
    what = f"OOD table of {len(inside)} scores, {num:,} inputs"
    rows += [
        timing.Row("measures", what, "s", tuple(times["ours"])),
        timing.Row(
            "measures",
            f"{what} / {len(inside)} roc_auc_score",
            "×",
            timing.ratios(times["ours"], times["theirs"]),
            CURVES,
            is_lower_better=True,
        ),
    ]
    size = (QUICK // 100, MEMORY[1]) if quick else MEMORY
    peaks = tuple(peak(*size) / 1e9 for _ in range(1 if quick else 3))
    what = f"peak of resident memory, {size[0]:,} × {size[1]:,}"
    return [*rows, timing.Row("measures", what, "GB", peaks, LIMIT, is_lower_better=True)]


STUDENTS = ("from_alphas", "from_probs", "metrics")  # of the parts: those that a student's evaluation has


def parts_of(num: int) -> dict[str, Callable[[], Any]]:
    """Returns what is timed, on `num` examples."""
    from end2_tf import metrics, uncertainty

    alphas, labels = alphas_of(num, CLASSES, 0)
    probs = alphas / alphas.sum(axis=-1, keepdims=True)
    logits = np.log(alphas).reshape(-1, MEMBERS, CLASSES)  # as many logits, of fewer examples
    return {
        "floor": lambda: floor(alphas),
        "from_alphas": lambda: uncertainty.from_alphas(alphas),
        "from_probs": lambda: uncertainty.from_probs(probs),
        "from_members": lambda: uncertainty.from_members(logits),
        "metrics": lambda: metrics.classification(probs, labels),
    }


def floor(alphas: np.ndarray) -> None:
    """What no way round is known for: a softmax, digamma of alphas for two measures, log-gamma for the density's."""
    special.softmax(alphas, axis=-1)
    special.digamma(alphas)
    special.digamma(alphas)
    special.gammaln(alphas)


def alphas_of(num: int, num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns alphas from 0.01 to 100, half of them of inputs far from certain, and labels drawn from their means."""
    rng = np.random.default_rng(seed)
    alphas = np.exp(rng.uniform(np.log(0.01), np.log(100), (num, num_classes)))
    chosen = (alphas.cumsum(axis=-1) < rng.uniform(size=(num, 1)) * alphas.sum(axis=-1, keepdims=True)).sum(axis=-1)
    return alphas, np.minimum(chosen, num_classes - 1)


def scores_of(num: int, seed: int) -> dict[str, np.ndarray]:
    """Returns a score for every measure, OOD inputs' (seed 1) a little higher."""
    from end2_tf.measures import MEASURES

    rng = np.random.default_rng(seed)
    return {name: measure.sign * rng.normal(seed / 2, size=num) for name, measure in MEASURES.items()}


def ood_table(inside: dict[str, np.ndarray], outside: dict[str, np.ndarray]) -> dict[str, float]:
    from end2_tf import metrics

    return metrics.out_of_distribution(inside, outside)


def roc_curves(inside: dict[str, np.ndarray], outside: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns scikit-learn's AUROC of each score, by the table's names."""
    from end2_tf.measures import MEASURES

    found = {}
    for name, (column, sign, _) in MEASURES.items():
        scores = sign * np.concatenate([inside[name], outside[name]])
        positive = np.repeat([False, True], [len(inside[name]), len(outside[name])])
        found[f"ood_auroc_{column}"] = float(roc_auc_score(positive, scores))
    return found


def peak(num: int, num_classes: int) -> int:
    """Returns the peak of a process that measures so many alphas, bytes."""
    code = f"import measures; print(measures.peak_here({num}, {num_classes}))"
    return timing.number_from_a_process(code, f"measuring the memory of {num} × {num_classes} alphas failed")


def peak_here(num: int, num_classes: int) -> int:
    """Measures alphas of which one half is in-domain; returns the peak of this process's resident memory, bytes."""
    from end2_tf import metrics, uncertainty

    rng = np.random.default_rng(0)
    alphas = rng.standard_exponential((num, num_classes), np.float32) + np.float32(1e-6)
    found = uncertainty.from_alphas(alphas)
    metrics.classification(found.pop("probs"), rng.integers(num_classes, size=num))
    half = num // 2
    metrics.out_of_distribution(
        {name: values[:half] for name, values in found.items()},
        {name: values[half:] for name, values in found.items()},
    )
    return timing.peak_resident()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(timing.main(__doc__, measure))
