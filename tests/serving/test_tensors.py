"""TensorFlow Serving's JSON: what is read, what is written, and what is refused, in which words."""

import base64
import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from end2_tf.serving import tensors
from end2_tf.serving.request_error import Code, RequestError
from end2_tf.serving.tensors import Signature, Spec

IMAGES = Signature("serving_default", {"inputs": Spec(np.dtype("uint8"), (None, 2, 2, 1))}, {})
FEATURES = Signature("features", {"inputs": Spec(np.dtype("float32"), (None, 2))}, {})
TEXT = Signature("serve_bytes", {"image_bytes": Spec(np.dtype(object), (None,))}, {})
TWO = Signature("two", {"a": Spec(np.dtype("float32"), (None,)), "b": Spec(np.dtype("int64"), (None,))}, {})
PAIRS = Signature("pairs", {"texts": Spec(np.dtype(object), (None, 2))}, {})
SIGNATURES = {each.name: each for each in (IMAGES, FEATURES, TEXT, TWO, PAIRS)}


def _parse(request, name=None):
    request = request if name is None else {"signature_name": name, **request}
    return tensors.parse(json.dumps(request).encode(), SIGNATURES)


def _checked(body):
    signature, _, inputs = tensors.parse(body, SIGNATURES)
    tensors.check(inputs, signature, 3)
    return signature, inputs


def test_rows_and_columns_are_the_same_array():
    image = [[[0], [255]], [[7], [8]]]
    expected = np.array([image], np.uint8)
    for request in (
        {"instances": [image]},
        {"instances": [{"inputs": image}]},
        {"inputs": [image]},
        {"inputs": {"inputs": [image]}},
        {"signature_name": "", "instances": [image]},
    ):
        signature, is_row, inputs = _parse(request)
        assert signature is IMAGES
        assert is_row == ("instances" in request)
        np.testing.assert_array_equal(inputs["inputs"], expected)
        assert inputs["inputs"].dtype == np.uint8


def test_encoded_strings():
    encoded = {"b64": base64.b64encode(b"\x00\xff").decode()}
    for request in (
        {"instances": [encoded, "text"]},
        {"instances": [{"image_bytes": encoded}, {"image_bytes": "text"}]},
        {"inputs": [encoded, "text"]},
        {"inputs": {"image_bytes": [encoded, "text"]}},
    ):
        assert _parse(request, "serve_bytes")[2]["image_bytes"].tolist() == [b"\x00\xff", b"text"]
    assert _parse({"inputs": [["a", "b"], [encoded, ""]]}, "pairs")[2]["texts"].tolist() == [
        [b"a", b"b"],
        [b"\x00\xff", b""],
    ]


def test_several_inputs():
    for request in ({"instances": [{"a": 1.5, "b": 2}, {"a": 3, "b": 4}]}, {"inputs": {"a": [1.5, 3], "b": [2, 4]}}):
        inputs = _parse(request, "two")[2]
        assert inputs["a"].tolist() == [1.5, 3.0]
        assert inputs["a"].dtype == np.float32
        assert inputs["b"].tolist() == [2, 4]


def test_whole_floats_are_pixels_and_nan_is_a_number():
    assert _parse({"instances": [[[[0.0], [1.0]], [[2], [3]]]]})[2]["inputs"].sum() == 6
    assert np.isnan(_parse({"inputs": [[float("nan"), 1]]}, "features")[2]["inputs"][0, 0])
    assert np.isinf(_parse({"inputs": [[1e300, 1]]}, "features")[2]["inputs"][0, 0])


