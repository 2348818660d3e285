"""Requests that arrive while a model is busy are run together.

An idle model starts at once; what arrives meanwhile makes the next batch. So a single client waits for nobody, and
under load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
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
        function: Inputs by name to outputs by name; run in `executor`.
        settings: Sizes and times.
        executor: Threads.
        threads: Batches that may run at the same time.
        observe: Told the size of each batch.
        is_batched: Whether the function's arrays have a batch; else each request is run by itself, and counts as one.
    """

    def __init__(
        self,
        function: Function,
        settings: Settings,
        executor: Executor,
        threads: int,
        observe: Callable[[int], None] = lambda size: None,
        *,
        is_batched: bool = True,
    ):
        self._is_batched, self._max_batch_size = is_batched, settings.max_batch_size if is_batched else 1
        self._function, self._settings, self._executor = function, settings, executor
        self._threads, self._observe = threads, observe
        self._tasks: collections.deque[_Task] = collections.deque()
        self.num_queued = 0  # inputs
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, inputs: Arrays) -> Arrays:
        """Returns the outputs.

        Args:
            inputs: Arrays checked against the signature; with a batch, of the same length n, 1 to `max_queued`.

        Raises:
            RequestError: the queue is full, or the model refused the inputs.
        """
        size = _size(inputs) if self._is_batched else 1
        limit = self._settings.max_queued
        if self.num_queued + size > limit:
            raise RequestError(
                Code.UNAVAILABLE, f"{self.num_queued:,} inputs are waiting, and {limit:,} may. Try again later."
            )
        step = self._max_batch_size
        loop = asyncio.get_running_loop()
        pieces = [inputs]
        if size > step:
            pieces = [{name: v[i : i + step] for name, v in inputs.items()} for i in range(0, size, step)]
        tasks = [_Task(each, min(step, size - i * step), loop.create_future()) for i, each in enumerate(pieces)]
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
        for answer, task in zip(answers, tasks, strict=True):
            if name := _unbatched(answer, task.size):
                raise invalid(f"{name} isn't one for each input, so it can't be told in pieces. Send at most {step:,}.")
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _start(self, *, is_due: bool = False) -> None:
        """Starts batches as long as there are tasks and threads."""
        while self._tasks and self._running < self._threads:
            wait = self._settings.batch_timeout
            if wait and not is_due and self.num_queued < self._max_batch_size:
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
        while self._tasks and size + self._tasks[0].size <= self._max_batch_size:
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


def _split(outputs: Arrays, requests: list[Arrays]) -> list[Arrays | RequestError]:
    sizes = [_size(each) for each in requests]
    if name := _unbatched(outputs, sum(sizes)):
        raise ValueError(f"{name} isn't one for each input")
    ends = np.cumsum(sizes)
    return [{name: value[a:b] for name, value in outputs.items()} for a, b in zip(ends - sizes, ends, strict=True)]


def _size(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _unbatched(outputs: Arrays, size: int) -> str | None:
    """Returns the name of an output that isn't one for each input, if there is one: signatures needn't tell."""
    return next((name for name, value in outputs.items() if value.shape[:1] != (size,)), None)
