"""Work that would keep the event loop from other requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LARGE = 100_000  # bytes; larger messages are read and written in a thread


async def aside(is_long: bool, function: Callable[..., Any], *args: Any) -> Any:
    """Returns what a function returns; it is run in a thread if it takes longer than a thread does."""
    return await asyncio.to_thread(function, *args) if is_long else function(*args)
