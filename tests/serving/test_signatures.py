"""Signatures of other tools' models: scalars, constants, fixed sizes."""

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from end2_tf.serving.catalogue import Model

pytestmark = pytest.mark.slow  # the first starts a server

WORDS = [b"a", b"b", b"c", b"d", b"e", b"f"]


class _Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32)])
    def constant(self, x):
        return {"y": 2 * x, "vocab": tf.constant(WORDS)}

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32), tf.TensorSpec((3,), tf.float32)])
    def scalar(self, a, x):
        return {"y": a * x, "sum": tf.reduce_sum(a * x), "word": tf.constant(b"a")}

    @tf.function(input_signature=[tf.TensorSpec((1, 2), tf.float32)])
    def one(self, x):
        return {"y": 2 * x}

    @tf.function(input_signature=[])
    def nothing(self):
        return {"y": tf.constant([1.0])}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    module = _Module()
    names = ("constant", "scalar", "one", "nothing")
    tf.saved_model.save(module, str(folder / "1"), {name: getattr(module, name) for name in names})
    return folder


@pytest.fixture
def server(serve, other):
    return serve([Model("other", other)])


def test_constants_scalars_and_fixed_sizes(server, pool):
    def ask(signature, **request):
        url = f"{server.rest}/v1/models/other:predict"
        answer = requests.post(url, json={"signature_name": signature, **request}, timeout=30)
        return answer.json().get("outputs", answer.json())

    points = [[1.0, 2.0], [3.0, 4.0]]
    asked = [pool.submit(ask, "constant", inputs=points) for _ in range(32)]
    assert all(each.result() == {"y": [[2, 4], [6, 8]], "vocab": list("abcdef")} for each in asked)
    assert ask("constant", instances=points)["error"] == (
        "vocab is string (6), which are no rows of 2 instances. Send 'inputs' (columns) instead of 'instances'."
    )
    assert ask("scalar", inputs={"a": 2, "x": [1, 2, 3]}) == {"y": [2, 4, 6], "sum": 12, "word": "a"}
    assert ask("scalar", inputs={"a": 1e30, "x": [1e30, 0, 0]})["sum"] == np.inf
    assert ask("one", instances=[[1, 2]]) == {"predictions": [[2, 4]]}
    assert ask("one", inputs=[[1, 2], [3, 4]])["error"].startswith("x has shape (2, 2). Allowed: float32 (1, 2)")
    assert ask("nothing", inputs={}) == [1]
    assert ask("nothing", instances=[{}])["error"].startswith("y is float32 (1), which are no rows of 0 instances.")


def test_scalars_by_grpc(server):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "other", "scalar"
    for name, value in {"a": 2.0, "x": [1.0, 2.0, 3.0]}.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    with grpc.insecure_channel(server.grpc) as channel:
        outputs = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30).outputs
    assert tf.make_ndarray(outputs["sum"]) == 12
    assert tf.make_ndarray(outputs["word"]).tolist() == b"a"
    assert tf.make_ndarray(outputs["y"]).tolist() == [2, 4, 6]
