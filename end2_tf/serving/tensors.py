"""TensorFlow Serving's JSON, to arrays and back, checked against a signature.

Format: https://www.tensorflow.org/tfx/serving/api_rest, "Predict API". A row request has a list of `instances`, one an
input, and gets a list of `predictions`; a columnar one has `inputs`, whole tensors, and gets `outputs`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from end2_tf.errors import suggestion
from end2_tf.reading import images, texts
from end2_tf.serving.request_error import invalid

Arrays = dict[str, np.ndarray]
DEFAULT_SIGNATURE = "serving_default"
_B64 = "b64"
IMAGES = "image_bytes"  # what the signature serve_bytes takes


@dataclass(frozen=True)
class Spec:
    """What a tensor must be.

    Attributes:
        dtype: NumPy's; object stands for strings.
        shape: None where any size goes; the first dimension is the batch if it is None.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]

    @property
    def has_batch(self) -> bool:
        return self.shape[:1] == (None,)

    def __str__(self) -> str:
        name = "string" if self.dtype == object else self.dtype.name
        return f"{name} ({', '.join('n' if size is None else str(size) for size in self.shape)})"


@dataclass(frozen=True)
class Signature:
    """Names and specs of what a model takes and gives."""

    name: str
    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]

    @functools.cached_property
    def is_batched(self) -> bool:
        """Whether all it takes and gives has a batch, so that requests can be merged, and answers cut."""
        return bool(self.inputs) and all(spec.has_batch for spec in (*self.inputs.values(), *self.outputs.values()))

    def size(self, inputs: Arrays) -> int:
        """Returns the number of inputs of a request; one where there is no batch."""
        return len(next(iter(inputs.values()))) if self.is_batched else 1


def parse(body: bytes, signatures: Mapping[str, Signature]) -> tuple[Signature, bool, Arrays]:
    """Reads the body of a `:predict` request.

    Args:
        body: JSON.
        signatures: The model's, by name.

    Returns:
        The signature, whether the request has rows, and the inputs.

    Raises:
        RequestError: with what is wrong.
    """
    request = _json(body)
    if not isinstance(request, dict):
        raise invalid(f"the request is {_kind(request)}. Allowed: an object with 'instances' or 'inputs'.")
    known = {"signature_name", "instances", "inputs"}
    if unknown := [key for key in request if key not in known]:
        raise invalid(f"the request has {unknown[0][:100]!r}. Allowed: {', '.join(sorted(known))}.")
    signature = pick(request.get("signature_name", DEFAULT_SIGNATURE), signatures)
    if ("instances" in request) == ("inputs" in request):
        raise invalid("the request needs either 'instances' (rows) or 'inputs' (columns), and not both.")
    is_row = "instances" in request
    columns = _rows(request["instances"], signature) if is_row else _columns(request["inputs"], signature)
    return signature, is_row, {name: _array(columns[name], name, spec) for name, spec in signature.inputs.items()}


def pick(name: Any, signatures: Mapping[str, Signature]) -> Signature:
    """Returns the signature of that name, the default for ''."""
    if not isinstance(name, str):
        raise invalid(f"signature_name is {_kind(name)}. Allowed: a string.")
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise invalid(
            f"signature_name is {name[:100]!r}, which the model doesn't have. {suggestion(name[:100], signatures)}"
            f"Signatures: {', '.join(sorted(signatures))}."
        )
    return signatures[name]


