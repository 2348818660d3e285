"""The client, against this package's server and against servers that misbehave."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from end2_tf import cli
from end2_tf.errors import ConfigError, DataError, ServerError
from end2_tf.serving import catalogue
from end2_tf.serving import client as clients
from end2_tf.serving.client import Client

POINTS = np.random.default_rng(6).normal(120, 60, (300, 2)).astype(np.float32)
IMAGES = np.random.default_rng(7).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(clients, "_FIRST_PAUSE", 0.001)


def _addresses(served):
    return [served.rest, f"grpc://{served.grpc}"]


@pytest.mark.slow
@pytest.mark.parametrize("api", [0, 1])
def test_answers_are_the_models(served, exported, api):
    client = Client(_addresses(served)[api], "points")
    got = client.predict(POINTS)  # in three pieces
    expected = exported[1]["points", 2].predict(POINTS, verbose=0)
    for name in ("probs", "alphas", "knowledge_uncertainty"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)
    assert client.predict(POINTS, "decide")["abstain"].dtype == bool
    assert client.status() == {2: "AVAILABLE", 1: "AVAILABLE"}
    older = exported[1]["points", 1].predict(POINTS, verbose=0)["probs"]
    for which in ({"version": 1}, {"label": "stable"}):
        client = Client(_addresses(served)[api], "points", **which)
        np.testing.assert_allclose(client.predict(POINTS)["probs"], older, rtol=1e-5)
        assert client.status() == {1: "AVAILABLE"}
    assert client.signatures() == {"serving_default": (2,), "decide": (2,)}


@pytest.mark.slow
@pytest.mark.parametrize("api", [0, 1])
def test_images(served, exported, api):
    client = Client(_addresses(served)[api], "images")
    expected = exported[1]["images", 1].predict(IMAGES, verbose=0)["probs"]
    np.testing.assert_allclose(client.predict(IMAGES)["probs"], expected, rtol=1e-5)
    encoded = [tf.io.encode_png(image).numpy() for image in IMAGES]
    np.testing.assert_allclose(client.predict_bytes(encoded)["probs"], expected, rtol=1e-5)
    assert client.signatures() == {"serving_default": (8, 8, 1), "decide": (8, 8, 1)}
    assert client.classes() == ([] if api else ["left", "middle", "right"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("nothing", POINTS, r"^nothing at .*: Servable not found for request: Latest\(nothing\) \((404|NOT_FOUND)\)$"),
        ("points", POINTS[:, :1], r"^points at .*: inputs has shape \(128, 1\)\. .* \((400|INVALID_ARGUMENT)\)$"),
    ],
)
@pytest.mark.parametrize("api", [0, 1])
def test_the_servers_own_words(served, model, inputs, message, api):
    with pytest.raises(ServerError, match=message):
        Client(_addresses(served)[api], model).predict(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("api", [0, 1])
def test_pieces_that_a_server_finds_too_large_are_halved(serve, exported, api):
    server = serve([m for m in catalogue.find(exported[0]) if m.name == "points"], max_request_bytes=800)
    client = Client(_addresses(server)[api], "points", batch_size=256)
    expected = exported[1]["points", 2].predict(POINTS, verbose=0)["probs"]
    np.testing.assert_allclose(client.predict(POINTS)["probs"], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_query_from_the_command_line(served, exported, tmp_path, capsys):
    np.savez(tmp_path / "points.npz", x=POINTS[:3])
    args = ["main.py", "--stage=query", f"--input={tmp_path / 'points.npz'}", "--zoo=points", "--output=-"]
    assert cli.main([*args, f"--server={served.rest}"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == (
        "input,predicted_class,confidence,total_uncertainty,data_uncertainty,knowledge_uncertainty,prob_left,"
        "prob_middle,prob_right,abstain"
    )
    expected = exported[1]["points", 2].predict(POINTS[:3], verbose=0)
    for row, probs in zip(rows, expected["probs"], strict=True):
        values = row.split(",")
        assert values[1] == ["left", "middle", "right"][probs.argmax()]
        np.testing.assert_allclose([float(v) for v in values[6:9]], probs, rtol=1e-4)
        assert values[9] in ("true", "false")
    assert cli.main([*args, f"--server=grpc://{served.grpc}"]) == 0
    assert "prob_0,prob_1,prob_2,abstain" in capsys.readouterr().out
    Image.fromarray(IMAGES[0, ..., 0]).resize((20, 30)).save(tmp_path / "image.png")
    args = ["main.py", "--stage=query", f"--server={served.rest}", f"--input={tmp_path / 'image.png'}"]
    assert cli.main([*args, "--zoo=images"]) == 0
    assert (tmp_path / "image_predictions.csv").read_text().startswith("input,predicted_class,")
    capsys.readouterr()
    assert cli.main([*args, "--zoo=points"]) == 2
    assert "points takes 2 features" in capsys.readouterr().err
    assert cli.main([*args, "--zoo=nothing"]) == 5
    assert "Servable not found" in capsys.readouterr().err


def test_pieces_must_have_the_same_outputs():
    other = (200, {"outputs": {"alphas": [[1.0, 1.0]]}})
    with _Scripted(FINE, other) as server, pytest.raises(ServerError, match=r"the answer isn't one of TensorFlow Serv"):
        Client(server.address, "m", batch_size=1).predict(POINTS[:2])


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"metadata": None},
        {"metadata": {"signature_def": {"signature_def": "x"}}},
        {"metadata": {"signature_def": {"signature_def": {"serving_default": {}}}}},
        {"metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": {"x": {}}}}}}},
        {"metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": {"x": {
            "dtype": "DT_FLOAT", "tensor_shape": {"dim": [{}, {"size": "two"}]}
        }}}}}}},
    ],
)  # fmt: skip
def test_metadata_that_say_nothing(metadata):
    with (
        _Scripted((200, metadata)) as server,
        pytest.raises(ServerError, match=r"^m at http.* isn't one of TensorFlow"),
    ):
        Client(server.address, "m").signatures()


@pytest.mark.parametrize("status", [{}, {"model_version_status": [{}]}, {"model_version_status": [{"version": "x"}]}])
def test_a_status_that_says_nothing(status):
    with _Scripted((200, status)) as server, pytest.raises(ServerError, match=r"^m at http.* isn't one of TensorFlow"):
        Client(server.address, "m").status()


@pytest.mark.parametrize("outputs", [{"alphas": [[1.0]]}, {"probs": [1.0]}, {"probs": [[1.0]], "abstain": [[True]]}])
def test_a_query_of_a_model_without_the_measures(tmp_path, capsys, outputs):
    given = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
    metadata = {"metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": {"inputs": given}}}}}}
    np.savez(tmp_path / "x.npz", x=POINTS[:1])
    with _Scripted((200, metadata), (200, {"outputs": outputs})) as server:
        args = [f"--server={server.address}", "--zoo=m", f"--input={tmp_path / 'x.npz'}", "--output=-"]
        assert cli.main(["main.py", "--stage=query", *args]) == 5
    assert "not probs (n, classes) with a number an input for each measure" in capsys.readouterr().err


def test_a_query_with_an_image_of_a_model_of_scalars(tmp_path, capsys):
    given = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}
    metadata = {"metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": {"inputs": given}}}}}}
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "x.png")
    with _Scripted((200, metadata)) as server:
        args = [f"--server={server.address}", "--zoo=m", f"--input={tmp_path / 'x.png'}", "--output=-"]
        assert cli.main(["main.py", "--stage=query", *args]) == 2
    assert "but m takes inputs of shape (). Give an .npz file of those." in capsys.readouterr().err


class _Scripted:
    """A server that answers what it is told, one after the other; the last again and again.

    An answer is a status, a body, and the number of bytes that it leaves out at the end.
    """

    def __init__(self, *answers):
        self.answers, self.num = list(answers), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def do_GET(self):
                status, body, *missing = outer.answers[min(outer.num, len(outer.answers) - 1)]
                outer.num += 1
                if status is None:
                    time.sleep(body)
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data) + sum(missing)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


FINE = (200, {"outputs": {"probs": [[0.5, 0.5]]}})
BUSY = (503, {"error": "full"})


def test_a_busy_server_is_asked_again():
    with _Scripted(BUSY, BUSY, FINE) as server:
        assert Client(server.address, "m").predict(POINTS[:1])["probs"].tolist() == [[0.5, 0.5]]
        assert server.num == 3
    with _Scripted(BUSY) as server:
        with pytest.raises(ServerError, match=r"^m at http.*: full \(503\) \(3 tries\)\. Try again later\.$"):
            Client(server.address, "m", retries=2).predict(POINTS[:1])
        assert server.num == 3


def test_a_server_that_breaks_off_is_asked_again():
    with _Scripted((*FINE, 5), FINE) as server:
        assert Client(server.address, "m").predict(POINTS[:1])["probs"].tolist() == [[0.5, 0.5]]
        assert server.num == 2
    with (
        _Scripted((*FINE, 5)) as server,
        pytest.raises(ServerError, match=r"^http://.* broke its answer off: .* \(2 tries\)\. Try again later\.$"),
    ):
        Client(server.address, "m", retries=1).predict(POINTS[:1])


def test_a_wrong_request_is_not():
    with _Scripted((400, {"error": "no"})) as server:
        with pytest.raises(ServerError, match=r"^m at http.*: no \(400\)$"):
            Client(server.address, "m").predict(POINTS[:1])
        assert server.num == 1


def test_requests_larger_than_tensorflow_servings_batches_are_halved():
    refused = (400, {"error": "Task size 4 is larger than maximum input batch size 2"})
    two = (200, {"outputs": {"probs": [[0.5], [0.5]]}})
    with _Scripted(refused, two, two) as server:
        assert len(Client(server.address, "m").predict(POINTS[:4])["probs"]) == 4
        assert server.num == 3
    with _Scripted(refused) as server, pytest.raises(ServerError, match="larger than maximum"):
        Client(server.address, "m").predict(POINTS[:4])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>"), r"^m at http.*: .*\(200\)$"),
        ((200, {"predictions": []}), r"^m at http.*: the answer has no named outputs\."),
        ((502, b"<html>"), r"^m at http.*: Bad Gateway \(502\)$"),
        ((500, {"message": "x"}), r"^m at http.*: Internal Server Error \(500\)$"),
        ((200, {"outputs": {"probs": [[0.5], [0.5, 0.5]]}}), r"^m at http.*: the answer isn't one of TensorFlow Serv"),
        ((200, {"outputs": {"probs": [[0.5], [0.5]]}}), r": probs has shape \(2, 1\) and dtype float64 for 1 inputs\."),
        ((200, {"outputs": {"probs": {"a": 1}}}), r": probs has shape \(\) and dtype object for 1 inputs\."),
    ],
)
def test_what_is_no_answer(answer, message):
    with _Scripted(answer) as server, pytest.raises(ServerError, match=message):
        Client(server.address, "m").predict(POINTS[:1])


def test_a_server_that_takes_too_long():
    with _Scripted((None, 0.5)) as server, pytest.raises(ServerError, match=r"no answer within 0\.1 seconds\. Raise"):
        Client(server.address, "m", timeout=0.1).predict(POINTS[:1])


def test_no_server():
    with pytest.raises(
        ServerError,
        match=r"^http://127\.0\.0\.1:9 can't be reached: .*refused.* \(2 tries\)\. Check .* http://host:8501 for",
    ):
        Client("http://127.0.0.1:9", "m", retries=1).predict(POINTS[:1])
    with pytest.raises(ServerError, match=r"\(UNAVAILABLE\) \(2 tries\)\. Try .* grpc://host:8500 for gRPC\.$"):
        Client("grpc://127.0.0.1:9", "m", retries=1).predict(POINTS[:1])


@pytest.mark.parametrize("host", ["a..b", "a b", "*"])
def test_hosts_that_cant_be(host):
    with pytest.raises(
        ServerError, match=r"^http://.* can't be asked: .*[^.]\. Check the address: http://host:8501 for"
    ):
        Client(f"http://{host}:80", "m").predict(POINTS[:1])


def test_infinite_answers_are_read():
    with _Scripted((200, b'{"outputs": {"alphas": [[Infinity, NaN, 1.0]]}}')) as server:
        assert np.isinf(Client(server.address, "m").predict(POINTS[:1])["alphas"][0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": "localhost:8501"}, r"^the server is 'localhost:8501'\. Allowed: http://host:8501 for REST"),
        ({"server": "grpc://host"}, r"^the server is 'grpc://host'\. "),
        ({"server": "grpc://host:99999"}, r"^the server is 'grpc://host:99999'\. "),
        ({"server": "grpc://:8500"}, r"^the server is 'grpc://:8500'\. "),
        ({"server": "http://h:abc"}, r"^the server is 'http://h:abc'\. "),
        ({"server": "http://[::1"}, r"^the server is 'http://\[::1'\. "),
        ({"version": 1, "label": "x"}, r"^version 1 and label 'x' were both given\. Leave one out\.$"),
        ({"model": ""}, r"^model is '', batch_size 128, "),
        ({"timeout": 0.0}, r"timeout 0\. Allowed: a name, and numbers above 0"),
    ],
)
def test_what_cant_be_asked(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Client(**{"server": "http://h", "model": "m", **arguments})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((0, 2), np.float32), r"^inputs have shape \(0, 2\)\. Allowed: \(n, \.\.\.\) with at least one"),
        (np.float32(1), r"^inputs have shape \(\)\. "),
        (np.array([[np.nan, 1]]), r"^inputs have NaN or infinite values, "),
    ],
)
def test_inputs_that_cant_be_sent(inputs, message):
    with pytest.raises(DataError, match=message):
        Client("http://h", "m").predict(inputs)


def test_the_command_line_says_what_is_missing(capsys):
    assert cli.main(["main.py", "--stage=query", "--zoo=m", "--input=x.npz"]) == 2
    assert "--server is missing. Say --stage=query --server=http://HOST:8501" in capsys.readouterr().err
