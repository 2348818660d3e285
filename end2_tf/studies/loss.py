"""Which loss to train a student by, for any experiment: each file in `losses/`, as the experiment uses it.

A loss that the experiment has no method with gets the recommended options.
"""

from __future__ import annotations

from typing import Any

from end2_tf import registry
from end2_tf.config import Experiment
from end2_tf.grid import COLUMNS, Study, Template
from end2_tf.studies import _methods, _ood

_QUESTION = "Which loss teaches a student best, with the same network and budget, and the inputs that belong to it?"


def _make(name: str, experiment: Experiment) -> Study:
    variants: dict[str, dict[str, Any]] = {}
    for loss in registry.names("loss"):
        if registry.knows_outside(loss) and experiment.data.auxiliary is None:
            continue  # it learns what is outside from auxiliary inputs
        method = _methods.of_loss(experiment, loss)
        if method is None:
            method, added = _methods.standard(experiment, loss)
            variants[loss] = {f"methods.{method}": added, "student.methods": (method,)}
        else:
            variants[loss] = {"student.methods": (method,)}
    return Study(
        title=f"Losses: {name}",
        question=_QUESTION,
        experiment=name,
        methods=(),  # each variant has its own
        base=_ood.of(experiment),
        variants=variants,
        num_seeds=_methods.NUM_SEEDS,
        columns=(*COLUMNS, *(f"ood_auroc_{measure}" for measure in ("max_prob", "data", "epkl", "mkl"))),
        smoke=_methods.SMOKE,
    )


STUDIES = {"loss": Template(question=_QUESTION, make=_make)}
