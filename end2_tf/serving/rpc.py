"""TensorFlow Serving's gRPC API: `PredictionService` and `ModelService` from its published protos."""

from __future__ import annotations

import time
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from end2_tf.reading import protos, texts
from end2_tf.serving import tensors
from end2_tf.serving.aside import LARGE, aside
from end2_tf.serving.models import LOG, Models, Servable
from end2_tf.serving.monitoring import Monitor
from end2_tf.serving.request_error import Code, RequestError, invalid
from end2_tf.serving.settings import Settings
from end2_tf.serving.tensors import Arrays, Signature


def make_server(models: Models, monitor: Monitor, settings: Settings) -> Any:
    """Returns a gRPC server of the running event loop, without a port yet."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port in use is an error, not a share of another server's requests
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Predictions(models, monitor), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(models), server)
    return server


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predictions and metadata; what else the service has is answered UNIMPLEMENTED."""

    def __init__(self, models: Models, monitor: Monitor):
        self._models, self._monitor = models, monitor

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802 - the proto's name
        name = request.model_spec.name if request.model_spec.name in self._models.models else ""
        try:
            response = await self._predict(request)
            self._monitor.request(name, "grpc", "OK")
            return response
        except RequestError as refused:
            self._monitor.request(name, "grpc", refused.code.name)
            await _abort(context, refused)

    async def _predict(self, request: Any) -> Any:
        servable = _servable(self._models, request.model_spec)
        signature = tensors.pick(request.model_spec.signature_name, servable.signatures)
        is_long = tensors.IMAGES in request.inputs or request.ByteSize() >= LARGE
        inputs = await aside(is_long, _inputs, request, signature, servable.max_inputs)
        names = list(request.output_filter) or list(signature.outputs)
        if unknown := [name for name in names if name not in signature.outputs]:
            raise invalid(
                f"output_filter has {unknown[0][:100]!r}. Outputs of {signature.name}: {', '.join(signature.outputs)}."
            )
        started = time.monotonic()
        outputs = await servable(signature.name, inputs)
        self._monitor.answer(servable.name, "grpc", time.monotonic() - started, signature.size(inputs), outputs)
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, servable, signature.name)
        for name in names:
            _write(response.outputs[name], outputs[name])
        return response

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            if list(request.metadata_field) != ["signature_def"]:
                given = texts.listed(request.metadata_field) if request.metadata_field else "empty"
                raise invalid(f"metadata_field is {given}. Allowed: signature_def.")
            servable = _servable(self._models, request.model_spec)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill(response.model_spec, servable, "")
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in servable.definitions.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.metadata["signature_def"].Pack(signatures)
            return response
        except RequestError as refused:
            await _abort(context, refused)


class _Status(model_service_pb2_grpc.ModelServiceServicer):
    """States of versions. What is served is decided where the server is started, so a reload is UNIMPLEMENTED."""

    def __init__(self, models: Models):
        self._models = models

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            version, label = _version(request.model_spec)
            response = get_model_status_pb2.GetModelStatusResponse()
            for number, status in self._models.status(request.model_spec.name, version, label).items():
                one = response.model_version_status.add(version=number, state=status.state.value)
                if status.error:
                    one.status.error_code, one.status.error_message = grpc.StatusCode.UNKNOWN.value[0], status.error
            return response
        except RequestError as refused:
            await _abort(context, refused)


def _version(spec: Any) -> tuple[int | None, str | None]:
    which = spec.WhichOneof("version_choice")
    return (
        spec.version.value if which == "version" else None,
        spec.version_label if which == "version_label" else None,
    )


def _servable(models: Models, spec: Any) -> Servable:
    if not spec.name:
        raise invalid("Missing ModelSpec: model_spec.name is empty.")
    return models.get(spec.name, *_version(spec))


def _inputs(request: Any, signature: Signature, max_inputs: int) -> Arrays:
    inputs = {name: _array(name, value) for name, value in request.inputs.items()}
    tensors.check(inputs, signature, max_inputs)
    return inputs


def _array(name: str, proto: Any) -> np.ndarray:
    try:
        return protos.array(proto)
    except ValueError as error:
        raise invalid(f"{name[:100]} {error}.") from None


def _write(proto: Any, array: np.ndarray) -> None:
    """Fills a TensorProto; ten times as fast as `tf.make_tensor_proto` for a few numbers."""
    if array.dtype == object:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = array.tobytes()


def _fill(spec: Any, servable: Servable, signature: str) -> None:
    spec.name, spec.signature_name = servable.name, signature
    spec.version.value = servable.version


async def _abort(context: Any, refused: RequestError) -> None:
    if refused.code is Code.INTERNAL:
        LOG.error("a gRPC request failed: %s", refused)
    await context.abort(getattr(grpc.StatusCode, refused.code.name), str(refused))
