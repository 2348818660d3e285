"""What serving costs: requests answered by the embedded server, student and ensemble, beside a plain loop.

python benchmarks/serving.py --models=runs/spirals_mlp_end2/export [--model=NAME …] [--inputs=1] [--json]

Starts the server on this machine, and a client in a process of its own that keeps so many requests in flight, for some
seconds each; each request holds `--inputs` inputs of the model's warm-up file. The ceiling: a loop over the SavedModel
in a process of its own, without a server: `loop` asks it what one request asks, one after the other, `batches` what the
server could run together at best. Everything shares this machine's cores, client and server too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from end2_tf import stages, tables
from end2_tf.errors import ConfigError, End2Error
from end2_tf.serving import catalogue

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = (1, 8, 32)
APIS = ("rest", "grpc")
SECONDS = 3.0
PERCENTILES = (50, 95, 99)


def measure(
    root: Path, names: Sequence[str], *, inputs: int = 1, seconds: float = SECONDS, apis: Sequence[str] = APIS
) -> dict[str, Any]:
    """Measures models of a folder.

    Args:
        root: Of exported models.
        names: Of the models.
        inputs: A request.
        seconds: Each measurement.
        apis: rest, grpc or both.

    Returns:
        `rows`, each with model, way (an api, loop or batches), concurrency, inputs a second, and percentiles of the
        latency in milliseconds; `inputs`, `versions`.

    Raises:
        ConfigError: there is no such model, or a number is below 1.
    """
    if inputs < 1:
        raise ConfigError(f"--inputs is {inputs}. Allowed: 1 or more.")
    found = {model.name: model for model in catalogue.find(root)}
    for name in names:
        if name not in found:
            raise ConfigError(f"{root} has no model {name!r}. Models: {', '.join(sorted(found))}.")
    rows = []
    for name in names:
        folder = found[name].folder / str(found[name].there[-1])
        for way, size in (("loop", inputs), ("batches", inputs * max(CONCURRENCY))):
            rows.append({"model": name, "way": way, "concurrency": 1, **_aside("_loop", folder, size, seconds)})
    with _server(root) as addresses:
        for name in names:
            folder = found[name].folder / str(found[name].there[-1])
            for api in apis:
                for concurrency in CONCURRENCY:
                    got = _aside("_load", addresses[api], api, name, folder, inputs, concurrency, seconds)
                    rows.append({"model": name, "way": api, "concurrency": concurrency, **got})
    return {"rows": rows, "inputs": inputs, "versions": stages.versions()}


def table(result: dict[str, Any]) -> str:
    """Returns the result as aligned text; each rate also as a share of the model's own loops."""
    loops = {(r["model"], r["way"]): r["rate"] for r in result["rows"] if r["way"] in ("loop", "batches")}
    lines = [["model", "way", "in flight", "inputs/s", *(f"p{p} ms" for p in PERCENTILES), "of loop", "of batches"]]
    for row in result["rows"]:
        shares = [f"{100 * row['rate'] / loops[row['model'], way]:.0f} %" for way in ("loop", "batches")]
        times = [f"{row[f'p{p}']:.1f}" for p in PERCENTILES]
        lines.append([row["model"], row["way"], str(row["concurrency"]), f"{row['rate']:,.0f}", *times, *shares])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join(
        [
            *tables.aligned(lines, text=(0, 1)),
            f"Inputs a request: {result['inputs']}. {os.cpu_count()} logical cores.",
            versions,
        ]
    )


