"""What this machine lends to the process."""

from __future__ import annotations

import os
import sys


def cores() -> list[int]:
    """Returns the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def search_path() -> str:
    """Returns a PYTHONPATH with this process's own search path, in its order, whatever way it was started."""
    return os.pathsep.join(os.path.abspath(folder) for folder in sys.path)


def gpu_of(number: int) -> str:
    """Returns what CUDA_VISIBLE_DEVICES must be for a process that should see one of this process's GPUs alone."""
    mine = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return mine[number] if number < len(mine) else str(number)
