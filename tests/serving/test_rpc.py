"""The gRPC API, asked by stubs made of TensorFlow Serving's own protos."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from end2_tf.serving import catalogue

pytestmark = pytest.mark.slow  # the first starts a server

POINTS = np.random.default_rng(6).normal(120, 60, (5, 2)).astype(np.float32)
CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def stubs(served):
    with grpc.insecure_channel(served.grpc) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def _request(name="points", signature="", inputs=None, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for key, value in ({"inputs": POINTS} if inputs is None else inputs).items():
        request.inputs[key].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    return request


@pytest.mark.parametrize(
    ("spec", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1), ({"label": "canary"}, 2)]
)
def test_predictions_are_the_models(stubs, exported, spec, version):
    response = stubs[0].Predict(_request(**spec), timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("points", version)
    assert response.model_spec.signature_name == "serving_default"
    expected = exported[1]["points", version].predict(POINTS, verbose=0)
    got = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    assert set(got) == {*expected, "predicted_class"} - {"logits"}
    for name in ("probs", "alphas", "knowledge_uncertainty"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)
        assert got[name].dtype == np.float32


def test_a_filter_keeps_outputs(stubs):
    request = _request(signature="decide")
    request.output_filter.extend(["abstain"])
    assert list(stubs[0].Predict(request, timeout=30).outputs) == ["abstain"]


def test_images_as_strings(stubs, exported):
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    encoded = tf.make_tensor_proto([tf.io.encode_png(image).numpy() for image in images])
    response = stubs[0].Predict(_request("images", "serve_bytes", {"image_bytes": encoded}), timeout=30)
    expected = exported[1]["images", 1].predict(images, verbose=0)["probs"]
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["probs"]), expected, rtol=1e-5)


def _bomb():
    proto = tf.make_tensor_proto(np.float32(1))
    proto.tensor_shape.CopyFrom(tf.TensorShape([10**9, 2]).as_proto())
    return proto


def _broken():
    proto = tf.make_tensor_proto(POINTS)
    proto.tensor_content = proto.tensor_content[:-3]
    return proto


REFUSED = [
    (_request(""), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
    (_request("nothing"), CODE.NOT_FOUND, "Servable not found for request: Latest(nothing)"),
    (_request(version=9), CODE.NOT_FOUND, "Servable not found for request: Specific(points, 9)"),
    (_request(label="x"), CODE.INVALID_ARGUMENT, "Unrecognized servable version label: x."),
    (_request(signature="x"), CODE.INVALID_ARGUMENT, "signature_name is 'x'"),
    (_request(inputs={}), CODE.INVALID_ARGUMENT, "inputs are none. Allowed: inputs."),
    (_request(inputs={"x": POINTS}), CODE.INVALID_ARGUMENT, "inputs are x. Allowed: inputs."),
    (_request(inputs={"inputs": POINTS.astype(np.float64)}), CODE.INVALID_ARGUMENT, "inputs is float64 (5, 2)."),
    (_request(inputs={"inputs": POINTS[:, 0]}), CODE.INVALID_ARGUMENT, "inputs has shape (5)."),
    (_request(inputs={"inputs": POINTS[:0]}), CODE.INVALID_ARGUMENT, "the request has no inputs."),
    (_request(inputs={"inputs": _bomb()}), CODE.INVALID_ARGUMENT, "inputs has shape (1000000000, 2), but 1 values"),
    (_request(inputs={"inputs": _broken()}), CODE.INVALID_ARGUMENT, "inputs is no tensor: "),
]


@pytest.mark.parametrize(("request_", "code", "message"), REFUSED)
def test_what_is_refused(stubs, request_, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(request_, timeout=30)
    assert caught.value.code() is code
    assert caught.value.details().startswith(message)


def test_an_unknown_output(stubs):
    request = _request()
    request.output_filter.extend(["probs", "prob"])
    with pytest.raises(grpc.RpcError, match="output_filter has 'prob'"):
        stubs[0].Predict(request, timeout=30)


def test_what_isnt_served(stubs):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Classify(classification_pb2.ClassificationRequest(), timeout=30)
    assert caught.value.code() is CODE.UNIMPLEMENTED


def test_metadata(stubs):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "images"
    response = stubs[0].GetModelMetadata(request, timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "serve_bytes", "decide"}
    assert response.model_spec.version.value == 1
    with pytest.raises(grpc.RpcError, match="metadata_field is empty"):
        stubs[0].GetModelMetadata(get_model_metadata_pb2.GetModelMetadataRequest(), timeout=30)


def test_status(stubs):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "points"
    states = {each.version: each.state for each in stubs[1].GetModelStatus(request, timeout=30).model_version_status}
    assert states == dict.fromkeys((1, 2), get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    request.model_spec.name = "nothing"
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].GetModelStatus(request, timeout=30)
    assert caught.value.code() is CODE.NOT_FOUND


def test_too_large(serve, exported):
    server = serve([m for m in catalogue.find(exported[0]) if m.name == "points"], max_request_bytes=1000)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(_request(inputs={"inputs": np.zeros((1000, 2), np.float32)}), timeout=30)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        assert stub.Predict(_request(), timeout=30).outputs
