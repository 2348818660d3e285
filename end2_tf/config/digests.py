"""Digests of values: what artefacts are named by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pydantic

_ADAPTER: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Any)


def digest(*parts: Any) -> str:
    """Returns 16 hex digits of the SHA-256 over plain values, dataclasses and other digests.

    Fields at their defaults are left out, so that a field which a later version adds changes no digest.
    """
    plain = [_ADAPTER.dump_python(_set_fields(part), mode="json") for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _set_fields(value: Any) -> Any:
    """Returns a value with each dataclass in it as a dict of the fields that aren't at their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: (getattr(value, field.name), field) for field in dataclasses.fields(value)}
        return {name: _set_fields(own) for name, (own, field) in fields.items() if own != _default(field)}
    if isinstance(value, Mapping):
        return {key: _set_fields(each) for key, each in value.items()}
    return [_set_fields(each) for each in value] if isinstance(value, (list, tuple)) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
