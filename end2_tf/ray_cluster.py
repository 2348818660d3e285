"""Trains on a Ray cluster: each task on whatever node has a free core or GPU, results by files on shared storage.

A task is a worker process of `end2_tf.workers`, which the node's Ray runs and listens to. Of a node that is lost its
tasks start again elsewhere, each from its last checkpoint. All nodes see the workdir and the data under the same paths,
and have this package installed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # a lost node is told below, in words

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from end2_tf import errors, workers
from end2_tf.errors import ConfigError, End2Error
from end2_tf.tasks import Task, Trainer
from end2_tf.workers import TaskReport

_STARTED = "started"


def check(address: str | None) -> None:
    """Raises ConfigError where nothing answers at an address, which Ray itself would try for minutes."""
    if address is None or address in ("auto", "local") or "://" in address:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return
    except (OSError, ValueError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None


def _unreachable(address: str | None, reason: str) -> ConfigError:
    return ConfigError(
        f"--ray_address is {address!r}: {reason.rstrip('.')}. Start a cluster with 'ray start --head', and name it as "
        "that says, or leave --ray_address out."
    )


def train(
    tasks: Sequence[Task],
    trainer: Trainer,
    report: TaskReport,
    *,
    address: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Does tasks on a Ray cluster.

    Args:
        tasks: What to do.
        trainer: What they belong to; its workdir stays locked by this process.
        report: Called with progress.
        address: Of the cluster; None for one that this process is on, or of its own on this machine.
        say: Told which node does what, and what is done again.

    Raises:
        ConfigError: there is no cluster at that address.
        End2Error: what a task raised; the others are cancelled.
    """
    _connect(address)
    try:
        _Drive(tasks, trainer, report, say).run()
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise _unreachable(address, reason) from None


class _Drive:
    """Tasks in flight on a cluster, as the process that asked for them sees them."""

    def __init__(self, tasks: Sequence[Task], trainer: Trainer, report: TaskReport, say: Callable[[str], None]):
        self._report, self._say = report, say
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # What is told must not be lost with another node.
        self._reports: Any = ray.remote(_Reports).options(num_cpus=0, scheduling_strategy=here).remote()
        num_gpus = 1 if ray.cluster_resources().get("GPU") else 0
        work = ray.remote(_work).options(num_cpus=1, num_gpus=num_gpus, max_retries=-1, retry_exceptions=False)
        description = workers.describe(trainer)
        self._tasks = {
            work.remote(description, task, str(trainer.artefact(task).path), bool(num_gpus), self._reports): task
            for task in tasks
        }
        self._nodes: dict[Task, str] = {}

    def run(self) -> None:
        """Waits for all tasks."""
        try:
            while self._tasks:
                done, _ = ray.wait(list(self._tasks), timeout=0.2)
                self._drain()
                for reference in done:
                    self._finish(reference)
        finally:
            for reference in self._tasks:
                ray.cancel(reference, force=True)
            ray.kill(self._reports)

    def _drain(self) -> None:
        for task, what, done, of, figures in ray.get(self._reports.take.remote()):
            if what != _STARTED:
                self._report(task, what, done, of, figures)
                continue
            before, node = self._nodes.get(task), str(figures["node"])
            self._nodes[task] = node
            lost = "" if before is None else f" again, since {before} was lost: it goes on from its checkpoint"
            self._say(f"          {task} on {node}{lost}")

    def _finish(self, reference: Any) -> None:
        del self._tasks[reference]
        try:
            ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, End2Error):
                raise getattr(errors, type(error.cause).__name__)(str(error.cause)) from None
            raise


class _Reports:
    """Keeps what tasks tell until it is asked for: an actor."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, ...]] = []

    def put(self, report: tuple[Any, ...]) -> None:
        self._kept.append(report)

    def ready(self) -> None:
        """Answers once all that the caller put before is kept."""

    def take(self) -> list[tuple[Any, ...]]:
        kept, self._kept = self._kept, []
        return kept


def _work(description: dict[str, Any], task: Task, path: str, has_gpu: bool, reports: Any) -> None:
    """Does one task, on a node."""
    node = ray.util.get_node_ip_address()
    number = ray.get_runtime_context().get_node_id()[:6]
    # Ray lends the core of a task that waits for an answer to another task: only the end waits until all has arrived.

    def tell(*report: Any) -> None:
        reports.put.remote(report)

    tell(task, _STARTED, 0, 0, {"node": f"node {node} ({number})"})
    try:
        workers.run(description, {task: path}, 1, tell, gpus=int(has_gpu))
    finally:
        ray.get(reports.ready.remote())
