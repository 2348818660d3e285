"""The REST API as TensorFlow Serving publishes it, asked by a stock HTTP client."""

import base64
import io
import json
import threading

import numpy as np
import pytest
import requests
from PIL import Image

from end2_tf.serving import catalogue

pytestmark = pytest.mark.slow  # the first starts a server

RNG = np.random.default_rng(5)
POINTS = RNG.normal(120, 60, (5, 2)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)


def _ask(served, path, body=None, **more):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body)
    return requests.request("GET" if body is None else "POST", f"{served.rest}{path}", data=data, timeout=30, **more)


def _png(image):
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.mark.parametrize("which", ["points", "points/versions/2", "points/labels/canary"])
def test_predictions_are_the_models(served, exported, which):
    answer = _ask(served, f"/v1/models/{which}:predict", {"instances": POINTS.tolist()})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    rows = answer.json()["predictions"]
    expected = exported[1]["points", 2].predict(POINTS, verbose=0)
    for name in ("probs", "alphas", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
        np.testing.assert_allclose([row[name] for row in rows], expected[name], rtol=1e-5, atol=1e-6)
    assert [row["predicted_class"] for row in rows] == expected["probs"].argmax(1).tolist()


@pytest.mark.parametrize("which", ["versions/1", "labels/stable"])
def test_an_older_version_answers_by_number_and_label(served, exported, which):
    outputs = _ask(served, f"/v1/models/points/{which}:predict", {"inputs": POINTS.tolist()}).json()["outputs"]
    expected = exported[1]["points", 1].predict(POINTS, verbose=0)
    np.testing.assert_allclose(outputs["probs"], expected["probs"], rtol=1e-5)


def test_images_as_numbers_and_as_files(served, exported):
    expected = exported[1]["images", 1].predict(IMAGES, verbose=0)["probs"]
    outputs = _ask(served, "/v1/models/images:predict", {"inputs": IMAGES.tolist()}).json()["outputs"]
    np.testing.assert_allclose(outputs["probs"], expected, rtol=1e-5)
    request = {"signature_name": "serve_bytes", "instances": [{"b64": _png(image)} for image in IMAGES]}
    rows = _ask(served, "/v1/models/images:predict", request).json()["predictions"]
    np.testing.assert_allclose([row["probs"] for row in rows], expected, rtol=1e-5)


def test_decisions(served):
    request = {"signature_name": "decide", "inputs": [*POINTS.tolist(), [float("nan"), 1.0]]}
    outputs = _ask(served, "/v1/models/points:predict", request).json()["outputs"]
    unfamiliar = [value > 0.05 for value in outputs["knowledge_uncertainty"][:-1]]
    assert outputs["is_unfamiliar"] == [*unfamiliar, True]
    assert outputs["abstain"] == [a or b for a, b in zip(unfamiliar, outputs["is_uncertain"], strict=False)] + [True]


def test_a_large_request(served, exported):
    points = RNG.normal(120, 60, (1500, 2)).astype(np.float32)
    rows = _ask(served, "/v1/models/points:predict", {"instances": points.tolist()}).json()["predictions"]
    np.testing.assert_allclose(
        [row["probs"] for row in rows], exported[1]["points", 2].predict(points, verbose=0)["probs"], rtol=1e-5
    )


def test_status(served):
    def versions(path):
        return [(v["version"], v["state"], v["status"]) for v in _ask(served, path).json()["model_version_status"]]

    fine = {"error_code": "OK", "error_message": ""}
    assert versions("/v1/models/points") == [("2", "AVAILABLE", fine), ("1", "AVAILABLE", fine)]
    assert versions("/v1/models/points/versions/1") == [("1", "AVAILABLE", fine)]
    assert versions("/v1/models/points/labels/canary") == [("2", "AVAILABLE", fine)]


def test_metadata(served):
    answer = _ask(served, "/v1/models/images/metadata").json()
    assert answer["model_spec"] == {"name": "images", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serve_bytes", "decide"}
    inputs = signatures["serving_default"]["inputs"]["inputs"]
    assert inputs["dtype"] == "DT_UINT8"
    assert [dim["size"] for dim in inputs["tensor_shape"]["dim"]] == ["-1", "8", "8", "1"]
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"


REFUSED = [
    ("/v1/models/nothing", None, 404, "Could not find any versions of model nothing"),
    ("/v1/models/points/versions/9", None, 404, "Could not find version 9 of model points"),
    ("/v1/models/nothing:predict", {}, 404, "Servable not found for request: Latest(nothing)"),
    ("/v1/models/points/versions/9:predict", {}, 404, "Servable not found for request: Specific(points, 9)"),
    ("/v1/models/points/labels/x:predict", {}, 400, "Unrecognized servable version label: x. Labels: canary, stable."),
    ("/v1/models/points/versions/99999999999999999999:predict", {}, 400, "Malformed request: POST "),
    ("/v1/models/points:guess", {}, 400, "Malformed request: POST /v1/models/points:guess"),
    ("/v1/models/points:predict", None, 400, "Malformed request: GET /v1/models/points:predict"),
    ("/v1/models/points", {}, 400, "Malformed request: POST /v1/models/points"),
    ("/v1/models/points:classify", {}, 501, "classify isn't served. Use :predict."),
    ("/v1/models/points:predict", b"{", 400, "JSON Parse error: "),
    ("/v1/models/points:predict", {"instances": [[1]]}, 400, "inputs has shape (1, 1). Allowed: float32 (n, 2)"),
    ("/v1/models/points:predict", {"inputs": []}, 400, "inputs has shape (0). "),
    ("/v1/models/images:predict", {"instances": IMAGES.astype(int).__add__(300).tolist()}, 400, "inputs has values"),
    (
        "/v1/models/images:predict",
        {"signature_name": "serve_bytes", "instances": [{"b64": "AAAA"}]},
        400,
        "image_bytes[0] is no PNG or JPEG image.",
    ),
    ("/v2", None, 404, "Not Found: GET /v2"),
    ("/end2/models", {}, 405, "Method Not Allowed: POST /end2/models"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSED)
def test_what_is_refused_has_tensorflow_servings_body(served, path, body, status, message):
    answer = _ask(served, path, body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(message)


def test_too_large_and_too_slow(serve, exported):
    server = serve(
        [m for m in catalogue.find(exported[0]) if m.name == "points"],
        max_request_bytes=1000,
        receive_seconds=0.2,
        grpc_port=None,
    )
    assert _ask(server, "/v1/models/points:predict", {"instances": [[0, 0]] * 10}).status_code == 200
    answer = _ask(server, "/v1/models/points:predict", {"instances": [[0, 0]] * 1000})
    assert answer.status_code == 413
    assert answer.json() == {"error": "the request is larger than 1,000 bytes. Send it in pieces."}
    chunks = (b" " * 600 for _ in range(3))  # no content-length
    assert requests.post(f"{server.rest}/v1/models/points:predict", data=chunks, timeout=30).status_code == 413
    gate = threading.Event()

    def slow():
        yield b"{"
        gate.wait(1.0)
        yield b"}"

    answer = requests.post(f"{server.rest}/v1/models/points:predict", data=slow(), timeout=30)
    assert answer.status_code == 504
    assert answer.json() == {"error": "the request didn't arrive within 0.2 seconds."}


def test_overload_is_refused_and_ends(serve, exported, pool):
    server = serve(
        [m for m in catalogue.find(exported[0]) if m.name == "images"], max_queued=40, max_batch_size=1, grpc_port=None
    )
    body = json.dumps({"inputs": np.resize(IMAGES, (20, 8, 8, 1)).tolist()}).encode()
    answers = [pool.submit(_ask, server, "/v1/models/images:predict", body) for _ in range(64)]
    codes = [answer.result().status_code for answer in answers]
    assert set(codes) == {200, 503}
    refused = next(a.result() for a in answers if a.result().status_code == 503)
    assert refused.json()["error"].endswith(" inputs are waiting, and 40 may. Try again later.")
    assert _ask(server, "/v1/models/images:predict", body).status_code == 200
    assert _ask(server, "/healthz").json() == {"ready": True}


def test_figures_for_prometheus(serve, exported):
    server = serve(catalogue.find(exported[0]), grpc_port=None)
    _ask(server, "/v1/models/points:predict", {"signature_name": "decide", "inputs": [[float("nan"), 0], [1, 2]]})
    for path in ("/v1/models/points:predict", "/v1/models/made_up_name:predict"):
        _ask(server, path, {})
    lines = _ask(server, "/monitoring/prometheus/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['end2_tf_requests_total{api="rest",code="OK",model="points"}'] == "1.0"
    assert values['end2_tf_requests_total{api="rest",code="INVALID_ARGUMENT",model="points"}'] == "1.0"
    assert values['end2_tf_requests_total{api="rest",code="NOT_FOUND",model=""}'] == "1.0"
    assert values['end2_tf_inputs_total{model="points"}'] == "2.0"
    assert float(values['end2_tf_abstained_total{model="points",reason="unfamiliar"}']) >= 1
    assert values['end2_tf_batch_size_count{model="points"}'] == "1.0"
    assert values['end2_tf_queued_inputs{model="images"}'] == "0.0"
    assert "made_up_name" not in "".join(lines)


def test_what_the_page_is_told(served):
    models = _ask(served, "/end2/models").json()["models"]
    assert [(m["name"], m["version"], m["labels"]) for m in models] == [
        ("images", 1, ["stable"]),
        ("points", 2, ["canary"]),
        ("points", 1, ["stable"]),
    ]
    assert models[0]["signatures"]["serving_default"]["inputs"] == {"inputs": "uint8 (n, 8, 8, 1)"}
    outputs = models[0]["signatures"]["serving_default"]["outputs"]
    assert outputs["predicted_class"] in ("int32 (n)", "int64 (n)")
    assert outputs["probs"].startswith("float32 (n, ")
    specs = [spec for m in models for s in m["signatures"].values() for spec in (s["inputs"] | s["outputs"]).values()]
    assert all(" (n" in spec for spec in specs)  # so requests are merged
    assert models[0]["metadata"]["classes"] == ["left", "middle", "right"]
    assert _ask(served, "/page/page.js").headers["x-content-type-options"] == "nosniff"
    page = _ask(served, "/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["content-type"].startswith("text/html")
