"""The whole server: new versions under load, a graceful end, and strangers' requests."""

import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from end2_tf.errors import ConfigError, ModelError
from end2_tf.serving import catalogue, server
from end2_tf.serving.catalogue import Model
from end2_tf.serving.models import Models
from end2_tf.serving.settings import Settings

pytestmark = pytest.mark.slow  # the first starts a server

ROOT = Path(__file__).resolve().parents[2]
BODY = json.dumps({"inputs": [[1.0, 2.0]]})


class Load:
    """Asks for a model again and again from several threads, until it is stopped."""

    def __init__(self, address, model, num_threads=8):
        self.url, self.codes, self.versions = f"{address}/v1/models/{model}", [], set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num_threads)]

    def _ask(self):
        with requests.Session() as session:
            while not self._stop.is_set():
                try:
                    self.codes.append(session.post(f"{self.url}:predict", data=BODY, timeout=30).status_code)
                except requests.RequestException as error:
                    self.codes.append(type(error).__name__)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def _until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _states(address, model):
    found = requests.get(f"{address}/v1/models/{model}", timeout=30).json()["model_version_status"]
    return {int(each["version"]): each["state"] for each in found}


def _answer(address, model="points", version=""):
    answer = requests.post(f"{address}/v1/models/{model}{version}:predict", data=BODY, timeout=30)
    return answer.json()["outputs"]["probs"] if answer.ok else answer.status_code


def _same(one, other):
    """Whether two answers are of the same version: a batch's size changes the last bits."""
    return np.allclose(one, other, rtol=1e-4)


def test_new_versions_take_over_without_a_failed_request(serve, models_folder, tmp_path):
    folder = models_folder / "points"
    os.rename(folder / "2", tmp_path / "2")
    server = serve([Model("points", folder)], grpc_port=None)
    first = _answer(server.rest)
    with Load(server.rest, "points") as load:
        _until(lambda: len(load.codes) > 50)
        os.rename(tmp_path / "2", folder / "2")
        _until(lambda: _states(server.rest, "points") == {2: "AVAILABLE", 1: "END"})
        num = len(load.codes)
        _until(lambda: len(load.codes) > num + 50)
        assert not _same(_answer(server.rest), first)
        assert _answer(server.rest, version="/versions/1") == 404
        os.rename(folder / "2", tmp_path / "2")  # and back
        _until(lambda: _states(server.rest, "points") == {2: "END", 1: "AVAILABLE"})
        assert _same(_answer(server.rest), first)
    assert set(load.codes) == {200}


def test_a_version_that_cant_be_loaded_changes_nothing_until_it_is_mended(serve, models_folder, tmp_path):
    folder = models_folder / "points"
    os.rename(folder / "2", tmp_path / "2")
    server = serve([Model("points", folder)], grpc_port=None)
    first = _answer(server.rest)
    (folder / "2").mkdir()
    (folder / "2" / "saved_model.pb").write_bytes(b"\x99 nonsense")
    _until(lambda: 2 in _states(server.rest, "points"))
    _until(lambda: _states(server.rest, "points") == {2: "END", 1: "AVAILABLE"})
    status = requests.get(f"{server.rest}/v1/models/points/versions/2", timeout=30).json()["model_version_status"][0]
    assert status["status"]["error_code"] == "UNKNOWN"
    assert status["status"]["error_message"]
    assert _same(_answer(server.rest), first)
    shutil.rmtree(folder / "2")
    os.rename(tmp_path / "2", folder / "2")
    _until(lambda: _states(server.rest, "points") == {2: "AVAILABLE", 1: "END"})
    assert not _same(_answer(server.rest), first)


def test_what_is_served_goes_on_when_its_folder_is_gone(serve, models_folder):
    server = serve([Model("points", models_folder / "points")], grpc_port=None)
    first = _answer(server.rest)
    shutil.rmtree(models_folder / "points")
    time.sleep(0.2)  # some polls
    assert _same(_answer(server.rest), first)


def _start(models, *args):
    command = [sys.executable, "main.py", "--stage=serve", f"--models={models}", "--port=0", "--grpc_port=0", *args]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "gRPC" in line:
            return process, next(word for word in " ".join(said).split() if word.startswith("http://"))
    raise AssertionError(process.stderr.read())


