"""How wide a student is, for any experiment whose backbone can be made wider: its file names the options in `WIDTHS`.

A width of 1 is that of the experiment's own student, which is the members' unless the experiment says otherwise.
"""

from __future__ import annotations

from typing import Any

from end2_tf import registry
from end2_tf.config import Experiment
from end2_tf.errors import ConfigError
from end2_tf.grid import Axis, Study, Template
from end2_tf.studies import _methods, _ood

_FACTORS = (0.25, 0.5, 1.0, 2.0)
_QUESTION = "What does a narrower or wider student gain or lose, beside a network of its size on labels alone?"


def _make(name: str, experiment: Experiment) -> Study:
    own = _options(experiment, name)
    factors: dict[float, dict[str, Any]] = {}
    for factor in _FACTORS:
        scaled = {option: _scaled(value, factor) for option, value in own.items()}
        if scaled not in factors.values():  # the narrowest layers can't be halved any more
            factors[factor] = scaled
    labels = {factor: "width × 1, the experiment's" if factor == 1 else f"width × {factor:g}" for factor in factors}
    return Study(
        title=f"Capacity of the student: {name}",
        question=_QUESTION,
        experiment=name,
        methods=_methods.those_of(experiment, name, ("cross_entropy", "mean_precision")),
        base=_ood.of(experiment),
        variants={labels[factor]: _changes(experiment, scaled, factor) for factor, scaled in factors.items()},
        num_seeds=_methods.NUM_SEEDS,
        smoke=_methods.SMOKE,
        axis=Axis("Width (1 = the experiment's)", {labels[f]: f for f in factors}, is_log=True),
    )


def _options(experiment: Experiment, name: str) -> dict[str, Any]:
    """Returns the options that say how wide the student is, as the experiment has them."""
    backbone = experiment.student.backbone or experiment.ensemble.backbone
    if experiment.student.backbone is None and experiment.ensemble.models is not None:
        raise ConfigError(
            f"ensemble.models is {experiment.ensemble.models!r}, whose layers the student copies, so its width is "
            "given. Name a student.backbone."
        )
    widths = registry.widths(backbone)
    if not widths:
        known = [each for each in registry.names("backbone") if registry.widths(each)]
        raise ConfigError(
            f"the student's backbone in {name!r} is {backbone!r}, which has no option for its width. Those that have "
            f"one: {', '.join(known)}. Name one with --set student.backbone=…, or choose another study."
        )
    return widths | {option: value for option, value in _given(experiment).items() if option in widths}


def _given(experiment: Experiment) -> dict[str, Any]:
    """Returns the options that the student's network is built with, as `Trainer.student_backbone` finds them."""
    student, members = experiment.student, experiment.ensemble
    if student.options is not None:
        return student.options
    return members.options if student.backbone in (None, members.backbone) else {}


def _scaled(width: Any, factor: float) -> Any:
    if isinstance(width, list | tuple):
        return [_scaled(each, factor) for each in width]
    return max(1, round(factor * width))


def _changes(experiment: Experiment, scaled: dict[str, Any], factor: float) -> dict[str, Any]:
    """Returns a variant's changes: none for the student as it is, which the experiment's own run may have trained."""
    return {} if factor == 1 else {"student.options": {**_given(experiment), **scaled}}


STUDIES = {"capacity": Template(question=_QUESTION, make=_make)}
