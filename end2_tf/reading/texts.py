"""Text and JSON from outside, and names that are shown to somebody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from end2_tf.errors import End2Error, plain

MAX_BYTES = 32_000_000  # of a file of text or JSON
MAX_DEPTH = 100  # of lists and objects within each other; networks within networks have a few dozen
MAX_NAME = 200  # characters of a name: a class, a data set, a file's
_LISTED = 20  # names in a message

_Kind = TypeVar("_Kind")

_FORMULA = ("=", "+", "-", "@")


def read_text(path: Path, error: type[End2Error], advice: str, *, most: int = MAX_BYTES) -> str:
    """Returns a file's text.

    Args:
        path: The file; what isn't a plain file is refused, since a pipe or a device may never end.
        error: What to raise.
        advice: The end of the message: what to do.
        most: Bytes it may have.
    """
    content = read_bytes(path, error, advice, most=most)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is no text in UTF-8 ({fault.reason} at byte {fault.start}). {advice}") from None


def read_bytes(path: Path, error: type[End2Error], advice: str, *, most: int = MAX_BYTES) -> bytes:
    """Returns a file's bytes; see `read_text`."""
    try:
        if not path.is_file():
            raise error(f"{path} is {'no plain file' if path.exists() else 'missing'}. {advice}")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, most) + 1)  # takes that much memory at once; files may have grown since
    except End2Error:
        raise
    except (OSError, ValueError) as fault:  # ValueError: a name with a NUL
        raise error(f"{path} can't be read: {getattr(fault, 'strerror', None) or fault}. {advice}") from None
    if size > most or len(content) > most:
        raise error(f"{path} has more than {most:,} bytes, so it isn't read. {advice}")
    return content


def read_json(path: Path, error: type[End2Error], advice: str, *, most: int = MAX_BYTES) -> Any:
    """Returns what a JSON file holds; see `read_text`."""
    text = read_text(path, error, advice, most=most)
    try:
        return parse_json(text)
    except ValueError as fault:
        raise error(f"{path} is no readable JSON ({fault}). {advice}") from None


def read_object(path: Path, error: type[End2Error], advice: str, *, most: int = MAX_BYTES) -> dict[str, Any]:
    """Returns the object that a JSON file holds; see `read_text`."""
    found = read_json(path, error, advice, most=most)
    if not isinstance(found, dict):
        raise error(f"{path} holds {kind_of(found)}, not an object. {advice}")
    return found


def parse_json(text: str | bytes) -> Any:
    """Returns what JSON says; NaN and Infinity are numbers, as in what Python writes.

    Raises:
        ValueError: it is no JSON, or more than `MAX_DEPTH` deep, or has a number of thousands of digits.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is more than {MAX_DEPTH} levels deep") from None
    except UnicodeDecodeError as fault:
        raise ValueError(f"no UTF-8 at byte {fault.start}") from None
    level = [found]
    for _ in range(MAX_DEPTH):  # whoever walks through it later recurses
        level = [each for item in level if isinstance(item, dict | list) for each in _children(item)]
        if not level:
            return found
    raise ValueError(f"it is more than {MAX_DEPTH} levels deep")


def _children(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def kind_of(value: Any) -> str:
    """Returns what JSON calls a value, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    return "null" if value is None else names.get(type(value), "a number")


def is_name(text: Any) -> bool:
    """Returns whether a text can stand for something in a table: short, on one line, with nothing invisible in it."""
    return isinstance(text, str) and len(text) <= MAX_NAME and text.isprintable() and bool(text.strip())


def why_no_name(text: Any) -> str:
    """Returns what a name may be, for the message about one that isn't."""
    shown = plain(repr(text), 80)
    return f"{shown}, which can't be a name: allowed are up to {MAX_NAME} visible characters on one line"


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"it is {why_no_name(text)}")
    return text


def _file_name(text: str) -> str:
    if not is_name(text) or text.startswith(".") or re.search(r"[/\\:]", text):
        raise ValueError(f"it is {plain(repr(text), 80)}, which can't be the name of a file")
    return text


Name = Annotated[str, pydantic.AfterValidator(_name)]
FileName = Annotated[str, pydantic.AfterValidator(_file_name)]


def fit(kind: type[_Kind], value: Any, where: str, error: type[End2Error], advice: str) -> _Kind:
    """Returns a value as a type; `error` says in one line where it isn't of it.

    Args:
        kind: A dataclass, or another type that pydantic knows.
        value: As JSON gives it; what the dataclass has no field for is left out.
        where: What holds it, for the message.
        error: What to raise.
        advice: The end of the message: what to do.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as faults:
        fault = faults.errors(include_url=False)[0]
        place = plain(".".join(str(part) for part in fault["loc"]), 100)
        reason = plain(fault["msg"].removeprefix("Value error, "), 200)
        raise error(
            f"{where} doesn't hold what it should ({f'{place}: ' if place else ''}{reason}). {advice}"
        ) from None


def listed(names: Iterable[str]) -> str:
    """Returns names for a message, however many and strange they are; "none" for none."""
    every = list(names)
    shown = ", ".join(plain(name, 80) for name in every[:_LISTED])
    return (shown + (f", … ({len(every):,} in all)" if len(every) > _LISTED else "")) or "none"


def shown(text: str) -> str:
    """Returns a text on one line, without a character that a terminal obeys."""
    return plain(text, 10 * MAX_NAME)


def cell(text: str) -> str:
    """Returns a text for a cell of CSV: no character that a terminal obeys, and nothing that a spreadsheet computes.

    A text that begins like a formula and is no number gets an apostrophe before it, as spreadsheets write text.
    """
    text = shown(text)
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
        return text
    except ValueError:
        return f"'{text}"
