"""Asks a server that speaks TensorFlow Serving's API: this package's own, or TensorFlow Serving itself.

REST needs nothing of TensorFlow; gRPC imports it for its protos.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson
import requests
import urllib3

from end2_tf.errors import ConfigError, DataError, ServerError
from end2_tf.reading import texts
from end2_tf.serving.tensors import DEFAULT_SIGNATURE

RETRIES = 4
_ADDRESSES = "http://host:8501 for REST, grpc://host:8500 for gRPC"
_FIRST_PAUSE = 0.1  # seconds; doubles with each retry


class Client:
    """A model behind REST or gRPC.

    Args:
        server: `http://host:8501` or `https://…` for REST; `grpc://host:8500` for gRPC.
        model: Its name there.
        version: A number; the latest by default.
        label: Instead of a version, for instance `stable`.
        timeout: Seconds for an answer.
        retries: How often a request is sent again where the server is busy (503, UNAVAILABLE) or can't be reached;
            each pause is twice the one before, times a random factor from .5 to 1.
        batch_size: Inputs a request; more are sent in pieces, and larger pieces than a server takes are halved.

    Raises:
        ConfigError: an argument can't be.

    Example:
        >>> client = Client("http://127.0.0.1:8501", "fashion_mnist_mlp_end2_aux")
        >>> client.predict(images, signature="decide")["abstain"]

    Source: https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/apis/*.proto.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retries: int = RETRIES,
        batch_size: int = 128,
    ):
        if version is not None and label is not None:
            raise ConfigError(f"version {version} and label {label!r} were both given. Leave one out.")
        if not model or batch_size < 1 or retries < 0 or timeout <= 0:
            raise ConfigError(
                f"model is {model!r}, batch_size {batch_size}, retries {retries}, timeout {timeout:g}. Allowed: a "
                "name, and numbers above 0 (retries: 0 too)."
            )
        self.server, self.model = server, model
        self._retries, self._batch_size = retries, batch_size
        try:
            address = urlsplit(server)
            scheme, port = address.scheme if address.hostname else "", address.port
        except ValueError:  # a bracket that isn't closed, or a port that is none
            scheme, port = "", None
        if scheme in ("http", "https"):
            self._channel: _Rest | _Grpc = _Rest(server.rstrip("/"), model, version, label, timeout)
        elif scheme == "grpc" and port:
            self._channel = _Grpc(address.netloc, model, version, label, timeout)
        else:
            raise ConfigError(f"the server is {server!r}. Allowed: {_ADDRESSES}; https:// too.")

    def predict(self, inputs: np.ndarray, signature: str = DEFAULT_SIGNATURE) -> dict[str, np.ndarray]:
        """Returns the outputs by name, each with the batch first.

        Args:
            inputs: The model's only input, (n, ...), n ≥ 1: as its signature has it, for instance uint8 images; of
                dtype object for byte strings.
            signature: `serving_default`, `decide`, ….

        Raises:
            ServerError: the server can't be reached, is too busy after all retries, or refused the request; with its
                own words.
            DataError: there are no inputs.
        """
        if np.ndim(inputs) == 0 or len(inputs) == 0:
            raise DataError(f"inputs have shape {np.shape(inputs)}. Allowed: (n, ...) with at least one input.")
        inputs = np.asarray(inputs)
        if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
            raise DataError("inputs have NaN or infinite values, of which a model can say nothing. Leave them out.")
        parts = list(self._pieces(inputs, signature))
        with _understood(self.model, self.server):
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def predict_bytes(self, images: list[bytes], signature: str = "serve_bytes") -> dict[str, np.ndarray]:
        """Returns the outputs for encoded JPEG or PNG images."""
        array = np.empty(len(images), object)
        array[:] = images
        return self.predict(array, signature)

    def status(self) -> dict[int, str]:
        """Returns the state of each version of the model, for instance `{1: "AVAILABLE"}`."""
        return self._retried(self._channel.status)

    def signatures(self) -> dict[str, tuple[int, ...]]:
        """Returns the signatures with one numeric input, and the shape of one input of each."""
        found = {}
        given = self._retried(self._channel.signatures)
        with _understood(self.model, self.server):
            for name, definition in given.items():
                inputs = list(definition["inputs"].values())
                if len(inputs) == 1 and inputs[0]["dtype"] != "DT_STRING":
                    found[name] = tuple(int(dim["size"]) for dim in inputs[0]["tensor_shape"].get("dim", [])[1:])
        if "serving_default" not in found:
            raise ServerError(
                f"{self.model} at {self.server} has no signature serving_default with one numeric input. Export the "
                "model with --stage=export."
            )
        return found

    def classes(self) -> list[str]:
        """Returns the names of the classes; none where the server doesn't know them."""
        return self._channel.classes()

    def _pieces(self, inputs: np.ndarray, signature: str) -> Iterator[Mapping[str, np.ndarray]]:
        size = self._batch_size
        start = 0
        while start < len(inputs):
            piece = inputs[start : start + size]
            try:
                found = self._retried(functools.partial(self._channel.predict, piece, signature))
            except _TooLargeError:
                if size == 1:
                    raise
                size = self._batch_size = max(1, len(piece) // 2)
                continue
            for name, values in found.items():
                if values.dtype.kind not in "biufSO" or values.shape[:1] != piece.shape[:1]:
                    raise ServerError(
                        f"{self.model} at {self.server}: {name} has shape {values.shape} and dtype {values.dtype} for "
                        f"{len(piece)} inputs. Ask for a model of --stage=export."
                    )
            yield found
            start += len(piece)

    def _retried(self, ask: Callable[[], Any]) -> Any:
        for attempt in range(self._retries + 1):
            try:
                return ask()
            except _BusyError as busy:
                if attempt == self._retries:
                    raise ServerError(f"{busy} ({self._retries + 1} tries). {busy.next_step}") from None
                time.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError


@contextlib.contextmanager
def _understood(model: str, server: str) -> Iterator[None]:
    """Raises ServerError where an answer isn't what TensorFlow Serving's API says."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            f"{model} at {server}: the answer isn't one of TensorFlow Serving ({type(error).__name__}: {error}). Check "
            "the server's address."
        ) from None


class _BusyError(ServerError):
    """Worth another try; `next_step` is for when none helped."""

    def __init__(self, message: str, next_step: str = "Try again later."):
        super().__init__(message)
        self.next_step = next_step


class _TooLargeError(ServerError):
    """Worth a try with fewer inputs."""


def _refusal(model: str, server: str, said: str, code: str) -> ServerError:
    message = f"{model} at {server}: {said} ({code})"
    if code in ("413", "RESOURCE_EXHAUSTED") or "larger than maximum input batch size" in said:
        return _TooLargeError(message)
    if code == "UNAVAILABLE":  # which gRPC also says of a port where nobody listens, or speaks another protocol
        return _BusyError(message, f"Try again later, or check the address: {_ADDRESSES}.")
    if code in ("503", "429"):
        return _BusyError(message)
    return ServerError(message)


class _Rest:
    def __init__(self, server: str, model: str, version: int | None, label: str | None, timeout: float):
        self._server, self._model, self._timeout = server, model, timeout
        which = f"/versions/{version}" if version is not None else f"/labels/{quote(label, '')}" if label else ""
        self._url = f"{server}/v1/models/{quote(model, '')}{which}"
        self._session = requests.Session()

    def predict(self, inputs: np.ndarray, signature: str) -> dict[str, np.ndarray]:
        given: Any = np.ascontiguousarray(inputs) if inputs.dtype != object else [_encoded(each) for each in inputs]
        body = orjson.dumps({"signature_name": signature, "inputs": given}, option=orjson.OPT_SERIALIZE_NUMPY)
        outputs = self._ask("POST", f"{self._url}:predict", body).get("outputs")
        if not isinstance(outputs, dict):
            raise ServerError(
                f"{self._model} at {self._server}: the answer has no named outputs. Ask for a model of --stage=export."
            )
        with _understood(self._model, self._server):
            return {name: np.asarray(value) for name, value in outputs.items()}

    def status(self) -> dict[int, str]:
        found = self._ask("GET", self._url, None)
        with _understood(self._model, self._server):
            return {int(each["version"]): str(each["state"]) for each in found["model_version_status"]}

    def signatures(self) -> dict[str, Any]:
        found = self._ask("GET", f"{self._url}/metadata", None)
        with _understood(self._model, self._server):
            return dict(found["metadata"]["signature_def"]["signature_def"])

    def classes(self) -> list[str]:
        try:  # this package's own server
            served = self._ask("GET", f"{self._server}/end2/models", None)["models"]
            return next(list(each["metadata"].get("classes", [])) for each in served if each["name"] == self._model)
        except (ServerError, KeyError, TypeError, StopIteration):
            return []

    def _ask(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        try:
            response = self._session.request(method, url, data=body, timeout=self._timeout)
        except requests.Timeout:
            raise ServerError(
                f"{self._model} at {self._server}: no answer within {self._timeout:g} seconds. Raise the timeout, or "
                "send fewer inputs."
            ) from None
        except requests.ConnectionError as error:
            raise _BusyError(
                f"{self._server} can't be reached: {_reason(error)}",
                f"Check that it runs, and the address: {_ADDRESSES}.",
            ) from None
        except requests.exceptions.ChunkedEncodingError as error:
            raise _BusyError(f"{self._server} broke its answer off: {_reason(error)}") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ServerError(
                f"{self._server} can't be asked: {_reason(error).rstrip('.')}. Check the address: {_ADDRESSES}."
            ) from None
        try:
            answer = _loads(response.content)
        except ValueError:
            answer = None
        if response.status_code != 200 or not isinstance(answer, dict):
            said = answer.get("error") if isinstance(answer, dict) else None
            raise _refusal(
                self._model, self._server, str(said or response.reason or "no JSON"), str(response.status_code)
            )
        return answer


class _Grpc:
    def __init__(self, address: str, model: str, version: int | None, label: str | None, timeout: float):
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self._address, self._model, self._timeout = address, model, timeout
        self._version, self._label = version, label
        channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, inputs: np.ndarray, signature: str) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._fill(request.model_spec)
        request.model_spec.signature_name = signature
        name = "image_bytes" if inputs.dtype == object else "inputs"
        value = (
            tf.make_tensor_proto(list(inputs), tf.string) if inputs.dtype == object else tf.make_tensor_proto(inputs)
        )
        request.inputs[name].CopyFrom(value)
        response = self._ask(self._predictions.Predict, request)
        return {key: tf.make_ndarray(each) for key, each in response.outputs.items()}

    def status(self) -> dict[int, str]:
        from tensorflow_serving.apis import get_model_status_pb2 as protos

        request = protos.GetModelStatusRequest()
        self._fill(request.model_spec)
        found = self._ask(self._models.GetModelStatus, request).model_version_status
        return {each.version: protos.ModelVersionStatus.State.Name(each.state) for each in found}

    def signatures(self) -> dict[str, Any]:
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2 as protos

        request = protos.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec)
        found = protos.SignatureDefMap()
        self._ask(self._predictions.GetModelMetadata, request).metadata["signature_def"].Unpack(found)
        return json_format.MessageToDict(found, preserving_proto_field_name=True)["signature_def"]

    def classes(self) -> list[str]:
        return []

    def _fill(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version
        if self._label is not None:
            spec.version_label = self._label

    def _ask(self, call: Any, request: Any) -> Any:
        import grpc

        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise _refusal(self._model, self._address, str(error.details()), error.code().name) from None


def _encoded(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return texts.parse_json(body)  # knows NaN and Infinity


def _reason(error: BaseException) -> str:
    """Returns what is at the bottom of a chain of connection errors."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _reason(reason)
    text = str(error.args[-1] if error.args else error)
    return text.rpartition(": ")[2] or type(error).__name__
