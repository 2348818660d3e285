"""Batches: what is run together, what waits, what is refused, and that a request's fault stays its own."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from end2_tf import config
from end2_tf.serving.batching import Batcher
from end2_tf.serving.request_error import Code, RequestError, invalid
from end2_tf.serving.settings import Settings


class Model:
    """Doubles its inputs; holds each batch until it is let go."""

    def __init__(self):
        self.sizes, self.gate, self.begun = [], threading.Event(), threading.Semaphore(0)

    def __call__(self, inputs):
        values = inputs["x"]
        self.sizes.append(len(values))
        self.begun.release()
        assert self.gate.wait(10)
        if (values < 0).any():
            raise ValueError("an input below 0\nand more")
        return {"y": 2 * values}


class Constant(Model):
    """Has an output beside that isn't one for each input."""

    def __call__(self, inputs):
        return super().__call__(inputs) | {"names": np.array([b"a", b"b", b"c"], object)}


def _run(scenario, model=None, threads=1, is_batched=True, **settings):
    model = model or Model()

    async def main():
        with ThreadPoolExecutor(threads) as executor:
            how = config.build(Settings, "serving", **settings)
            try:
                batcher = Batcher(model, how, executor, threads, is_batched=is_batched)
                return await asyncio.wait_for(scenario(batcher, model), 20)
            finally:
                model.gate.set()

    return asyncio.run(main())


def _x(*values):
    return {"x": np.array(values, np.float32)}


async def _until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def _begun(model):
    await _until(lambda: model.begun.acquire(blocking=False))


def test_an_idle_model_starts_at_once_and_what_arrives_meanwhile_is_one_batch():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(1)))
        await _begun(model)
        others = [asyncio.create_task(batcher(_x(i, i + 0.5))) for i in range(2, 5)]
        await _until(lambda: batcher.num_queued == 6)
        model.gate.set()
        answers = await asyncio.gather(first, *others)
        assert model.sizes == [1, 6]
        assert [answer["y"].tolist() for answer in answers] == [[2.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]
        assert batcher.num_queued == 0

    _run(scenario)


def test_batches_have_a_largest_size_and_large_requests_are_run_in_pieces():
    async def scenario(batcher, model):
        model.gate.set()
        answer = await batcher(_x(*range(10)))
        assert answer["y"].tolist() == [2.0 * i for i in range(10)]
        assert model.sizes == [4, 4, 2]

    _run(scenario, max_batch_size=4)


def test_a_full_queue_refuses_and_goes_on():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(0)))
        await _begun(model)
        waiting = asyncio.create_task(batcher(_x(1, 2)))
        await _until(lambda: batcher.num_queued == 2)
        with pytest.raises(RequestError, match=r"^2 inputs are waiting, and 3 may\. Try again later\.$") as caught:
            await batcher(_x(3, 4))
        assert caught.value.code is Code.UNAVAILABLE
        model.gate.set()
        assert [a["y"].tolist() for a in await asyncio.gather(first, waiting)] == [[0.0], [2.0, 4.0]]
        assert (await batcher(_x(5)))["y"].tolist() == [10.0]

    _run(scenario, max_queued=3)


def test_a_bad_input_fails_alone():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(0)))
        await _begun(model)
        tasks = [asyncio.create_task(batcher(_x(value))) for value in (1, -1, 2)]
        await _until(lambda: batcher.num_queued == 3)
        model.gate.set()
        answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [a["y"].tolist() for a in (answers[0], answers[1], answers[3])] == [[0.0], [2.0], [4.0]]
        assert isinstance(answers[2], RequestError)
        assert str(answers[2]) == "the model can't take this input: an input below 0"

    _run(scenario)


def test_a_refusal_of_the_model_keeps_its_words():
    def refuse(inputs):
        raise invalid("no")

    async def scenario(batcher, model):
        with pytest.raises(RequestError, match=r"^no$"):
            await batcher(_x(1))

    refuse.gate = threading.Event()
    _run(scenario, refuse)


def test_whoever_goes_away_isnt_waited_for_and_frees_the_queue():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(0)))
        await _begun(model)
        gone = asyncio.create_task(batcher(_x(1, 2)))
        stays = asyncio.create_task(batcher(_x(3)))
        await _until(lambda: batcher.num_queued == 3)
        gone.cancel()
        await asyncio.wait({gone})
        model.gate.set()
        assert (await stays)["y"].tolist() == [6.0]
        await first
        assert model.sizes == [1, 1]
        assert batcher.num_queued == 0

    _run(scenario)


def test_as_many_batches_as_threads_run_at_a_time():
    async def scenario(batcher, model):
        tasks = [asyncio.create_task(batcher(_x(i))) for i in range(4)]
        await _until(lambda: len(model.sizes) == 2)
        await _until(lambda: batcher.num_queued == 2)
        model.gate.set()
        await asyncio.gather(*tasks)
        assert model.sizes == [1, 1, 2]

    _run(scenario, threads=2)


def test_a_batch_may_wait_to_be_filled():
    async def scenario(batcher, model):
        model.gate.set()
        tasks = [asyncio.create_task(batcher(_x(i))) for i in range(3)]
        await asyncio.gather(*tasks)
        assert model.sizes == [3]  # full before its time
        await batcher(_x(9))
        assert model.sizes == [3, 1]  # its time had come

    _run(scenario, max_batch_size=3, batch_timeout=0.05)


def test_an_output_without_a_batch_is_cut_up_for_nobody():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(0)))
        await _begun(model)
        tasks = [asyncio.create_task(batcher(_x(i, i))) for i in range(2)]
        await _until(lambda: batcher.num_queued == 4)
        model.gate.set()
        answers = await asyncio.gather(first, *tasks)
        assert [answer["y"].tolist() for answer in answers] == [[0.0], [0.0, 0.0], [2.0, 2.0]]
        assert all(answer["names"].tolist() == [b"a", b"b", b"c"] for answer in answers)
        with pytest.raises(RequestError, match=r"^names isn't one for each input, so .* in pieces\. Send at most 4\.$"):
            await batcher(_x(*range(5)))

    _run(scenario, Constant(), max_batch_size=4)


def test_without_a_batch_each_request_is_run_by_itself():
    async def scenario(batcher, model):
        first = asyncio.create_task(batcher(_x(0)))
        await _begun(model)
        tasks = [asyncio.create_task(batcher(_x(*range(i)))) for i in (3, 1)]
        await _until(lambda: batcher.num_queued == 2)
        model.gate.set()
        answers = await asyncio.gather(first, *tasks)
        assert [answer["y"].tolist() for answer in answers] == [[0.0], [0.0, 2.0, 4.0], [0.0]]
        assert model.sizes == [1, 3, 1]

    _run(scenario, is_batched=False, max_batch_size=2)
