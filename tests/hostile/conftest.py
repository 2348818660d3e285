"""What every hostile input must meet: one plain line, which says what is wrong, and little memory."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from end2_tf.errors import End2Error

MOST_MEMORY = 150_000_000  # bytes; inputs ask for up to exabytes


@dataclass(frozen=True)
class Refusal:
    """Makes an input, has it read, and looks at what is said."""

    folder: Path

    def __call__(self, make: Callable[[Path], Any], read: Callable[[Any], Any], message: str) -> None:
        made = make(self.folder)
        tracemalloc.start()
        try:
            with pytest.raises(Exception) as raised:  # noqa: PT011 - the type is looked at below, for a better message
                read(made)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        error, said = raised.value, str(raised.value)
        assert isinstance(error, End2Error) or type(error).__name__ == "RequestError", repr(error)
        assert said.isprintable(), said
        assert len(said) < 2_500, said[:3_000]
        assert re.search(message, said), said
        assert peak < MOST_MEMORY, f"{peak / 1e6:.0f} MB"


@pytest.fixture
def refused(tmp_path: Path) -> Refusal:
    return Refusal(tmp_path)