REFUSED = [
    (b"", r"^JSON Parse error: Expecting value at offset: 0$"),
    (b"{", r"^JSON Parse error: .* at offset: 1$"),
    (b"\xff\xfe{}", r"^JSON Parse error: "),
    (b"[" * 100_000, r"^JSON Parse error: it is more than 100 levels deep$"),
    (b"[]", r"^the request is an empty list\. Allowed: an object"),
    (b"null", r"^the request is null\. "),
    ({}, r"either 'instances' \(rows\) or 'inputs'"),
    ({"instances": [1], "inputs": [1]}, r"and not both\.$"),
    ({"instances": [1], "instance": 1}, r"^the request has 'instance'\. Allowed: inputs, instances, signature_name\.$"),
    ({"instances": [1], "signature_name": 3}, r"^signature_name is a number\. Allowed: a string\.$"),
    ({"instances": [1], "signature_name": "feature"}, r"^signature_name is 'feature'.* Did you mean 'features'\? "),
    ({"instances": {}}, r"^'instances' is an object\. Allowed: a list of at least one input, each inputs: uint8"),
    ({"instances": []}, r"^'instances' is an empty list\."),
    ({"instances": [[[1], [2]]]}, r"^inputs has shape \(1, 2, 1\)\. Allowed: uint8 \(n, 2, 2, 1\), n the number"),
    ({"instances": [[[[[1]]]]]}, r"^inputs has more than 4 dimensions\. Allowed: uint8 \(n, 2, 2, 1\)\.$"),
    ({"instances": [[[[1], [2]], [[3], "xyz"]]]}, r"^inputs has values that are strings\. "),
    ({"instances": [[[[1], [2]], [[3], [{"b64": ""}]]]]}, r"^inputs has values that are no numbers\. "),
    ({"inputs": [["a", "b"], ["c"]], "signature_name": "pairs"}, r"^texts has shape \(2\)\. "),
    ({"inputs": 7}, r"^inputs has shape \(\)\. "),
    ({"inputs": []}, r"^inputs has shape \(0\)\. "),
    ({"instances": [[[[1], [2]], [[3], [4, 5]]]]}, r"^inputs isn't a tensor: its rows differ in length\. "),
    ({"instances": [[[[1], [2]], [[3], ["x"]]]]}, r"^inputs has values that are strings\. "),
    ({"instances": [[[[1], [2]], [[3], [None]]]]}, r"^inputs has values that are no numbers\. "),
    ({"instances": [[[[True], [False]], [[True], [True]]]]}, r"^inputs has values that are true and false\. "),
    ({"instances": [[[[1], [2]], [[3], [256]]]]}, r"^inputs has values from 1 to 256\. Allowed: 0 to 255\.$"),
    ({"instances": [[[[1], [2]], [[3], [-1]]]]}, r"^inputs has values from -1 to 3\. "),
    ({"instances": [[[[1], [2]], [[3], [1.5]]]]}, r"^inputs has values that aren't whole\. "),
    ({"instances": [[[[1], [2]], [[3], [10**30]]]]}, r"^inputs has values from 1.* to 1e\+30\. Allowed: 0 to 255\.$"),
    ({"instances": [{"input": 1}]}, r"^instance 0 has input\. Allowed: inputs, in each\.$"),
    ({"instances": [{"inputs": 1}, 3]}, r"^instance 1 has a number\. "),
    ({"inputs": {"x": 1}}, r"^'inputs' has x\. Allowed: inputs\.$"),
    ({"inputs": {}}, r"^'inputs' has nothing\. "),
    ({"inputs": [1], "signature_name": "two"}, r"^inputs stand without a name, but two takes a, b\.$"),
    ({"inputs": {"a": [1.0, 2.0], "b": [1]}, "signature_name": "two"}, r"^inputs have different batch sizes\. "),
    ({"inputs": [{"b64": "%"}], "signature_name": "serve_bytes"}, r"^image_bytes has a b64 that isn't base64\.$"),
    ({"inputs": [3], "signature_name": "serve_bytes"}, r"^image_bytes has a number\. Allowed: a string, or "),
    ({"inputs": "x", "signature_name": "serve_bytes"}, r"^image_bytes is a string where a list of strings is "),
]


@pytest.mark.parametrize(("request_", "message"), REFUSED)
def test_what_is_refused(request_, message):
    body = request_ if isinstance(request_, bytes) else json.dumps(request_).encode()
    with pytest.raises(RequestError, match=message) as caught:
        _checked(body)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("signature", ["features", "pairs"])
