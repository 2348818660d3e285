"""What a command says, and where: to people in words, to programs as one JSON object, in colour on a terminal alone."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command came to.

    Attributes:
        text: For people; empty where all has been said.
        data: The same for programs; None where another process answers them.
        exit_code: Of the process.
    """

    text: str = ""
    data: Mapping[str, Any] | None = None
    exit_code: int = 0

    def show(self, *, as_json: bool) -> None:
        """Prints it to standard output."""
        if not as_json:
            if self.text:
                print(self.text, end="" if self.text.endswith("\n") else "\n", flush=True)
        elif self.data is not None:
            print(json.dumps(_plain(self.data), ensure_ascii=False, allow_nan=False), flush=True)


def speaker(*, as_json: bool) -> TextIO:
    """Returns where lines go that aren't the answer: standard error where a program reads standard output."""
    return sys.stderr if as_json else sys.stdout


def counted(num: int, what: str) -> str:
    """Returns a number and what it counts, for instance "1 member" or "2 members"."""
    return f"{num} {what}{'' if num == 1 else 's'}"


def paint(text: str, style: str, stream: TextIO) -> str:
    """Returns a text in bold, dim, red or green where the stream is a terminal that is to show it, else as it is.

    NO_COLOR (https://no-color.org) and TERM=dumb turn it off.
    """
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_STYLES[style]}m{text}\033[0m"


def _plain(value: Any) -> Any:
    """Returns a value in JSON's types; numbers that aren't finite are null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)  # a path
