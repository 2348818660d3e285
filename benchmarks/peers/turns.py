"""How a benchmark's child takes its turns; needs nothing but Python, since peers live in an environment of their own.

The parent writes a line a turn: a number trains so many epochs, `error` asks for the members' error. A line of JSON is
the answer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


class Turns:
    """Reads turns and answers them; `versions` is the first answer."""

    def __init__(self, versions: str):
        self._say = sys.stdout
        sys.stdout = sys.stderr  # whatever a library prints is no answer
        self.answer(versions=versions)

    def next(self) -> str:
        """Waits for a turn; an empty text is the end."""
        line = sys.stdin.readline().strip()
        self._started = time.perf_counter()
        return line

    def done(self) -> None:
        """Answers with the seconds since the turn was read."""
        self.answer(seconds=time.perf_counter() - self._started)

    def answer(self, **values: Any) -> None:
        print(json.dumps(values), file=self._say, flush=True)


def take(epochs: Callable[[int], None], error: Callable[[], float], versions: str) -> None:
    """Takes turns until there are no more.

    Args:
        epochs: Trains so many epochs.
        error: Returns the members' mean error on held-out examples, a share.
        versions: Of what is measured.
    """
    turns = Turns(versions)
    while line := turns.next():
        if line == "error":
            turns.answer(error=error())
        else:
            epochs(int(line))
            turns.done()
