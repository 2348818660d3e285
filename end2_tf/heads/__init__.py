"""Heads: what a network's outputs mean, one file each; a file's name is the head's.

A head reads raw outputs (batch, outputs) as a distribution over class probabilities, says how many outputs it needs for
K classes, and gives every uncertainty measure. A loss names the head that its student is published with, by
`make_head`. Names are looked up in the folder when they are asked for, as those of losses are.
"""

from __future__ import annotations

from typing import Any

from end2_tf import registry


def _names() -> dict[str, str]:
    return {f"{registry.class_name(name)}Head": name for name in registry.names("head")} | {"Head": "_base"}


def __getattr__(name: str) -> Any:
    return registry.class_of("head", _names(), name)


def __dir__() -> list[str]:
    return sorted(_names())