def check(inputs: Arrays, signature: Signature, max_inputs: int) -> None:
    """Raises RequestError where arrays aren't what a signature takes: names, dtypes, shapes, one batch size for all.

    Takes 0.1 ms for each encoded image, next to nothing for all else.
    """
    if set(inputs) != set(signature.inputs):
        raise invalid(f"inputs are {texts.listed(sorted(inputs))}. Allowed: {', '.join(sorted(signature.inputs))}.")
    for name, value in inputs.items():
        spec = signature.inputs[name]
        if value.dtype != spec.dtype:
            raise invalid(f"{name} is {Spec(value.dtype, value.shape)}. Allowed: {spec}.")
        _check_shape(value, name, spec)
    sizes = {len(inputs[name]) for name, spec in signature.inputs.items() if spec.has_batch}
    if signature.is_batched and len(sizes) > 1:
        raise invalid("inputs have different batch sizes. Make them equal.")
    if signature.is_batched and 0 in sizes:
        raise invalid("the request has no inputs. Send at least one.")
    if (size := max(sizes, default=0)) > max_inputs:
        raise invalid(f"the request has {size:,} inputs. Allowed: {max_inputs:,}. Send it in pieces.")
    if IMAGES in inputs:
        _check_images(inputs[IMAGES])


def _check_images(values: np.ndarray) -> None:
    """Raises RequestError where an image says it is larger than one may be; TensorFlow would decode gigabytes."""
    for number, content in enumerate(values.ravel()):
        if fault := images.check_encoded(content if isinstance(content, bytes) else str(content).encode()):
            raise invalid(f"{IMAGES}[{number}] {fault}.")


def check_rows(outputs: Arrays, inputs: Arrays) -> None:
    """Raises RequestError where outputs can't be written as rows, one for each input."""
    size = len(next(iter(inputs.values()), ()))
    for name, value in outputs.items():
        if value.shape[:1] != (size,):
            raise invalid(
                f"{name} is {Spec(value.dtype, value.shape)}, which are no rows of {size:,} instances. Send 'inputs' "
                "(columns) instead of 'instances'."
            )


def format_answer(outputs: Mapping[str, np.ndarray], *, is_row: bool) -> bytes:
    """Returns the body of an answer: `predictions`, a list over the batch, or `outputs`, whole tensors.

    One output alone stands without its name. NaN and infinities are written as JavaScript's NaN and Infinity, as
    TensorFlow Serving does.
    """
    written = {name: _strings(name, value) for name, value in outputs.items()}
    answer: Any
    if is_row:
        rows = zip(*written.values(), strict=True)
        answer = {"predictions": [row[0] if len(row) == 1 else dict(zip(written, row, strict=True)) for row in rows]}
    else:
        answer = {"outputs": next(iter(written.values())) if len(written) == 1 else written}
    if all(np.isfinite(value).all() for value in written.values() if _is_float(value)):
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(answer, default=lambda value: value.tolist()).encode()


