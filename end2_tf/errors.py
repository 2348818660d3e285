"""What a user can do about it: one family of errors, and one way to build their messages.

A message is one line: what is wrong, its value, what is allowed, what to do next. `main.py` prints it and exits with
the class's `exit_code`; library users catch `End2Error` or the built-in exception each class also is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_MAX_MESSAGE = 4_000  # characters; the longest of ours list the names of everything there is


class End2Error(Exception):
    """Base of every error that end2_tf raises on purpose; its text is meant for users.

    Names and values in it may come from a stranger's file: it is one line, in which a terminal finds nothing to obey.
    """

    exit_code = 2

    def __init__(self, message: object = ""):
        super().__init__(plain(str(message), _MAX_MESSAGE))


def plain(text: str, most: int) -> str:
    """Returns a text on one line, with escapes for characters that can't be seen, or that turn it round.

    Args:
        text: From anywhere.
        most: Characters; of a longer text the middle is left out.
    """
    if len(text) > most:
        text = f"{text[: most - most // 3]} … {text[-(most // 3) :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class ConfigError(End2Error, ValueError):
    """A flag or a field of an experiment has a value that it can't have."""


class DataError(End2Error, ValueError):
    """A data set is missing, or its arrays can't be used."""


class ModelError(End2Error, ValueError):
    """A model doesn't fit the data, the ensemble or the loss it is used with."""


class ShapeError(End2Error, ValueError):
    """An array has another rank or size than the function needs."""


class ZooError(End2Error, ValueError):
    """A published model is missing, was altered, can't be fetched, or can't be published."""


class ServerError(End2Error, ConnectionError):
    """A server can't be reached, or refused a request."""

    exit_code = 5


class WorkdirError(End2Error, OSError):
    """The workdir can't be read or written, or another run holds it."""

    exit_code = 3


class TrainingError(End2Error, ArithmeticError):
    """Training can't go on, for instance because the loss is no longer finite."""

    exit_code = 4


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Returns "Did you mean 'x'? " for the nearest allowed name, or nothing."""
    names = [str(a) for a in allowed]
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    near = near or [each for each in names if len(str(name)) > 2 and each.startswith(str(name))]  # a part is a start
    return f"Did you mean {near[0]!r}? " if near else ""


def unknown(field: str, name: str, kind: str, allowed: Iterable[str], next_step: str = "", *, verb: str = "is") -> str:
    """Returns the message for a name that isn't among those allowed.

    Args:
        field: Where the name stands, for instance `student.loss`.
        name: The name that was given.
        kind: What it should have been, with its article: "a loss".
        allowed: The names there are.
        next_step: A closing sentence, for instance how to add one.
        verb: What the field does with the name: it is one, or has one.
    """
    names = sorted(str(a) for a in allowed)
    noun = kind.split(" ", 1)[-1]
    plural = re.sub(r"(?<=[^aeiou])y$", "ie", noun) if not noun.endswith("s") else f"{noun}e"
    plural = f"{plural}s".capitalize()
    listed = ", ".join(names) if names else "none"
    end = f" {next_step}" if next_step else ""
    return f"{field} {verb} {name!r}, which isn't {kind}. {suggestion(name, names)}{plural}: {listed}.{end}"
