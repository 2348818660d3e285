"""At which temperature members' predictions are learnt, for any experiment: the paper's ablation over T0.

EnD² by likelihood begins at T0 and is annealed to 1; EnD has T0 throughout.
"""

from __future__ import annotations

from typing import Any

from end2_tf.config import Experiment
from end2_tf.grid import Axis, Study, Template
from end2_tf.studies import _methods, _ood

_TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0)
_EPOCHS = 4  # fewer leave none to anneal in
_QUESTION = "At which temperature T0 should a student begin to learn what members say?"


def _make(name: str, experiment: Experiment) -> Study:
    methods = _methods.those_of(experiment, name, ("ensemble_distillation", "dirichlet_nll"))
    labels = {f"T0 = {temperature:g}": temperature for temperature in _TEMPERATURES}
    return Study(
        title=f"Temperature: {name}",
        question=_QUESTION,
        experiment=name,
        methods=methods,
        base={**_ood.of(experiment), **_tempered(experiment, methods)},
        variants={
            label: {f"methods.{method}.temperature": temperature for method in methods}
            for label, temperature in labels.items()
        },
        num_seeds=_methods.NUM_SEEDS,
        smoke={**_methods.SMOKE, "student.epochs": max(experiment.student.epochs, _EPOCHS)},
        axis=Axis("Temperature T₀", labels, is_log=True),
        reference=(
            "The paper tries the same T0 ∈ {1, 2, 5, 10, 20} and trains at 10; of the others it gives no numbers that "
            "could stand here."
        ),
    )


def _tempered(experiment: Experiment, methods: tuple[str, ...]) -> dict[str, Any]:
    """Returns what methods need for a temperature: labels have none, and a Dirichlet's must come down to 1."""
    changes: dict[str, Any] = {}
    for name in methods:
        method = experiment.methods[name]
        if method.labels:
            changes[f"methods.{name}.labels"] = 0.0
        if method.loss == "dirichlet_nll" and method.temperature_schedule != "anneal":
            changes[f"methods.{name}.temperature_schedule"] = "anneal"
    return changes


STUDIES = {"temperature": Template(question=_QUESTION, make=_make)}
