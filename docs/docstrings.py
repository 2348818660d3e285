"""Names that our docstrings give to sections, as Griffe knows them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMES = {"Example:": "Examples:", "Call arguments:": "Other Parameters: Call arguments"}


class Sections(griffe.Extension):
    """Lets `Example` be read as code, and `Call arguments` as a list of parameters under that title."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            for ours, theirs in _NAMES.items():
                obj.docstring.value = re.sub(rf"^{ours}$", theirs, obj.docstring.value, flags=re.MULTILINE)
