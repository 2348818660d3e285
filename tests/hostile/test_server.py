"""Requests, exported models and lists of models from strangers: input → reader → what is said."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from end2_tf.export import warmup
from end2_tf.reading import protos, saved_models
from end2_tf.serving import catalogue, tensors
from end2_tf.serving.tensors import Signature, Spec

DEEP = "[" * 100_000 + "]" * 100_000
CLEAR_SCREEN = "\x1b[2J"

SIGNATURES = {
    "serving_default": Signature("serving_default", {"inputs": Spec(np.dtype(np.float32), (None, 2))}, {}),
    "pixels": Signature("pixels", {"inputs": Spec(np.dtype(np.uint8), (None, 2))}, {}),
    "serve_bytes": Signature("serve_bytes", {"image_bytes": Spec(np.dtype(object), (None,))}, {}),
}


def answered(body: str | bytes):
    signature, _, inputs = tensors.parse(body.encode() if isinstance(body, str) else body, SIGNATURES)
    tensors.check(inputs, signature, 16_384)


def of(instances, signature="serving_default") -> str:
    return json.dumps({"signature_name": signature, "instances": instances})


def png(width: int, height: int) -> str:
    import base64

    content = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    image = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + content
        + struct.pack(">I", zlib.crc32(content))
        + b"\0\0\0\x09IDAT"
    )
    return base64.b64encode(image).decode()


REQUESTS = {
    "100,000 lists within each other": (DEEP, r"^JSON Parse error: it is more than 100 levels deep"),
    "inputs deep within each other": ('{"instances": ' + "[" * 90 + "]" * 90 + "}", r"^inputs (isn't a tensor|has)"),
    "no JSON": (b"\xff\xfe", r"^JSON Parse error: "),
    "a number of 100,000 digits": ('{"instances": [' + "9" * 100_000 + "]}", r"^JSON Parse error: Exceeds the limit"),
    "a list": ("[]", r"^the request is an empty list\. Allowed: an object"),
    "a key of a megabyte": (json.dumps({"x" * 1_000_000: 1}), r"^the request has 'x{100}'\. Allowed"),
    "a key that clears the screen": (json.dumps({CLEAR_SCREEN: 1}), r"^the request has '\\x1b\[2J'\. Allowed"),
    "a signature of a megabyte": (of([[1, 2]], "x" * 1_000_000), r"^signature_name is 'x{100}', which the model"),
    "an input of a megabyte's name": (of([{"x" * 1_000_000: 1}]), r"^instance 0 has x+ … x+\. Allowed: inputs"),
    "a hundred thousand names": (
        of([dict.fromkeys(map(str, range(100_000)), 1)]),
        r"\(100,000 in all\)\. Allowed: inputs",
    ),
    "rows that differ in length": (of([[1, 2], [3]]), r"^inputs isn't a tensor: its rows differ in length"),
    "texts": (of([["1", "2"]]), r"^inputs has values that are strings"),
    "numbers that overflow": (of([[1e308, 10**400]]), r"^(inputs has values that are no numbers|JSON Parse error)"),
    "pixels that are NaN": ('{"signature_name": "pixels", "instances": [[NaN, 1]]}', r"^inputs has values"),
    "pixels that overflow": (of([[-1, 2**70]], "pixels"), r"^inputs has values"),
    "an image of no base64": (of([{"b64": "*"}], "serve_bytes"), r"^image_bytes has a b64 that isn't base64"),
    "an image of 10 GB": (
        of([{"b64": png(60_000, 60_000)}], "serve_bytes"),
        r"^image_bytes\[0\] says it has more than 67,108,864 pixels, the most that are read\.$",
    ),
    "an image that is text": (of(["no image"], "serve_bytes"), r"^image_bytes\[0\] is no PNG or JPEG image\.$"),
    "an image that is PostScript": (of(["%!PS-Adobe-3.0 EPSF-3.0\n"], "serve_bytes"), r"is no PNG or JPEG image"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_requests(refused, case):
    body, message = REQUESTS[case]
    refused(lambda folder: body, answered, message)


def tensor(*sizes: int, dtype=types_pb2.DT_FLOAT, **values) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


TENSORS = {
    "one value for a terabyte": (
        tensor(10**12, float_val=[0.0]),
        r"has shape \(1000000000000,\), but 1 values or bytes",
    ),
    "a shape beyond 64 bits": (tensor(2**62, 2**62, 2**62, float_val=[0.0]), r"but 1 values or bytes"),
    "a size below zero": (tensor(-1, float_val=[0.0]), r"has no complete shape"),
    "a hundred dimensions": (tensor(*[1] * 100, float_val=[0.0]), r"has 100 dimensions; at most 64 are allowed"),
    "bytes of another shape": (tensor(3, tensor_content=b"abcd"), r"is no tensor"),
    "a type that isn't there": (tensor(1, dtype=999, float_val=[0.0]), r"is no tensor"),
    "a handle": (tensor(1, dtype=types_pb2.DT_RESOURCE, float_val=[0.0]), r"is no tensor"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case):
    proto, message = TENSORS[case]
    with pytest.raises(ValueError, match=message) as raised:
        protos.array(proto)
    assert str(raised.value).isprintable()


# Exported models


def graph(*operations: str, by=lambda function, name: function.node_def.add(name="n", op=name), **meta):
    """Makes a SavedModel of one function, which calls another, which has the operations."""

    def make(folder: Path) -> Path:
        model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        one = model.meta_graphs.add()
        one.object_graph_def.concrete_functions["entry"].SetInParent()
        if not meta.get("is_new", True):
            one.ClearField("object_graph_def")
        entry, inner, unused = (one.graph_def.library.function.add() for _ in range(3))
        entry.signature.name, inner.signature.name, unused.signature.name = "entry", "inner", "traced_save"
        by(entry, "inner")
        for number, operation in enumerate(operations):
            inner.node_def.add(name=f"n{number}", op=operation)
        unused.node_def.add(name="n", op="SaveV2")
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        return folder

    return make


def by_attribute(function, name):
    function.node_def.add(name="loop", op="StatelessWhile").attr["body"].func.name = name


def by_list(function, name):
    function.node_def.add(name="case", op="StatelessCase").attr["branches"].list.func.add(name=name)


def plain_bytes(content: bytes):
    def make(folder: Path) -> Path:
        (folder / "saved_model.pb").write_bytes(content)
        return folder

    return make


def may(operation: str) -> str:
    return rf"has the operation {operation}, which may reach files, Python or other machines\. It isn't loaded"


MODELS = {
    "no SavedModel": (plain_bytes(b"\xff" * 99), r"saved_model\.pb is no SavedModel, or only part of one"),
    "nothing": (plain_bytes(b""), r"is a SavedModel of TensorFlow 1"),
    "one of TensorFlow 1": (graph("Add", is_new=False), r"is a SavedModel of TensorFlow 1, which runs as it is loaded"),
    "one that writes files": (graph("AddV2", "WriteFile"), may("WriteFile")),
    "one that reads files": (graph("ReadFile"), may("ReadFile")),
    "one that reads files in a loop": (graph("ReadFile", by=by_attribute), may("ReadFile")),
    "one that reads files in a branch": (graph("MatchingFiles", by=by_list), may("MatchingFiles")),
    "one that calls Python": (graph("EagerPyFunc"), may("EagerPyFunc")),
    "one that saves": (graph("SaveV2"), may("SaveV2")),
    "one that prints to a file": (graph("PrintV2"), may("PrintV2")),
    "one that maps memory from a file": (graph("ImmutableConst"), may("ImmutableConst")),
    "one that calls a server": (graph("RpcCall"), may("RpcCall")),
    "one of an operation that isn't there": (graph("Evil"), r"has the operation Evil, which TensorFlow doesn't have"),
    "one that clears the screen": (graph(CLEAR_SCREEN), r"the operation \\x1b\[2J, which TensorFlow doesn't have"),
}


@pytest.mark.parametrize("case", MODELS)
def test_exported_models(refused, case):
    make, message = MODELS[case]
    refused(make, saved_models.check, message)


def test_what_computes_is_served_though_it_can_save_itself(tmp_path):
    saved_models.check(graph("AddV2", "MatMul", "StatelessIf", "DecodeImage")(tmp_path))


def listed(text: str | bytes):
    def make(folder: Path) -> Path:
        (folder / "models.config").write_bytes(text.encode() if isinstance(text, str) else text)
        return folder / "models.config"

    return make


def model(name: str) -> str:
    return f'model_config_list {{ config {{ name: "{name}" base_path: "/x" }} }}'


LISTS = {
    "no text": (listed(b"\xff"), r"models\.config is no text in UTF-8"),
    "no list": (listed("evil { }"), r"is no text form of TensorFlow Serving's ModelServerConfig"),
    "100,000 brackets": (listed("model_config_list {" * 100_000), r"is no text form of TensorFlow Serving's"),
    "five megabytes": (listed(" " * 5_000_000), r"has more than 4,000,000 bytes"),
    "a name that clears the screen": (
        listed(model("\\x1b[2J")),
        r"has the model '\\x1b\[2J', which no request could",
    ),
    "a name outside": (listed(model("../x")), r"has the model '\.\./x', which no request could name"),
    "a version beyond 64 bits": (
        listed(model("x").replace("base_path", f"version_labels {{ key: 'a' value: {10**30} }} base_path")),
        r"is no text form of TensorFlow Serving's",
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_of_models(refused, case):
    make, message = LISTS[case]
    refused(make, catalogue.read, message)


def test_requests_to_warm_up_with_that_are_none(refused):
    refused(listed(b"no records" * 9), lambda path: list(warmup.read(path)), r"models\.config holds no requests \(")


def test_a_file_of_requests_that_is_too_large(refused, monkeypatch):
    monkeypatch.setattr(warmup, "MAX_BYTES", 5)
    refused(listed(b"records"), lambda path: list(warmup.read(path)), r"has more than 5 bytes, so it isn't read")