def test_one_long_text_makes_not_all_values_as_long(signature):
    texts = [["a" * 50_000, "b"], *[["b", "b"]] * 500]
    tracemalloc.start()
    try:
        with contextlib.suppress(RequestError):
            _parse({"instances": texts}, signature)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_arrays_are_checked_against_their_signature():
    good = np.zeros((3, 2), np.float32)
    tensors.check({"inputs": good}, FEATURES, 3)
    for inputs, message in (
        ({}, "inputs are none. Allowed: inputs."),
        ({"x": good}, "inputs are x. Allowed: inputs."),
        ({"inputs": good.astype(np.float64)}, "inputs is float64 (3, 2). Allowed: float32 (n, 2)."),
        ({"inputs": good[:0]}, "the request has no inputs. Send at least one."),
        ({"inputs": np.zeros((4, 2), np.float32)}, "the request has 4 inputs. Allowed: 3. Send it in pieces."),
        ({"inputs": good[:, :1]}, "inputs has shape (3, 1). Allowed: float32 (n, 2), n the number of inputs."),
    ):
        with pytest.raises(RequestError) as caught:
            tensors.check(inputs, FEATURES, 3)
        assert str(caught.value) == message


OUTPUTS = {"probs": np.array([[0.1, 0.9], [0.5, 0.5]], np.float32), "predicted_class": np.array([1, 0])}


def test_answers():
    rows = json.loads(tensors.format_answer(OUTPUTS, is_row=True))
    assert rows == {
        "predictions": [{"probs": [0.1, 0.9], "predicted_class": 1}, {"probs": [0.5, 0.5], "predicted_class": 0}]
    }
    columns = json.loads(tensors.format_answer(OUTPUTS, is_row=False))
    assert columns == {"outputs": {"probs": [[0.1, 0.9], [0.5, 0.5]], "predicted_class": [1, 0]}}
    only = {"probs": OUTPUTS["probs"]}
    assert json.loads(tensors.format_answer(only, is_row=True)) == {"predictions": [[0.1, 0.9], [0.5, 0.5]]}
    assert json.loads(tensors.format_answer(only, is_row=False)) == {"outputs": [[0.1, 0.9], [0.5, 0.5]]}


@pytest.mark.parametrize("is_row", [True, False])
def test_answers_that_arent_finite(is_row):
    values = np.array([[np.inf, -np.inf], [np.nan, 1.0]], np.float32)
    body = tensors.format_answer({"x": values, "y": np.array([1, 2])}, is_row=is_row)
    assert b"Infinity" in body
    assert b"NaN" in body
    answer = json.loads(body)
    got = [row["x"] for row in answer["predictions"]] if is_row else answer["outputs"]["x"]
    np.testing.assert_array_equal(got, values)


def test_string_answers_are_base64_where_their_name_says_bytes():
    values = np.array([b"\xff\x00", b"a"], object)
    rows = json.loads(tensors.format_answer({"x_bytes": values, "x": values[::-1]}, is_row=True))["predictions"]
    assert rows[1]["x_bytes"] == {"b64": "YQ=="}
    assert rows[0]["x"] == "a"


def test_slices_of_a_batch_are_written_as_they_are():
    whole = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert json.loads(tensors.format_answer({"x": whole[:, ::2]}, is_row=False)) == {"outputs": whole[:, ::2].tolist()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["inputs", "image_bytes", "a", "b", "b64", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={"instances": JSON, "inputs": JSON, "signature_name": st.sampled_from([*SIGNATURES, "", "x"])}
    )
    | JSON
)
def test_any_json_is_an_array_or_refused(request_):
    try:
        signature, inputs = _checked(json.dumps(request_).encode())
    except RequestError:
        return
    for name, spec in signature.inputs.items():
        assert inputs[name].dtype == spec.dtype
        assert inputs[name].ndim == len(spec.shape)
