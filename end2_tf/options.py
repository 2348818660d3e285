"""Options of a source, a backbone or a loss: a function's own arguments and annotations say what is allowed."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

import pydantic

from end2_tf.errors import ConfigError, unknown


def check(
    function: Callable[..., Any], given: dict[str, Any], field: str, owner: str, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the given options as their annotated types.

    Args:
        function: Takes the options as arguments.
        given: Names and values.
        field: Where they stand in the config, for messages: `ensemble.options`.
        owner: What takes them, with its article: "the backbone 'mlp'".
        reserved: Arguments that are no options.

    Raises:
        ConfigError: an option is unknown, has a wrong type or is out of its range.
    """
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY
    parameters = inspect.signature(function).parameters.values()
    allowed = [p.name for p in parameters if p.kind not in kinds and p.name not in reserved and p.name != "self"]
    hints = typing.get_type_hints(function, include_extras=True)
    checked = {}
    for key, given_value in given.items():
        if key not in allowed:
            raise ConfigError(unknown(field, key, "an option", allowed, f"They are those of {owner}.", verb="has"))
        checked[key] = value(key, hints.get(key, Any), given_value, field)
    return checked


def value(key: str, kind: Any, given: Any, field: str) -> Any:
    """Returns one option as its annotation's type, or raises ConfigError with what is allowed."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind, config=pydantic.ConfigDict(allow_inf_nan=False))
    try:
        return adapter.validate_python(given)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        allowed = fault["msg"].removeprefix("Input should be ")
        where = ".".join([field, key, *(str(part) for part in fault["loc"] if not str(part).startswith("function"))])
        if fault["type"] == "tuple_type":
            allowed = "a list, such as [64,64]"
        raise ConfigError(
            f"{where} is {fault['input']!r}. Allowed: {allowed}. Change it with --set {field}.{key}=…"
        ) from None