def test_sigterm_answers_what_was_begun(models_folder, pool):
    process, address = _start(models_folder)
    try:
        body = json.dumps({"instances": [[float(i), 1.0] for i in range(100)]})
        url = f"{address}/v1/models/points:predict"
        assert requests.post(url, data=body, timeout=60).ok

        def ask(_):
            try:
                return requests.post(url, data=body, timeout=60).status_code
            except requests.ConnectionError:
                return "refused"

        answers = [pool.submit(ask, i) for i in range(32)]
        _until(lambda: any(answer.done() for answer in answers))
        process.send_signal(signal.SIGTERM)
        codes = [answer.result() for answer in answers]
        assert process.wait(60) == 0
    finally:
        process.kill()
    # What came before the end was answered; the listening socket was closed to what came after.
    assert 200 in codes
    assert set(codes) <= {200, "refused"}
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)
    assert "stopping" in process.stdout.read()
    said = process.stderr.read()
    assert "points, version 2: loaded in " in said
    assert "Shutting down" not in said  # uvicorn's own words
    assert "Traceback" not in said


def test_it_can_be_stopped_while_models_load(monkeypatch):
    said = []

    async def scenario():
        stop, begun = asyncio.Event(), asyncio.Event()

        async def load(models):
            begun.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(Models, "poll", load)
        settings = Settings(port=0, grpc_port=None)
        running = asyncio.create_task(server.answer_until(stop, [Model("m", ROOT)], settings, say=said.append))
        await begun.wait()
        stop.set()
        await asyncio.wait_for(running, 10)

    asyncio.run(scenario())
    assert said == ["loading m …", "stopping"]


def _malformed(rng):
    """Returns one request: a method, a path, a body, a header or two; some are sound."""
    pieces = [
        "points",
        "images",
        "",
        "a" * 300,
        "..",
        "%2e%2e",
        "%00",
        "versions/1",
        "labels/x",
        ":predict",
        "/metadata",
    ]
    path = "/" + "/".join(rng.choice(["v1", "models", "v1/models", *pieces]) for _ in range(rng.randrange(5)))
    if rng.random() < 0.6:
        path = f"/v1/models/{rng.choice(['points', 'images'])}:predict"
    sound = [BODY, '{"instances": [[1, 2]]}', '{"signature_name": "decide", "instances": [[1, 2]]}']
    text = rng.choice([*sound, "[" * rng.randrange(2000), '{"instances": ' + "[" * rng.randrange(50) + "1"])
    body = bytearray(text.encode())
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        if body:
            where = rng.randrange(len(body))
            body[where : where + rng.randrange(3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(4)))
    headers = rng.choice([{}, {"content-type": "\u00e9"}, {"content-encoding": "gzip"}, {"expect": "100-continue"}])
    method = rng.choice(["POST"] * 8 + ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "X"])
    return method, path, bytes(body), headers


def _raw(rng):
    """Returns bytes that are no HTTP, or only nearly."""
    return rng.choice(
        [
            bytes(rng.randrange(256) for _ in range(rng.randrange(200))),
            b"POST /v1/models/points:predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}",
            b"POST /v1/models/points:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
            b"POST /v1/models/points:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * rng.randrange(3000),
            b"GET /" + b"a" * rng.randrange(100_000) + b" HTTP/1.1\r\n\r\n",
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_malformed_requests_leave_it_healthy(served, seed):
    rng, address = random.Random(seed), urlsplit(served.rest)
    expected = _answer(served.rest)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    for number in range(2500):
        if number % 25 == 0:
            with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
                raw.sendall(_raw(rng))
            continue
        method, path, body, headers = _malformed(rng)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (http.client.HTTPException, ConnectionError, UnicodeEncodeError):  # it hung up, or ours is no request
            connection.close()
            continue
        assert answer.status in (200, 400, 404, 405, 413, 501), (method, path, body, text)
        if answer.status != 200 and method != "HEAD" and path.startswith("/v1/models/"):
            assert text == b"Invalid HTTP request received." or set(json.loads(text)) == {"error"}
    connection.close()
    assert _same(_answer(served.rest), expected)
    assert requests.get(f"{served.rest}/healthz", timeout=30).json() == {"ready": True}


def test_what_cant_be_served(serve, models_folder, tmp_path):
    folder = models_folder / "points"
    with pytest.raises(ModelError, match=r"^none has no version to serve in .*nothing: a version is a folder"):
        serve([Model("none", tmp_path / "nothing")])
    (folder / "2" / "saved_model.pb").write_bytes(b"\x99 nonsense")
    with pytest.raises(ModelError, match=r"^points, version 2, can't be loaded from .*2: .*\. Export it again\.$"):
        serve([Model("points", folder)], grpc_port=None)


def test_a_port_in_use(serve, served, exported):
    models = catalogue.find(exported[0])
    port, grpc_port = urlsplit(served.rest).port, int(served.grpc.rpartition(":")[2])
    with pytest.raises(ConfigError, match=rf"^port {port} of 127\.0\.0\.1 can't be had: Address already in use\. "):
        serve(models, port=port)
    with pytest.raises(ConfigError, match=rf"^grpc_port {grpc_port} of 127\.0\.0\.1 can't be had\. "):
        serve(models, grpc_port=grpc_port)
