"""Requests by REST and gRPC, lists of models, exported models."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import predict_pb2

from end2_tf.errors import End2Error
from end2_tf.reading import protos, saved_models
from end2_tf.serving import catalogue, tensors
from end2_tf.serving.request_error import RequestError
from end2_tf.serving.tensors import Signature, Spec

INSTRUMENT = ["end2_tf.reading", "end2_tf.serving.tensors", "end2_tf.serving.catalogue", "json"]
REFUSALS = (RequestError,)

SIGNATURES = {
    "serving_default": Signature("serving_default", {"inputs": Spec(np.dtype(np.float32), (None, 2))}, {}),
    "pixels": Signature("pixels", {"inputs": Spec(np.dtype(np.uint8), (None, 2, 2, 1))}, {}),
    "serve_bytes": Signature("serve_bytes", {"image_bytes": Spec(np.dtype(object), (None,))}, {}),
}


def _graph() -> bytes:
    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add()
    graph.object_graph_def.concrete_functions["f"].SetInParent()
    function = graph.graph_def.library.function.add()
    function.signature.name = "f"
    function.node_def.add(name="n", op="AddV2")
    return model.SerializeToString()


def _request() -> bytes:
    request = predict_pb2.PredictRequest()
    request.inputs["inputs"].CopyFrom(tensor_util.make_tensor_proto(np.ones((2, 2), np.float32)))
    return request.SerializeToString()


SEEDS = [
    b'{"instances": [[1, 2], [3, NaN]]}',
    b'{"signature_name": "pixels", "inputs": {"inputs": [[[[1], [2]], [[3], [4]]]]}}',
    b'{"signature_name": "serve_bytes", "instances": [{"b64": "iVBORw0KGgo="}]}',
    b'{"instances": [{"inputs": [1, 2]}]}',
    b"model_config_list { config { name: 'a' base_path: '/b' version_labels { key: 'stable' value: 1 } } }",
    tensor_util.make_tensor_proto(np.ones((2, 2), np.float32)).SerializeToString(),
    tensor_util.make_tensor_proto([b"a", b"b"]).SerializeToString(),
    _request(),
    _graph(),
]


def read(content: bytes, folder: Path) -> None:
    for name in ("models.config", saved_models.FILE):
        (folder / name).write_bytes(content)
    for each in (lambda: catalogue.read(folder / "models.config"), lambda: saved_models.check(folder)):
        with contextlib.suppress(End2Error):
            each()
    with contextlib.suppress(DecodeError, ValueError):
        protos.array(tensor_pb2.TensorProto.FromString(content))
    with contextlib.suppress(DecodeError, ValueError):
        for value in predict_pb2.PredictRequest.FromString(content).inputs.values():
            protos.array(value)
    signature, _, inputs = tensors.parse(content, SIGNATURES)
    tensors.check(inputs, signature, 16_384)