def write_error(message: str) -> bytes:
    """Returns TensorFlow Serving's body of an error."""
    return json.dumps({"error": message}).encode()


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:  # knows NaN and Infinity, which clients of TensorFlow Serving may send
        return texts.parse_json(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError as error:  # no UTF-8, too deep, or a number of too many digits
        raise invalid(f"JSON Parse error: {error}") from None


def _rows(instances: Any, signature: Signature) -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise invalid(
            f"'instances' is {_kind(instances)}. Allowed: a list of at least one input, each {_wanted(signature)}."
        )
    names = list(signature.inputs)
    if not _is_named(instances[0]):
        _check_single(signature)
        return {names[0]: instances}
    for i, each in enumerate(instances):
        if not _is_named(each) or set(each) != set(names):
            given = texts.listed(sorted(each)) if isinstance(each, dict) else _kind(each)
            raise invalid(f"instance {i} has {given}. Allowed: {', '.join(names)}, in each.")
    return {name: [each[name] for each in instances] for name in names}


def _columns(inputs: Any, signature: Signature) -> dict[str, Any]:
    names = list(signature.inputs)
    if not _is_named(inputs):
        _check_single(signature)
        return {names[0]: inputs}
    if set(inputs) != set(names):
        given = texts.listed(sorted(inputs)) if inputs else "nothing"
        raise invalid(f"'inputs' has {given}. Allowed: {', '.join(names)}.")
    return inputs


def _check_single(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise invalid(f"inputs stand without a name, but {signature.name} takes {', '.join(signature.inputs)}.")


def _is_named(value: Any) -> bool:
    """Whether a value is an object of named inputs, not an encoded string."""
    return isinstance(value, dict) and set(value) != {_B64}


def _array(values: Any, name: str, spec: Spec) -> np.ndarray:
    is_text = spec.dtype == object
    array = _from_strings(values, name, len(spec.shape)) if is_text else _from_numbers(values, name, spec)
    _check_shape(array, name, spec)
    return array


def _from_numbers(values: Any, name: str, spec: Spec) -> np.ndarray:
    leaves, shape = _flat(values, name, spec)
    array = np.array(leaves).reshape(shape)
    if array.dtype.kind not in "iufb" or (array.dtype.kind == "b") != (spec.dtype.kind == "b"):
        kind = "true and false" if array.dtype.kind == "b" else "no numbers"
        raise invalid(f"{name} has values that are {kind}. Allowed: {spec}.")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(spec.dtype)
    if spec.dtype.kind in "iu" and not np.array_equal(cast, array):
        if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
            raise invalid(f"{name} has values that aren't whole. Allowed: {spec}.")
        limits = np.iinfo(spec.dtype)
        raise invalid(f"{name} has values from {array.min()} to {array.max()}. Allowed: {limits.min} to {limits.max}.")
    return cast


def _flat(values: Any, name: str, spec: Spec) -> tuple[list[Any], list[int]]:
    """Returns numbers from within lists, and the lists' sizes.

    NumPy would make all values as wide as the longest text among them before it is refused: gigabytes of a few kB.
    """
    level = [values]
    shape: list[int] = []
    while (kinds := set(map(type, level))) == {list}:
        sizes = set(map(len, level))
        if len(shape) == len(spec.shape):
            raise invalid(f"{name} has more than {len(shape)} dimensions. Allowed: {spec}.")
        if len(sizes) > 1:
            break
        shape += sizes
        level = list(itertools.chain.from_iterable(level))
    if str in kinds:
        raise invalid(f"{name} has values that are strings. Allowed: {spec}.")
    if list in kinds:
        raise invalid(f"{name} isn't a tensor: its rows differ in length. Allowed: {spec}.")
    if not kinds <= {int, float, bool}:
        raise invalid(f"{name} has values that are no numbers. Allowed: {spec}.")
    return level, shape


def _from_strings(values: Any, name: str, rank: int) -> np.ndarray:
    """Strings as bytes; `{"b64": …}` is decoded."""

    def decode(value: Any, depth: int) -> Any:
        if depth:
            if not isinstance(value, list):
                raise invalid(f"{name} is {_kind(value)} where a list of strings is expected.")
            return [decode(each, depth - 1) for each in value]
        if isinstance(value, dict) and set(value) == {_B64} and isinstance(value[_B64], str):
            try:
                return base64.b64decode(value[_B64], validate=True)
            except (binascii.Error, ValueError):
                raise invalid(f"{name} has a {_B64} that isn't base64.") from None
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        raise invalid(f'{name} has {_kind(value)}. Allowed: a string, or {{"b64": "…"}}.')

    return np.array(decode(values, rank), object)


def _check_shape(array: np.ndarray, name: str, spec: Spec) -> None:
    fits = array.ndim == len(spec.shape) and all(
        size is None or size == got for size, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        got = ", ".join(map(str, array.shape))
        raise invalid(f"{name} has shape ({got}). Allowed: {spec}, n the number of inputs.")


def _strings(name: str, value: np.ndarray) -> Any:
    """Makes byte strings into what JSON can hold: base64 where the output's name ends in _bytes, else text."""
    if value.dtype != object:
        return np.ascontiguousarray(value) if value.ndim else value[()]  # of which orjson writes only NumPy's scalars

    def write(each: Any) -> Any:
        if isinstance(each, list):
            return [write(one) for one in each]
        if name.endswith("_bytes"):
            return {_B64: base64.b64encode(each).decode("ascii")}
        return each.decode("utf-8", "replace")

    return write(value.tolist())


def _wanted(signature: Signature) -> str:
    return " and ".join(f"{name}: {spec}" for name, spec in signature.inputs.items()) + " without its n"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    names = {dict: "an object", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
