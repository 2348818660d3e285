"""Requests that arrive while a model is busy are run together.

An idle model starts at once; what arrives meanwhile makes the next batch. So a single client waits for nobody, and
under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from end2_tf.serving.request_error import Code, RequestError, invalid
from end2_tf.serving.settings import Settings
from end2_tf.serving.tensors import Arrays

Function = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class _Task:
    inputs: Arrays
    size: int
    future: asyncio.Future[Arrays]


class Batcher:
    """Runs one function of a model, for many requests at a time; belongs to one event loop.

    Args:
        function: Inputs by name to outputs by name, all with the batch first; run in `executor`.
        settings: Sizes and times.
        executor: Threads.
        threads: Batches that may run at the same time.
        observe: Told the size of each batch.
    """

    def __init__(
        self,
        function: Function,
        settings: Settings,
        executor: Executor,
        threads: int,
        observe: Callable[[int], None] = lambda size: None,
    ):
        self._function, self._settings, self._executor = function, settings, executor
        self._threads, self._observe = threads, observe
        self._tasks: collections.deque[_Task] = collections.deque()
        self.num_queued = 0  # inputs
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, inputs: Arrays) -> Arrays:
        """Returns the outputs.

        Args:
            inputs: Arrays of the same length n ≥ 1, at most `max_queued`, checked against the signature.

        Raises:
            RequestError: the queue is full, or the model refused the inputs.
        """
        size = len(next(iter(inputs.values())))
        limit = self._settings.max_queued
        if self.num_queued + size > limit:
            raise RequestError(
                Code.UNAVAILABLE, f"{self.num_queued:,} inputs are waiting, and {limit:,} may. Try again later."
            )
        step = self._settings.max_batch_size
        loop = asyncio.get_running_loop()
        tasks = [
            _Task({k: v[i : i + step] for k, v in inputs.items()}, min(step, size - i), loop.create_future())
            for i in range(0, max(size, 1), step)
        ]
        self._tasks.extend(tasks)
        self.num_queued += size
        self._start()
        try:
            answers = await asyncio.gather(*(task.future for task in tasks))
        except asyncio.CancelledError:  # nobody waits for the answer any more
            for task in tasks:
                task.future.cancel()
            raise
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _start(self, *, is_due: bool = False) -> None:
        """Starts batches as long as there are tasks and threads."""
        while self._tasks and self._running < self._threads:
            wait = self._settings.batch_timeout
            if wait and not is_due and self.num_queued < self._settings.max_batch_size:
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._on_timer)
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if batch := self._take():
                self._running += 1
                asyncio.get_running_loop().create_task(self._run(batch))

    def _on_timer(self) -> None:
        self._timer = None
        self._start(is_due=True)

    def _take(self) -> list[_Task]:
        batch: list[_Task] = []
        size = 0
        while self._tasks and size + self._tasks[0].size <= self._settings.max_batch_size:
            task = self._tasks.popleft()
            self.num_queued -= task.size
            if not task.future.done():
                batch.append(task)
                size += task.size
        return batch

    async def _run(self, batch: list[_Task]) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._observe(sum(task.size for task in batch))
            answers = await loop.run_in_executor(self._executor, self._answer, [task.inputs for task in batch])
            for task, answer in zip(batch, answers, strict=True):
                if task.future.done():
                    continue
                if isinstance(answer, RequestError):
                    task.future.set_exception(answer)
                else:
                    task.future.set_result(answer)
        except BaseException as error:
            for task in batch:
                if not task.future.done():
                    task.future.set_exception(RequestError(Code.INTERNAL, f"the model failed: {type(error).__name__}"))
            raise
        finally:
            self._running -= 1
            self._start()

    def _answer(self, requests: list[Arrays]) -> list[Arrays | RequestError]:
        """Runs requests together; where one of them makes that fail, each by itself, so that it fails alone."""
        if len(requests) == 1:
            return [self._alone(requests[0])]
        try:
            merged = {name: np.concatenate([each[name] for each in requests]) for name in requests[0]}
            return _split(self._function(merged), requests)
        except Exception:
            return [self._alone(each) for each in requests]

    def _alone(self, inputs: Arrays) -> Arrays | RequestError:
        try:
            return self._function(inputs)
        except RequestError as refused:
            return refused
        except Exception as error:
            said = str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__]
            return invalid(f"the model can't take this input: {said[0][:300]}")


def _split(outputs: Mapping[str, np.ndarray], requests: list[Arrays]) -> list[Arrays | RequestError]:
    ends = np.cumsum([len(next(iter(each.values()))) for each in requests])
    starts = ends - [len(next(iter(each.values()))) for each in requests]
    return [{name: value[a:b] for name, value in outputs.items()} for a, b in zip(starts, ends, strict=True)]
