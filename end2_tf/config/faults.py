"""Pydantic's complaints as one line that says what is wrong, its value, what is allowed and what to do."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pydantic

from end2_tf.errors import ConfigError, unknown


def build(kind: type[Any], field: str, **values: Any) -> Any:
    """Builds one part of an experiment, for instance a `Method`.

    Raises:
        ConfigError: a field is unknown, has a wrong type or is out of its range.
    """
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "unexpected_keyword_argument":
            names = [each.name for each in dataclasses.fields(kind)]
            raise ConfigError(unknown(field, str(fault["loc"][-1]), "a field", names, verb="has")) from None
        raise ConfigError(message({**fault, "loc": (field, *fault["loc"])}, "Give another value.")) from None


def message(error: Any, next_step: str = "Change it with --set {path}=…") -> str:
    """Turns pydantic's first complaint into one line of ours."""
    path = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    value = error["input"]
    context = error.get("ctx", {})
    if error["type"] == "unexpected_keyword_argument":
        return f"{path!r} is no field. Its names: see end2_tf.config, or --describe."
    if error["type"] == "missing":
        return f"{path} is missing. Set it with --set {path}=…"
    bounds = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "above {gt}",
        "less_than_equal": "at most {le}",
        "less_than": "below {lt}",
        "literal_error": "{expected}",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "dataclass_type": "fields and values; name a field of it",
        "string_type": "text",
        "string_too_short": "a text that isn't empty",
        "tuple_type": "a list",
        "dict_type": "fields and values",
    }
    allowed = bounds.get(error["type"], error["msg"]).format(**context)
    settable = re.sub(r"(\.\d+)+$", "", path)  # a list is set as a whole
    return f"{path} is {value!r}. Allowed: {allowed}. {next_step.format(path=settable)}"