@contextmanager
def _server(root: Path) -> Iterator[dict[str, str]]:
    """Starts the server; yields the addresses of its APIs."""
    command = [sys.executable, str(ROOT / "main.py"), "--stage=serve", f"--models={root}", "--port=0", "--grpc_port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        said: list[str] = []
        for line in process.stdout or ():
            said += line.split()
            if "gRPC" in line:
                yield {"rest": next(word for word in said if word.startswith("http://")), "grpc": said[-1]}
                return
        raise ConfigError(f"the server didn't start: {process.stderr.read().strip() if process.stderr else ''}")
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _aside(function: str, *arguments: Any) -> dict[str, float]:
    """Calls a function of this file in a process of its own."""
    given = json.dumps([str(a) if isinstance(a, Path) else a for a in arguments])
    code = f"import json, serving; print(json.dumps(serving.{function}(*json.loads({given!r}))))"
    places = [str(Path(__file__).resolve().parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"a measurement failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _summary(latencies: Sequence[float], inputs: int, elapsed: float) -> dict[str, float]:
    percentiles = np.percentile(latencies, PERCENTILES) * 1e3
    return {
        "rate": len(latencies) * inputs / elapsed,
        "n": len(latencies),
        **{f"p{p}": float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)},
    }


def _loop(folder: str, inputs: int, seconds: float) -> dict[str, float]:
    """Asks a SavedModel itself, one batch after the other."""
    import tensorflow as tf

    serve = tf.saved_model.load(folder).signatures["serving_default"]
    batch = tf.constant(_inputs(folder, inputs))
    latencies: list[float] = []
    warm, started = time.perf_counter() + 0.5, 0.0
    while not started or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        for value in serve(inputs=batch).values():
            value.numpy()
        if started:
            latencies.append(time.perf_counter() - begun)
        elif begun > warm:
            started = time.perf_counter()
    return _summary(latencies, inputs, time.perf_counter() - started)


def _inputs(folder: str, inputs: int) -> np.ndarray:
    from end2_tf.export import savedmodel, warmup

    batches = [given for name, given in warmup.read(Path(folder) / savedmodel.WARMUP) if name == "serving_default"]
    values = max((given["inputs"] for given in batches), key=len)
    return np.resize(values, (inputs, *values.shape[1:]))


def _load(
    address: str, api: str, model: str, folder: str, inputs: int, concurrency: int, seconds: float
) -> dict[str, float]:
    """Keeps so many requests in flight."""
    values = _inputs(folder, inputs)
    make = _rest if api == "rest" else _grpc
    return asyncio.run(_drive(lambda: make(address, model, values), concurrency, inputs, seconds))


async def _drive(connect: Callable[[], Any], concurrency: int, inputs: int, seconds: float) -> dict[str, float]:
    latencies: list[float] = []
    started = time.perf_counter() + 0.5  # until then it warms up
    end = started + seconds

    async def one() -> None:
        async with connect() as ask:
            while (begun := time.perf_counter()) < end:
                await ask()
                if begun >= started:
                    latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(one() for _ in range(concurrency)))
    return _summary(latencies, inputs, time.perf_counter() - started)


class _rest:  # noqa: N801 - called like a function
    """A connection that sends the same request again and again; as little Python as can be."""

    def __init__(self, address: str, model: str, values: np.ndarray):
        body = json.dumps({"instances": values.tolist()}).encode()
        self.address = urlsplit(address)
        head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body

    async def __aenter__(self) -> Callable[[], Any]:
        self.reader, self.writer = await asyncio.open_connection(self.address.hostname, self.address.port)
        return self.ask

    async def ask(self) -> None:
        self.writer.write(self.request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode())
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(size)

    async def __aexit__(self, *_: Any) -> None:
        self.writer.close()


class _grpc:  # noqa: N801
    """A channel that sends the same message again and again, and doesn't open the answers."""

    def __init__(self, address: str, model: str, values: np.ndarray):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(values))
        self.address, self.request = address, request.SerializeToString()

    async def __aenter__(self) -> Callable[[], Any]:
        import grpc

        self.channel = grpc.aio.insecure_channel(self.address)
        call = self.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        return lambda: call(self.request)

    async def __aexit__(self, *_: Any) -> None:
        await self.channel.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", required=True, type=Path, help="a folder of exported models")
    parser.add_argument("--model", action="append", help="a model of it; all by default; may be repeated")
    parser.add_argument("--inputs", type=int, default=1, help="inputs a request (default 1)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"each measurement (default {SECONDS:g})")
    parser.add_argument("--api", action="append", choices=APIS, help="both by default")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args(arguments)
    try:
        names = given.model or [model.name for model in catalogue.find(given.models)]
        result = measure(given.models, names, inputs=given.inputs, seconds=given.seconds, apis=given.api or APIS)
    except End2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(result, indent=1) if given.json else table(result))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
