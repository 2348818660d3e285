"""Every field of every dataclass of an experiment against what it must refuse.

The cases follow from the declarations: type hints with their bounds. So a new field is covered by itself, and one whose
type nobody here knows fails until somebody says what is wrong for it.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import annotated_types
import pytest

from end2_tf import config, registry
from end2_tf.config import fields
from end2_tf.errors import ConfigError

_SPIRALS = registry.experiments()["spirals_mlp_end2"]
EXPERIMENT = config.override(
    _SPIRALS, {"data.shifted": {"ring_500": config.to_dict(_SPIRALS)["data"]["ood"]["ring_500"]}}
)
NOT_SET = ("smoke", "published")  # values of the experiment's file, which nobody sets


class Leaf(NamedTuple):
    path: str
    kind: Any  # without None and bounds
    bounds: tuple[Any, ...]
    is_optional: bool


class Case(NamedTuple):
    path: str
    what: str
    value: Any
    allowed: tuple[str, ...]  # one of these is in the message

    def __str__(self) -> str:
        return f"{self.path}-{self.what}"


def _stripped(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Returns a type without None, its bounds, and whether None is one of its values."""
    bounds: list[Any] = []
    is_optional = False
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            for extra in extras:
                bounds += getattr(extra, "metadata", [])
        elif origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
            is_optional = True
            (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
        else:
            return hint, tuple(bounds), is_optional


def _leaves(kind: type, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name in NOT_SET and not path:
            continue
        plain, bounds, is_optional = _stripped(hint)
        here = (*path, name)
        if dataclasses.is_dataclass(plain):
            yield Leaf(".".join(here), dict, (), is_optional)
            yield from _leaves(plain, here)
        elif typing.get_origin(plain) is dict and dataclasses.is_dataclass(typing.get_args(plain)[1]):
            yield Leaf(".".join(here), dict, (), is_optional)
            yield from _leaves(typing.get_args(plain)[1], (*here, _NAMES[typing.get_args(plain)[1]]))
        else:
            yield Leaf(".".join(here), plain, bounds, is_optional)


_NAMES = {fields.Method: "end2", fields.Source: "ring_500"}  # entries that the experiment has
LEAVES = list(_leaves(config.Experiment))


def _cases(leaf: Leaf) -> Iterator[Case]:
    path, kind = leaf.path, leaf.kind
    if kind is bool:
        for value in ("maybe", 7, [1], {}):
            yield Case(path, f"type {value!r}", value, ("Allowed: true or false",))
    elif kind in (int, float):
        for value in ("many", [1], {}, True, math.nan, math.inf, *([2.5] if kind is int else [])):
            yield Case(path, f"type {value!r}", value, ("a whole number", "a number", "a finite number"))
        for value, allowed in _beyond(leaf):
            yield Case(path, f"range {value!r}", value, (allowed,))
    elif typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        for value in (choices[0][:-1], choices[0].upper(), 3, [choices[0]]):
            yield Case(path, f"choice {value!r}", value, (repr(choices[0]),))
    elif kind is str:
        for value in (3, [1], {"a": 1}, *([""] if leaf.bounds else [])):
            yield Case(path, f"type {value!r}", value, ("text", "a text that isn't empty"))
    elif kind is dict or typing.get_origin(kind) is dict:
        for value in (3, True, [1]):
            yield Case(path, f"type {value!r}", value, ("fields and values",))
    elif typing.get_origin(kind) is tuple:
        inside = typing.get_args(kind)[0]
        wrong = {str: 3}.get(_stripped(inside)[0], "many")
        for value in (3, {"a": 1}, [wrong]):
            yield Case(path, f"type {value!r}", value, ("a list", "text", "a whole number", "a number"))
    else:
        raise AssertionError(f"{path} has the type {kind}: say here what it must refuse")
    if not leaf.is_optional:
        yield Case(path, "null", None, ("Allowed:",))


def _beyond(leaf: Leaf) -> Iterator[tuple[float, str]]:
    """Yields values that are just outside a number's bounds, and what the message must say."""
    step = 1 if leaf.kind is int else 1e-6
    for bound in leaf.bounds:
        if isinstance(bound, annotated_types.Ge):
            yield bound.ge - step, f"Allowed: at least {bound.ge}"
        elif isinstance(bound, annotated_types.Gt):
            yield bound.gt, f"Allowed: above {bound.gt}"
        elif isinstance(bound, annotated_types.Le):
            yield bound.le + step, f"Allowed: at most {bound.le}"
        elif isinstance(bound, annotated_types.Lt):
            yield bound.lt, f"Allowed: below {bound.lt}"


CASES = [case for leaf in LEAVES for case in _cases(leaf)]


def _refused(changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config.override(EXPERIMENT, changes)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert "nput should" not in message  # pydantic's own words
    assert "String should" not in message
    return message


def test_the_table_knows_every_field_of_every_dataclass():
    kinds = {
        kind
        for kind in vars(fields).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == fields.__name__
    }
    declared = {field.name for kind in kinds - {fields.Published} for field in dataclasses.fields(kind)}
    assert declared - {leaf.path.rsplit(".", 1)[-1] for leaf in LEAVES} == set(NOT_SET)
    assert min(collections.Counter(case.path for case in CASES).values()) >= 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_field_cant_be_is_refused_by_name_with_what_it_may_be(case):
    message = _refused({case.path: case.value})
    assert case.path in message
    assert any(allowed in message for allowed in case.allowed), message


_KINDS = {leaf.path: leaf.kind for leaf in LEAVES}
# As text these are lists of names, or the name of a source, whatever they look like.
_NAMED = ("data.auxiliary", "data.ood", "data.shifted", "student.methods", "export.models")


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if case.path not in _NAMED
        and (_KINDS[case.path] is not str or case.value == "")
        and not (typing.get_origin(_KINDS[case.path]) is tuple and case.value in (3, None))  # one entry, or none
    ],
    ids=str,
)
def test_the_command_line_refuses_the_same(case):
    text = case.value if isinstance(case.value, str) else json.dumps(case.value)
    assert case.path in _refused([f"{case.path}={text}"])


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_a_misspelt_field_is_told_with_the_right_one(leaf):
    *parents, name = leaf.path.split(".")
    misspelt = ".".join([*parents, f"{name}x"])
    message = _refused([f"{misspelt}=1"])
    assert repr(misspelt) in message
    assert f"Did you mean {name!r}?" in message


_WITHOUT_FIELDS = [leaf for leaf in LEAVES if leaf.kind is not dict and typing.get_origin(leaf.kind) is not dict]


@pytest.mark.parametrize("leaf", _WITHOUT_FIELDS, ids=lambda leaf: leaf.path)
def test_what_has_no_fields_says_so(leaf):
    assert f"{leaf.path} has no fields" in _refused([f"{leaf.path}.x=1"])


_CLOSED = [
    (leaf.path, value)
    for leaf in LEAVES
    for bound in leaf.bounds
    for value in [getattr(bound, "ge", getattr(bound, "le", None))]
    if value is not None
]


@pytest.mark.parametrize(("path", "value"), _CLOSED, ids=str)
def test_a_bound_that_belongs_to_the_range_is_taken(path, value):
    try:
        config.override(EXPERIMENT, {path: value})
        said = ""
    except ConfigError as error:  # what fields together can't be is another check's
        said = str(error)
    assert not said.startswith(f"{path} is {value!r}. Allowed: at")
