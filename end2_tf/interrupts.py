"""SIGINT and SIGTERM as exceptions that never come at a moment that would lose something."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_depth = 0
_pending: BaseException | None = None


class Terminated(BaseException):
    """SIGTERM came: another machine wants this one, or a scheduler its time back. What can be saved is saved."""


def install() -> None:
    """Makes SIGINT raise KeyboardInterrupt and SIGTERM Terminated, in the main thread, outside of `deferred`."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """A block that isn't interrupted: what comes meanwhile is raised at its end, unless another error is."""
    global _depth, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    error = None
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            error, _pending = _pending, None
    if error is not None:
        raise error


def _on_signal(number: int, _: FrameType | None) -> None:
    global _pending
    error = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
    if _depth:
        _pending = error
    else:
        raise error
