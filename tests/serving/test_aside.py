"""What keeps the event loop from other requests is done in a thread."""

import asyncio
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from end2_tf.reading import images
from end2_tf.serving import rest, rpc
from end2_tf.serving.monitoring import Monitor
from end2_tf.serving.request_error import RequestError
from end2_tf.serving.tensors import IMAGES, Signature, Spec

TEXT = Signature("serving_default", {IMAGES: Spec(np.dtype(object), (None,))}, {})
MONITOR = Monitor(lambda: ())


class _Servable:
    name, version, signatures, max_inputs = "m", 1, {TEXT.name: TEXT}, 3

    async def __call__(self, signature, inputs):
        return {"size": np.array([len(each) for each in inputs[IMAGES]])}


async def _rest(contents):
    await rest.predict(_Servable(), json.dumps({"instances": contents}).encode(), MONITOR)


async def _grpc(contents):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs[IMAGES].CopyFrom(tf.make_tensor_proto(contents))
    models = SimpleNamespace(get=lambda *args: _Servable())
    await rpc._Predictions(models, MONITOR)._predict(request)


@pytest.mark.parametrize("ask", [_rest, _grpc])
def test_images_are_opened_in_a_thread_and_only_as_many_as_are_allowed(monkeypatch, ask):
    threads = []
    monkeypatch.setattr(images, "check_encoded", lambda content: threads.append(threading.current_thread()) or "")
    asyncio.run(ask(["a", "b"]))
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    with pytest.raises(RequestError, match=r"^the request has 4 inputs\. Allowed: 3\. Send it in pieces\.$"):
        asyncio.run(ask(["a", "b", "c", "d"]))
    assert len(threads) == 2
