"""TensorFlow Serving's REST API, and what a page and an operator need beside it."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from pathlib import Path
from typing import Any

import orjson
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from end2_tf.serving import monitoring, tensors
from end2_tf.serving.aside import LARGE, aside
from end2_tf.serving.models import LOG, Models, Servable, Status
from end2_tf.serving.monitoring import Monitor
from end2_tf.serving.request_error import Code, RequestError
from end2_tf.serving.settings import Settings

PAGE = Path(__file__).with_name("page")
_MODEL = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<what>/metadata|:predict|:classify|:regress)?"
)
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # else an upgrade's page may meet the scripts of before
}


def make_application(models: Models, monitor: Monitor, settings: Settings) -> Starlette:
    """Returns the ASGI application.

    Args:
        models: What is served.
        monitor: Where requests are counted.
        settings: Limits.
    """

    async def model(request: Request) -> Response:
        name = ""
        try:
            match = _MODEL.fullmatch(request.url.path)
            if match is None:
                raise _malformed(request)
            name = match["name"] if match["name"] in models.models else ""
            answer = await _answer(request, match, models, monitor, settings)
            monitor.request(name, "rest", "OK")
            return _json(answer)
        except RequestError as refused:
            monitor.request(name, "rest", refused.code.name)
            return _json(tensors.write_error(str(refused)), refused.code.value)
        except ClientDisconnect:
            return Response(status_code=400)

    async def listing(request: Request) -> Response:
        return _json(orjson.dumps({"models": [_described(each, models) for each in models.servables()]}))

    async def health(request: Request) -> Response:
        return _json(orjson.dumps({"ready": models.is_ready}), 200 if models.is_ready else 503)

    async def metrics(request: Request) -> Response:
        return Response(monitor.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(request: Request) -> Response:
        return Response((PAGE / "index.html").read_bytes(), media_type="text/html", headers=_HEADERS)

    class Files(StaticFiles):
        def file_response(self, *args: Any, **kwargs: Any) -> Response:
            response = super().file_response(*args, **kwargs)
            response.headers.update(_HEADERS)
            return response

    routes: list[Any] = [
        Route("/v1/models/{rest:path}", model, methods=["GET", "POST"]),
        Route("/end2/models", listing),
        Route("/healthz", health),
        Route(monitoring.PATH, metrics),
        Route("/", page),
        Mount("/page", Files(directory=PAGE)),
    ]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _refuse, 500: _failed})
    application.router.redirect_slashes = False
    return application


async def _answer(
    request: Request, match: re.Match[str], models: Models, monitor: Monitor, settings: Settings
) -> bytes:
    """Answers a request for a model."""
    name, what, label = match["name"], match["what"], match["label"]
    version = int(match["version"]) if match["version"] else None
    if (request.method == "POST") != (what is not None and what.startswith(":")):
        raise _malformed(request)
    if what is None:
        return _write_statuses(models.status(name, version, label))
    servable = models.get(name, version, label)
    if what == "/metadata":
        return _write_metadata(servable)
    if what != ":predict":
        raise RequestError(Code.UNIMPLEMENTED, f"{what[1:]} isn't served. Use :predict.")
    return await predict(servable, await _body(request, settings), monitor)


async def predict(servable: Servable, body: bytes, monitor: Monitor) -> bytes:
    """Returns the body of the answer to the body of a `:predict` request."""
    signature, is_row, inputs = await aside(len(body) >= LARGE, tensors.parse, body, servable.signatures)
    await aside(tensors.IMAGES in inputs, tensors.check, inputs, signature, servable.max_inputs)
    started = time.monotonic()
    outputs = await servable(signature.name, inputs)
    monitor.answer(servable.name, "rest", time.monotonic() - started, signature.size(inputs), outputs)
    if is_row:
        tensors.check_rows(outputs, inputs)
    size = sum(value.nbytes for value in outputs.values())
    return await aside(size >= LARGE, functools.partial(tensors.format_answer, outputs, is_row=is_row))


async def _body(request: Request, settings: Settings) -> bytes:
    """Reads a body that is neither too large nor too slow."""
    limit = settings.max_request_bytes
    too_large = RequestError(Code.RESOURCE_EXHAUSTED, f"the request is larger than {limit:,} bytes. Send it in pieces.")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(settings.receive_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            Code.DEADLINE_EXCEEDED, f"the request didn't arrive within {settings.receive_seconds:g} seconds."
        ) from None
    return b"".join(parts)


def _malformed(request: Request) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, f"Malformed request: {request.method} {request.url.path[:200]}")


def _write_statuses(statuses: dict[int, Status]) -> bytes:
    return orjson.dumps(
        {
            "model_version_status": [
                {
                    "version": str(version),
                    "state": status.state.name,
                    "status": {"error_code": "UNKNOWN" if status.error else "OK", "error_message": status.error},
                }
                for version, status in statuses.items()
            ]
        },
        option=orjson.OPT_INDENT_2,
    )


def _write_metadata(servable: Servable) -> bytes:
    signatures = {
        name: json_format.MessageToDict(
            definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, definition in servable.definitions.items()
    }
    return orjson.dumps(
        {
            "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        },
        option=orjson.OPT_INDENT_2,
    )


def _described(servable: Servable, models: Models) -> dict[str, Any]:
    """Returns what the page needs to know of a version."""
    labels = models.labels(servable.name)
    return {
        "name": servable.name,
        "version": servable.version,
        "labels": sorted(label for label, version in labels.items() if version == servable.version),
        "signatures": {
            name: {
                "inputs": {key: str(spec) for key, spec in signature.inputs.items()},
                "outputs": {key: str(spec) for key, spec in signature.outputs.items()},
            }
            for name, signature in servable.signatures.items()
        },
        "metadata": servable.metadata,
    }


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(tensors.write_error(f"{error.detail}: {request.method} {request.url.path[:200]}"), error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    LOG.error("%s %s failed", request.method, request.url.path[:200], exc_info=error)
    return _json(tensors.write_error(f"the server failed: {type(error).__name__}"), 500)
