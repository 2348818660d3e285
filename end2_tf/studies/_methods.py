"""Which methods of an experiment a study of any experiment trains its students by."""

from __future__ import annotations

import dataclasses
from typing import Any

from end2_tf import config, registry
from end2_tf.config import Experiment, Method
from end2_tf.errors import ConfigError

NUM_SEEDS = 3  # as many students as the paper has
SMOKE: dict[str, Any] = {"student.num_seeds": 2}  # enough for a spread


def of_loss(experiment: Experiment, loss: str) -> str | None:
    """Returns the experiment's own method with a loss: one with auxiliary data, where there are some, before others.

    Among equals those that the experiment trains come first.
    """
    names = [name for name, method in experiment.methods.items() if method.loss == loss]
    has_auxiliary = experiment.data.auxiliary is not None
    allowed = [name for name in names if has_auxiliary or not experiment.methods[name].auxiliary]
    trained = experiment.student.methods
    ordered = sorted(allowed, key=lambda name: (not experiment.methods[name].auxiliary, name not in trained))
    return ordered[0] if ordered else None


def those_of(experiment: Experiment, name: str, losses: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the experiment's methods with these losses.

    Args:
        experiment: Its values.
        name: Of the experiment, for the message.
        losses: In order.

    Raises:
        ConfigError: there are none.
    """
    found = tuple(method for loss in losses if (method := of_loss(experiment, loss)) is not None)
    if not found:
        raise ConfigError(
            f"methods of {name!r} is {', '.join(experiment.methods) or 'empty'}: none has the loss "
            f"{' or '.join(losses)}, which the study trains by. Add one with --set methods.NAME.loss={losses[0]}."
        )
    return found


def standard(experiment: Experiment, loss: str) -> tuple[str, Method]:
    """Returns a name and a method for a loss that the experiment has no method with, as it is recommended."""
    default = next((method for method in config.default_methods().values() if method.loss == loss), Method(loss=loss))
    if loss.startswith("proxy_"):
        default = dataclasses.replace(default, offset=1.0)  # alphas = exp(logits) + 1, as in the paper of the proxy
    can_use = registry.knows_outside(loss) or not registry.is_on_labels(loss)
    has_auxiliary = can_use and experiment.data.auxiliary is not None
    return f"{loss}_aux" if has_auxiliary else loss, dataclasses.replace(default, auxiliary=has_auxiliary)
