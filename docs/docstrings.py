"""Sections of our docstrings, as Griffe knows them."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_NAMES = {"Example:": "Examples:", "Call arguments:": "Other Parameters: Call arguments"}
_SENTENCES = re.compile(r"^(Returns|Yields):\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE)


class Sections(griffe.Extension):
    """Lets `Example` be read as code, `Call arguments` as a list of parameters, and `Returns` as the sentences it is.

    Griffe would take what stands before the first colon of a result for its name or type.
    """

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            for ours, theirs in _NAMES.items():
                obj.docstring.value = re.sub(rf"^{ours}$", theirs, obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = _SENTENCES.sub(_told, obj.docstring.value)


def _told(found: re.Match[str]) -> str:
    return f"**{found[1]}:**\n\n{textwrap.dedent(found[2])}\n"
