"""What a run says while it works: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_UPDATES = 0.2
SECONDS_OF_STARTING = 60.0  # a first part that took less was mostly compiling, and says nothing of the others

Report = Callable[[str, int, int, dict[str, float]], None]
"""How work tells of itself: (what, done, of, figures).

`of` is 0 where nothing can be counted; the figure `BEFORE` says how much of `done` other processes did earlier.
"""

BEFORE = "before"


class Progress:
    """Reports tasks by name; call it with (what, done, of, figures), as often as you like."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.is_terminal = sys.stderr.isatty()
        self._what, self._started, self._first, self._last, self._shown = "", 0.0, 0, 0, 0.0
        self._is_starting = False
        self._rated = 0, 0.0  # what was done here, and when, from which on the rate is told

    def __call__(self, what: str, done: int, of: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        if what != self._what or done < self._last:  # or the next of several tasks of one name
            self.end()
            self._what, self._started, self._first = what, now, done
            self._rated, self._is_starting = (0, now), done == 0
            self._shown = 0.0 if self.is_terminal else now
        self._first = max(self._first, int(figures.get(BEFORE, 0)))
        here = done - self._first
        if self._is_starting and here > 0:
            self._is_starting = False
            if now - self._started < SECONDS_OF_STARTING:
                self._rated = here, now
        self._last = done
        wait = SECONDS_BETWEEN_UPDATES if self.is_terminal else SECONDS_BETWEEN_LINES
        if self.quiet or (now - self._shown < wait and done != of):
            return
        if not self.is_terminal and now - self._started < 2:
            return  # too short to speak of
        self._shown = now
        numbers = "".join(
            f", {k.replace('_', ' ')} {v:.4g}" for k, v in figures.items() if k in ("loss", "temperature") and v == v
        )
        line = f"  {what}: {done}/{of}{numbers}{self._left(done, of, here, now)}" if of else f"  {what} …"
        if self.is_terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _left(self, done: int, of: int, here: int, now: float) -> str:
        """Returns the time that is left, or that it took; nothing before there is a rate to tell it from."""
        if done == of:
            return f", {_duration(now - self._started)}"
        earlier, since = self._rated
        return f", {_duration((now - since) / (here - earlier) * (of - done))} left" if here > earlier else ""

    def end(self) -> None:
        """Closes the line of the current task."""
        if self._what and self.is_terminal and not self.quiet:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        self._what = ""


class Together:
    """The progress of several trainings as one: the epochs of all of them.

    Of those that haven't begun and aren't among `lengths`, the length is taken to be the mean of the others.

    Args:
        progress: Where to report it.
        what: What is being trained.
        before: How many trainings were done earlier.
        total: How many there are, with those.
        shows_figures: Whether those of one tell of all; losses of different methods can't be compared.
        lengths: How many epochs trainings will have, by task.
    """

    def __init__(
        self,
        progress: Report,
        what: str,
        before: int,
        total: int,
        *,
        shows_figures: bool = True,
        lengths: Mapping[Any, int] | None = None,
    ):
        self.progress, self.what, self.before, self.total = progress, what, before, total
        self.shows_figures, self.lengths = shows_figures, dict(lengths or {})
        self.epochs: dict[Any, tuple[int, int]] = {}
        self.resumed: dict[Any, int] = {}

    def __call__(self, task: Any, what: str, done: int, of: int, figures: dict[str, float]) -> None:
        if what in ("training", "recording"):
            self.epochs[task], self.lengths[task] = (done, of), of
            self.resumed.setdefault(task, max(done - 1, 0))  # a training is first heard of after an epoch
            shown = figures if self.shows_figures else {}
            done_of_all = sum(epochs for epochs, _ in self.epochs.values())
            mean_length = sum(self.lengths.values()) / len(self.lengths)
            before, total = round(self.before * mean_length), round(self.total * mean_length)
            earlier = before + sum(self.resumed.values())
            self.progress(self.what, before + done_of_all, total, {**shown, BEFORE: earlier})


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
