"""Experiments from and to plain values, and with single fields changed."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

import pydantic

from end2_tf.config.checks import check
from end2_tf.config.faults import message
from end2_tf.config.fields import Experiment, Source
from end2_tf.errors import ConfigError, suggestion, unknown
from end2_tf.reading import texts

_ADAPTER = pydantic.TypeAdapter(Experiment)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Returns the experiment as nested dicts, lists and plain values, ready for JSON."""
    return _ADAPTER.dump_python(experiment, mode="json")


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """Builds and checks an experiment.

    Raises:
        ConfigError: a field is unknown, has a wrong type or is out of its range.
    """
    try:
        experiment = _ADAPTER.validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(message(error.errors()[0])) from None
    check(experiment)
    return experiment


def override(experiment: Experiment, assignments: Mapping[str, Any] | list[str]) -> Experiment:
    """Returns the experiment with some fields changed.

    Args:
        experiment: The one to start from.
        assignments: `{"student.epochs": 3}`, or command-line texts `["student.epochs=3"]`. Texts are read as JSON where
            that fits the field, tuples as comma-separated names; `none` empties an optional field, and
            takes out what has a name of its own: `data.ood.mnist=none`.

    Raises:
        ConfigError: unknown field, wrong type, out of range; the message names the nearest field and what is allowed.
    """
    values = to_dict(experiment)
    pairs = list(assignments.items()) if isinstance(assignments, Mapping) else [_split(text) for text in assignments]
    for path, value in pairs:
        _assign(values, path, value)
    return from_dict(values)


def _split(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set is {text!r}, which has no field and value. Write --set path.to.field=value.")
    return path.strip(), value.strip()


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Sets one field in nested dicts; walks the dataclasses alongside, so that each step is checked."""
    *parents, last = path.split(".")
    node: Any = values
    kind: Any = Experiment
    walked: list[str] = []
    for name in parents:
        kind = _field_type(kind, name, walked, path)
        walked.append(name)
        if node.get(name) is None:
            if _is_dataclass(kind) or typing.get_origin(kind) is dict:
                node[name] = {}  # an optional part that was not there; its required fields are checked in the end
            else:
                raise ConfigError(
                    f"{'.'.join(walked)} has no fields, so {path!r} can't be set. Set {'.'.join(walked)} itself."
                )
        node = node[name]
        if not isinstance(node, dict):
            raise ConfigError(
                f"{'.'.join(walked)} has no fields, so {path!r} can't be set. Set {'.'.join(walked)} itself."
            )
    is_named = typing.get_origin(kind) is dict
    kind = _field_type(kind, last, walked, path)
    value = _parse(kind, value) if isinstance(value, str) else value
    if is_named and value is None and _is_dataclass(kind):
        if last not in node:
            raise ConfigError(unknown(".".join(walked), last, "a name", node, verb="has"))
        del node[last]
    else:
        node[last] = value


def _field_type(kind: Any, name: str, walked: list[str], path: str) -> Any:
    """Returns the type of field `name` of `kind` (a dataclass, a dict of them, or free options)."""
    if _is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if name not in hints:
            where = ".".join(walked) or "the experiment"
            near = suggestion(name, hints)
            raise ConfigError(f"{path!r} is no field: {where} has no {name!r}. {near}Fields: {', '.join(hints)}.")
        return _without_none(hints[name])
    if typing.get_origin(kind) is dict:
        return _without_none(typing.get_args(kind)[1])
    return Any


def _without_none(kind: Any) -> Any:
    options = [a for a in typing.get_args(kind) if a is not type(None)]
    if type(None) in typing.get_args(kind) and len(options) == 1:
        return options[0]
    return kind


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _parse(kind: Any, text: str) -> Any:
    """Reads a command-line value for a field of type `kind`."""
    if text.lower() in ("none", "null"):
        return [] if typing.get_origin(kind) is tuple else None
    if kind is Source and not text.startswith("{"):
        return {"name": text}  # --set data.auxiliary=cifar100
    if kind == dict[str, Source] and not text.startswith("{"):
        return {name: {"name": name} for name in _names(text)}  # --set data.ood=svhn_cropped,mnist
    if typing.get_origin(kind) is tuple and not text.startswith("["):
        return _names(text)
    if kind is str:
        return text
    try:
        return texts.parse_json(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text
    except ValueError as error:
        raise ConfigError(f"--set has a value that can't be read ({error}). Write a plain value.") from None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
