"""How many auxiliary inputs a student is shown, for any experiment that has some."""

from __future__ import annotations

from typing import Any

from end2_tf.config import Experiment
from end2_tf.errors import ConfigError
from end2_tf.grid import Axis, Study, Template
from end2_tf.studies import _methods, _ood

_SHARES = (0.1, 0.25, 0.5, 0.75)
_NONE = "no auxiliary inputs"
_QUESTION = "How large a share of each batch should auxiliary inputs be, on which members show what they don't know?"


def _make(name: str, experiment: Experiment) -> Study:
    if experiment.data.auxiliary is None:
        raise ConfigError(
            f"data.auxiliary of {name!r} is none, so there is no share of auxiliary inputs to vary. Name some with "
            "--set data.auxiliary=…, or choose another experiment."
        )
    methods = _methods.those_of(experiment, name, ("dirichlet_nll", "mean_precision"))
    shares = sorted({*_SHARES, experiment.transfer.auxiliary_share})
    labels = {f"{100 * share:.3g} % auxiliary": share for share in shares}
    with_some: dict[str, Any] = {
        f"methods.{method}.auxiliary": True for method in methods if not experiment.methods[method].auxiliary
    }
    return Study(
        title=f"Share of auxiliary inputs: {name}",
        question=_QUESTION,
        experiment=name,
        methods=methods,
        base={**_ood.of(experiment), **with_some},
        variants={
            _NONE: {f"methods.{method}.auxiliary": False for method in methods},
            **{label: {"transfer.auxiliary_share": share} for label, share in labels.items()},
        },
        num_seeds=_methods.NUM_SEEDS,
        smoke=_methods.SMOKE,
        axis=Axis("Auxiliary inputs (% of a batch)", {_NONE: 0.0, **{k: 100 * v for k, v in labels.items()}}),
    )


STUDIES = {"aux_share": Template(question=_QUESTION, make=_make)}
