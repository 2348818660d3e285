"""The embedded server: models behind REST and gRPC until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from end2_tf import machine
from end2_tf.errors import ConfigError, ModelError
from end2_tf.serving import rest, rpc
from end2_tf.serving.catalogue import Model
from end2_tf.serving.models import LOG, Models
from end2_tf.serving.monitoring import Monitor
from end2_tf.serving.settings import Settings


def serve(
    models: Sequence[Model],
    settings: Settings,
    *,
    say: Callable[[str], None] = print,
    ready: Callable[[str, str | None], None] = lambda rest, grpc: None,
) -> None:
    """Serves models until SIGTERM or SIGINT, then answers what it has taken on, and returns.

    Args:
        models: What to serve.
        settings: How.
        say: Prints a line for the user.
        ready: Called with the address of REST and of gRPC once both answer.

    Raises:
        ConfigError: an address can't be had.
        ModelError: a model has no version that can be loaded.
    """

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await answer_until(stop, models, settings, say=say, ready=ready)

    asyncio.run(main())


async def answer_until(
    stop: asyncio.Event,
    found: Sequence[Model],
    settings: Settings,
    *,
    say: Callable[[str], None] = print,
    ready: Callable[[str, str | None], None] = lambda rest, grpc: None,
) -> None:
    """Serves models in the running event loop until an event is set; see `serve`."""
    threads = settings.batch_threads or len(machine.cores())
    executor = ThreadPoolExecutor(threads, thread_name_prefix="model")
    models = Models(found, settings, executor, threads, lambda name, size: monitor.batch(name, size))
    monitor = Monitor(lambda: _queued(models))
    with _listen(settings.host, settings.port) as listener:
        say(f"loading {', '.join(model.name for model in found)} …")
        stopped = asyncio.create_task(stop.wait())
        if not await _load(models, stopped):
            say("stopping")
            return
        for model in models.models.values():
            _check_loaded(models, model)
        http = uvicorn.Server(
            uvicorn.Config(
                rest.make_application(models, monitor, settings),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=round(settings.grace_seconds),
                backlog=1024,
            )
        )
        grpc_server, grpc_address = await _start_grpc(models, monitor, settings)
        with _no_signals(http):
            answering = asyncio.create_task(http.serve(sockets=[listener]))
            watching = asyncio.create_task(_watch(models, settings.poll_seconds))
            while not http.started and not answering.done():
                await asyncio.sleep(0.01)
            address = f"http://{_written(settings.host)}:{listener.getsockname()[1]}"
            versions = ", ".join(f"{each.name} (version {each.version})" for each in models.servables())
            say(f"serving {versions}\n  page and REST  {address}\n  gRPC           {grpc_address or 'off'}")
            ready(address, grpc_address)
            await asyncio.wait({stopped, answering}, return_when=asyncio.FIRST_COMPLETED)
            say("stopping: what is being answered is still answered")
            watching.cancel()
            http.should_exit = True
            await asyncio.gather(answering, *([grpc_server.stop(settings.grace_seconds)] if grpc_server else []))
    executor.shutdown(cancel_futures=True)


async def _load(models: Models, stopped: asyncio.Task[Any]) -> bool:
    """Loads all models; returns whether it wasn't stopped before. The process ends once no thread loads a version."""
    loading = asyncio.create_task(models.poll())
    await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        loading.cancel()
        return False
    await loading
    return True


def _check_loaded(models: Models, model: Model) -> None:
    statuses = models.statuses[model.name]
    if any(not status.error for status in statuses.values()):
        return
    if not statuses:
        raise ModelError(
            f"{model.name} has no version to serve in {model.folder}: a version is a folder named by a number, with a "
            "saved_model.pb. Export the model first, or, where that path is a container's, give the folder of exported "
            "models itself, --models=DIR."
        )
    version, status = max(statuses.items())
    raise ModelError(
        f"{model.name}, version {version}, can't be loaded from {model.folder / str(version)}: {status.error}. Export "
        "it again."
    )


async def _watch(models: Models, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await models.poll()
        except Exception as error:  # a disk that fails for a moment; what is loaded goes on
            LOG.error("can't look for new versions: %s", error)


def _queued(models: Models) -> Iterator[tuple[str, int]]:
    totals: dict[str, int] = dict.fromkeys(models.models, 0)
    for servable in models.servables():
        totals[servable.name] += servable.num_queued
    yield from totals.items()


async def _start_grpc(models: Models, monitor: Monitor, settings: Settings):
    if settings.grpc_port is None:
        return None, None
    server = rpc.make_server(models, monitor, settings)
    try:
        port = server.add_insecure_port(f"{_written(settings.host)}:{settings.grpc_port}")
    except RuntimeError:
        port = 0
    if not port:
        raise ConfigError(
            f"grpc_port {settings.grpc_port} of {settings.host} can't be had. Is another server running? Allowed: a "
            "free port, 0 for any, none for no gRPC."
        )
    await server.start()
    return server, f"{_written(settings.host)}:{port}"


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    # With the protocol named, asyncio sets TCP_NODELAY; without, an answer's body waits 40 ms for the headers' receipt.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of {host} can't be had: {error.strerror}. Is another server running? Allowed: a free "
                "port, or 0 for any."
            ) from None
        yield listener
    finally:
        listener.close()


@contextlib.contextmanager
def _no_signals(server: uvicorn.Server) -> Iterator[None]:
    """Keeps uvicorn from taking signals for itself: gRPC must stop with it."""
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    yield


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
