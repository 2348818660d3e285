"""Whether arrays fit in memory, asked before they are allocated."""

from __future__ import annotations

import os
from pathlib import Path

from end2_tf.errors import DataError

_CGROUP = Path("/sys/fs/cgroup")
_RECLAIMABLE = ("active_file", "inactive_file", "slab_reclaimable")  # counted as used, and given up when asked for


class NoRoomError(DataError):
    """What is read may be sound, but there isn't the memory for it."""


def available_bytes() -> int | None:
    """Returns the bytes that may still be allocated, or None where the system doesn't say.

    The smaller of what the machine has left and what the container's limit leaves: a container sees the whole
    machine's memory, and is killed without a message when it goes over its own share.
    """
    candidates = [_machine(), _container()]
    known = [value for value in candidates if value is not None]
    return min(known) if known else None


def check_fits(num_bytes: int, what: str, next_step: str) -> None:
    """Raises NoRoomError, a DataError, if `num_bytes` is more than the memory that is left.

    Args:
        num_bytes: Bytes that are about to be allocated.
        what: The start of the message: what needs them.
        next_step: Its end: what to do about it.
    """
    available = available_bytes()
    if available is not None and num_bytes > available:
        raise NoRoomError(
            f"{what} needs {_gigabytes(num_bytes)} of memory; {_gigabytes(available)} are left. {next_step}"
        )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text())
        parts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return int(limit) - used + sum(int(parts.get(name, 0)) for name in _RECLAIMABLE)
    except (OSError, ValueError):
        return None  # no container, or an older interface
