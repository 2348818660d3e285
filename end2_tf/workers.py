"""Trains side by side: fresh processes, each with one thread and core, or a GPU, which take tasks until none is left.

Small networks don't fill several threads; two processes of one thread train up to twice the examples of one process of
two. The parent writes a worker's standard input: first what the run is, then a task at a time. The worker answers on
its standard output. Both speak JSON, a message a line. When its input ends a worker ends at once, so none outlives its
parent, however that died; what it leaves unfinished goes on from its checkpoint.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from end2_tf import checkpoint, config, errors, interrupts, machine
from end2_tf.errors import End2Error, TrainingError
from end2_tf.interrupts import Terminated
from end2_tf.progress import Report
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Workdir

# TensorFlow leaves oneDNN off on processors without AVX-512, where CNNs train 1.6 times as fast with it all the same.
# It takes all of a GPU's memory at once unless told not to, and there may be several workers on one.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "KERAS_BACKEND": "tensorflow",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
GRACE_SECONDS = 10.0  # for workers to save what they have, where they are terminated
COMMAND = (sys.executable, "-P", "-m", "end2_tf.workers")

TaskReport = Callable[[Task, str, int, int, dict[str, float]], None]
"""(task, what, done, of, figures): a worker's `progress.Report`."""


def train(tasks: Sequence[Task], num_workers: int, trainer: Trainer, report: TaskReport, *, gpus: int = 0) -> None:
    """Does tasks in worker processes.

    Args:
        tasks: What to do, in this order.
        num_workers: How many processes, at most one a task.
        trainer: What the tasks belong to; its workdir stays locked by this process.
        report: Called with progress.
        gpus: Among how many GPUs they are dealt out; 0 where each has a core.

    Raises:
        End2Error: what a task raised; the others are ended.
        TrainingError: a worker died; says of what.
    """
    places = {task: str(trainer.artefact(task).path) for task in tasks}
    run(describe(trainer), places, num_workers, report, gpus=gpus)


def run(
    description: dict[str, Any],
    places: Mapping[Task, str],
    num_workers: int,
    report: TaskReport,
    *,
    gpus: int = 0,
) -> None:
    """Does tasks in worker processes, without a trainer of its own; see `train`.

    Args:
        description: What `describe` says of their trainer.
        places: The tasks, and for each the folder where its result is kept.
        num_workers, report, gpus: See `train`.
    """
    events: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    waiting = collections.deque(places)
    crew: list[_Worker] = []
    cores = machine.cores()
    try:
        for number in range(min(num_workers, len(places))):
            # With fewer workers than cores the system places them better: two runs would pin to the same ones.
            core = cores[number] if num_workers == len(cores) and not gpus else None
            own = {"core": core, "threads": None if gpus else 1}
            crew.append(_Worker(description | own, events, machine.gpu_of(number % gpus) if gpus else None))
            crew[-1].give(waiting.popleft(), places)
        while any(worker.task for worker in crew):
            worker, message = events.get()
            if worker.task is None:
                continue  # the end of one that has nothing left to do
            if message is None:
                raise worker.death()
            if "progress" in message:
                report(worker.task, *message["progress"])
            elif "error" in message:
                raise getattr(errors, message["error"])(message["text"])
            elif "crash" in message:
                raise RuntimeError(f"{worker.task} failed in a process of its own:\n{message['crash']}")
            elif waiting:
                worker.give(waiting.popleft(), places)
            else:
                worker.dismiss()
    except (KeyboardInterrupt, Terminated):
        for worker in crew:
            worker.terminate()
        until = time.monotonic() + GRACE_SECONDS
        for worker in crew:
            worker.wait(until - time.monotonic())
        raise
    finally:
        for worker in crew:
            worker.stop()


def describe(trainer: Trainer) -> dict[str, Any]:
    """Returns what a worker needs to know to do a trainer's tasks, as JSON has it."""
    return {
        **_own(trainer),
        "variants": {name: _own(variant) for name, variant in trainer.variants.items()},
        "workdir": str(trainer.root.path),
        "data_dir": trainer.data_dir,
        "deterministic": trainer.deterministic,
        "shared_by": trainer.shared_by,
        "seconds_between": checkpoint.SECONDS_BETWEEN,
    }


def _own(trainer: Trainer) -> dict[str, Any]:
    """Returns what is a trainer's own among several of one workdir."""
    experiment = trainer.experiment
    data = dataclasses.replace(experiment.data, ood={}, shifted={})  # of no use in training
    return {
        "experiment": config.to_dict(dataclasses.replace(experiment, data=data)),
        "prints": trainer.plan.prints,
    }


