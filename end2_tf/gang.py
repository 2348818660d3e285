"""Starts processes of this machine that train together, and starts all of them again when one dies.

On several machines a scheduler does that: it sets TF_CONFIG and runs the command on each.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any

from end2_tf import machine
from end2_tf.errors import ConfigError, DataError, TrainingError, WorkdirError
from end2_tf.interrupts import Terminated

MAX_RESTARTS = 3
GRACE_SECONDS = 20.0
_FINAL = {error.exit_code for error in (ConfigError, DataError, WorkdirError, TrainingError)}  # again it ends so


def run(command: Sequence[str], num: int) -> int:
    """Runs a command in `num` processes with a TF_CONFIG each; returns the exit code of the first one.

    Where one of them dies the others' collectives fail, so all are ended and start again, from the last checkpoint.

    Args:
        command: Its output is that of the first process.
        num: How many.

    Raises:
        TrainingError: they died again and again; says of what.
    """
    for attempt in range(MAX_RESTARTS + 1):
        code, what = _run_once(command, num)
        if code == 0 or code in _FINAL:
            return code
        if attempt < MAX_RESTARTS:
            told = f"  {what}: all start again from the last checkpoint ({attempt + 1} of {MAX_RESTARTS})"
            print(told, file=sys.stderr, flush=True)
    raise TrainingError(f"{what}, for the {MAX_RESTARTS + 1}th time. Run the same command again: it goes on from here.")


def _run_once(command: Sequence[str], num: int) -> tuple[int, str]:
    """Returns 0, or the exit code of the process that failed first, and what to say of it."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(num)]}
    crew: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(num - 1)]
        try:
            for index in range(num):
                config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
                environment = {**os.environ, "PYTHONPATH": machine.search_path(), "TF_CONFIG": config}
                streams: dict[str, Any] = {} if index == 0 else {"stdout": logs[index - 1], "stderr": logs[index - 1]}
                crew.append(subprocess.Popen(command, env=environment, **streams))
            while True:
                codes = {index: process.poll() for index, process in enumerate(crew)}
                failed = [(code, index) for index, code in codes.items() if code]
                if failed:
                    code, index = min(failed)  # of one that was killed the others die
                    return code, f"worker {index} {_how(code, logs[index - 1] if index else None)}"
                if not any(code is None for code in codes.values()):
                    return 0, ""
                time.sleep(0.2)
        except (KeyboardInterrupt, Terminated):
            _terminate(crew)
            raise
        finally:
            for process in crew:
                process.kill()
                process.wait()


def _how(code: int, log: IO[bytes] | None) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    last = ""
    if log is not None:
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1][:300]}" if lines else ""
    return f"ended with exit code {code}{last}"


def _terminate(crew: Sequence[subprocess.Popen[bytes]]) -> None:
    """Gives processes the time to save what they have."""
    for process in crew:
        process.terminate()
    until = time.monotonic() + GRACE_SECONDS
    for process in crew:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))


def _free_ports(num: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
