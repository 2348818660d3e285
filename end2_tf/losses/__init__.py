"""Losses by class name: `end2_tf.losses.DirichletNLL` is in `dirichlet_nll.py`.

Names are looked up in the folder when they are asked for, so that a new loss is one new file and no edit here.
"""

from __future__ import annotations

from typing import Any

from end2_tf import registry


def _names() -> dict[str, str]:
    return {registry.class_name(name): name for name in registry.names("loss")} | {"DistillationLoss": "_base"}


def __getattr__(name: str) -> Any:
    return registry.class_of("loss", _names(), name)


def __dir__() -> list[str]:
    return sorted(_names())