class _Worker:
    """A worker as its parent sees it: a process, and the task that it is at."""

    def __init__(self, description: dict[str, Any], events: queue.SimpleQueue[Any], gpu: str | None = None):
        self.task: Task | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        own = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**ENVIRONMENT, **os.environ, **own, "PYTHONPATH": machine.search_path()},
        )
        self._streams: tuple[Any, Any, Any] = (self._process.stdin, self._process.stdout, self._errors)
        self._reader = threading.Thread(target=self._listen, args=(self._process.stdout, events), daemon=True)
        self._reader.start()
        self._send(description)

    def _listen(self, answers: Any, events: queue.SimpleQueue[Any]) -> None:
        try:
            for line in answers:
                if line.endswith("\n"):  # else it died while it wrote
                    events.put((self, json.loads(line)))
        finally:
            events.put((self, None))

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is dead, which the end of its output tells
            print(json.dumps(message), file=self._process.stdin, flush=True)

    def give(self, task: Task, places: Mapping[Task, str]) -> None:
        self.task = task
        self._send({"task": dataclasses.asdict(task), "path": places[task]})

    def dismiss(self) -> None:
        self.task = None
        self.stop()

    def terminate(self) -> None:
        """Asks the process to save what it has and end."""
        self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Waits for the process to end, for so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds))

    def stop(self) -> None:
        """Ends the process at once; called again it does nothing."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in self._streams:
            with contextlib.suppress(OSError):  # what was still to be written to a dead process
                stream.close()

    def death(self) -> TrainingError:
        """Returns what to tell of a process that ended in the middle of its task."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((f": {line.strip()[:300]}" for line in reversed(lines) if line.strip()), "")
        if code == -9:
            how = "was ended by signal 9 (Killed), as the system does when memory runs out; --jobs=1 takes the least"
        elif code < 0:
            how = f"was ended by signal {-code} ({signal.strsignal(-code)}){last}"
        else:
            how = f"ended with exit code {code}{last}"
        return TrainingError(
            f"the process training {self.task} {how.rstrip('.')}. Run the same command again: it goes on from here."
        )


# What follows happens in the worker.


def main() -> None:
    """Does the tasks that standard input names, until it ends."""
    interrupts.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which terminates its workers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that whatever libraries print is no answer

    def send(**message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_fill, args=(inbox,), daemon=True).start()
    try:
        trainer = _open(inbox.get())
        while True:
            _do(inbox.get(), trainer, lambda *progress: send(progress=progress))
            send(done=True)
    except Terminated:
        pass  # by its parent, which knows
    except End2Error as error:
        send(error=type(error).__name__, text=str(error))
    except Exception:
        send(crash=traceback.format_exc())


def _fill(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    try:
        for line in sys.stdin:
            inbox.put(json.loads(line))  # its parent may have died in the middle of a line
    finally:
        os._exit(0)


def _open(description: dict[str, Any]) -> Trainer:
    prepare(description["core"], description["threads"], description["deterministic"])
    checkpoint.SECONDS_BETWEEN = description["seconds_between"]
    root = Workdir(description["workdir"])

    def make(own: dict[str, Any]) -> Trainer:
        trainer = Trainer(
            config.from_dict(own["experiment"]),
            root,
            data_dir=description["data_dir"],
            deterministic=description["deterministic"],
            shared_by=description["shared_by"],
        )
        trainer.plan.prints = own["prints"]
        return trainer

    trainer = make(description)
    trainer.variants = {name: make(own) for name, own in description["variants"].items()}
    return trainer


def prepare(core: int | None, threads: int | None, deterministic: bool = False) -> None:
    """Sets up a process for its trainings, before TensorFlow starts.

    Args:
        core: The one it keeps to; None for any.
        threads: Of an operation, and how many operations run at once; None for TensorFlow's choice.
        deterministic: Whether results must be bit-equal.
    """
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
    _start_tensorflow(deterministic, threads)


def _start_tensorflow(deterministic: bool, threads: int | None) -> None:
    import tensorflow as tf

    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _do(message: dict[str, Any], trainer: Trainer, report: Report) -> None:
    task = Task(**message["task"])
    if str(trainer.artefact(task).path) != message["path"]:
        raise TrainingError(
            f"{task} can't be trained: end2_tf's files, or the ensemble's, changed since the run began. "
            "Run the same command again: it goes on from here."
        )
    mine = trainer.of(task)
    for other in trainer.variants.values():
        if other is not mine:
            mine.borrow(other)
            other.forget()  # else a worker would hold every variant's data
    trainer.train(task, report)


if __name__ == "__main__":
    main()
