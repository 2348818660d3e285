"""Writes a model as a SavedModel of standard operations, beside its LiteRT version, and tries both before it counts."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import dirichlet, workdir
from end2_tf.ensemble import architecture
from end2_tf.errors import End2Error, ModelError
from end2_tf.export import signatures, warmup
from end2_tf.export.thresholds import Thresholds

EXTRA = "assets.extra"  # of a SavedModel's folder: loaders leave it alone
METADATA, LITE, WARMUP = (f"{EXTRA}/{name}" for name in ("end2_tf.json", "model.tflite", warmup.FILE))
PARITY = 1e-5  # absolute up to 1, relative above; of alphas, their logarithms in units of an input's largest
_REPORT = "Report this, with the experiment: it is an error of end2_tf or of a layer."
_BARE = Path(__file__).with_name("_bare.py")


def write(
    model: keras.Model,
    parent: Path,
    *,
    inputs: np.ndarray,
    thresholds: Thresholds | None = None,
    lite: bool = True,
    details: Mapping[str, Any] | None = None,
) -> tuple[int, bool]:
    """Writes the next version of a model, unless the last one is the same and whole.

    Args:
        model: A student, a single network, or an ensemble as one model.
        parent: Folder of the model's versions, which are never rewritten.
        inputs: Raw inputs that all forms are tried on, (n, *input shape).
        thresholds: For the signature `decide`.
        lite: Whether to write a LiteRT model too.
        details: More for the metadata.

    Returns:
        The version, and whether it was there already.

    Raises:
        ModelError: the written model doesn't open without this package, or answers differently.
    """
    digest = _digest(model, thresholds, lite, details)
    last = max(workdir.versions(parent), default=0)
    if last and metadata(parent / str(last)).get("digest") == digest and _is_whole(parent / str(last)):
        return last, True
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=parent) as temporary:
        folder = Path(temporary) / str(last + 1)
        endpoints = signatures.endpoints(model, inputs.shape[1:], thresholds)
        archive = keras.export.ExportArchive()  # functions bring their variables; tracking the model stores them twice
        for name, (function, specs) in endpoints.items():
            archive.add_endpoint(name, function, input_signature=specs)
        archive.write_out(folder, verbose=False)
        expected = expectations(model, inputs, thresholds, list(endpoints))
        parity = {"saved_model": _compare(_ask(folder, inputs), expected, "SavedModel")}
        (folder / EXTRA).mkdir()
        if lite:
            (folder / LITE).write_bytes(to_lite(model, inputs.shape[1:]))
            parity["lite"] = _compare(ask_lite(folder / LITE, inputs), expected, "LiteRT model")
        warmup.write(folder / WARMUP, parent.name, inputs, list(endpoints))
        workdir.write_json(
            folder / METADATA,
            {
                "digest": digest,
                "signatures": sorted(endpoints),
                "input": {
                    "shape": list(inputs.shape[1:]),
                    "dtype": str(endpoints[signatures.SERVING][1][0].dtype.name),
                },
                "thresholds": None if thresholds is None else finite(dataclasses.asdict(thresholds)),
                "parity": {name: float(f"{change:.2g}") for name, change in parity.items()},
                "files": {
                    path.relative_to(folder).as_posix(): workdir.sha256(path)
                    for path in sorted(folder.rglob("*"))
                    if path.is_file()
                },
                **(details or {}),
            },
        )
        os.replace(folder, parent / str(last + 1))
    return last + 1, False


def expectations(
    model: keras.Model, inputs: np.ndarray, thresholds: Thresholds | None, names: list[str]
) -> dict[str, np.ndarray]:
    """Returns what the Keras model itself says, as `<signature>/<output>`."""
    measures = signatures.measures(model, tf.constant(inputs))
    answers = {}
    for name in names:
        outputs = measures
        if name == signatures.DECIDE and thresholds is not None:
            outputs = signatures.with_decision(measures, thresholds, tf.constant(inputs))
        answers.update({f"{name}/{key}": value.numpy() for key, value in outputs.items()})
    return answers


def to_lite(model: keras.Model, shape: tuple[int, ...]) -> bytes:
    """Converts a model's `serving_default`; all of its operations are LiteRT's own."""
    function, specs = signatures.endpoints(model, shape)[signatures.SERVING]
    archive = keras.export.ExportArchive()
    with tempfile.TemporaryDirectory() as temporary:
        with dirichlet.single_precision():
            archive.add_endpoint(signatures.SERVING, function, input_signature=specs)
            archive.write_out(temporary, verbose=False)
        return convert(Path(temporary))


def convert(folder: Path) -> bytes:
    """Converts the `serving_default` of a SavedModel that was made in `dirichlet.single_precision`."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signatures.SERVING])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def ask_lite(path: Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a LiteRT model's answers, as `<signature>/<output>`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*tf.lite.Interpreter is deprecated")
        plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = tf.lite.Interpreter(model_path=str(path), experimental_op_resolver_type=plain)
    answers = interpreter.get_signature_runner(signatures.SERVING)(**{signatures.INPUTS: inputs})
    return {f"{signatures.SERVING}/{key}": value for key, value in answers.items()}


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values for JSON, which has no inf and NaN: None stands for both."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _digest(model: keras.Model, thresholds: Thresholds | None, lite: bool, details: Mapping[str, Any] | None) -> str:
    """Returns a digest of all that decides a version, but names that Keras counts up within a process."""
    network = getattr(model, "backbone", None) or getattr(model, "member", None) or model
    head = {k: v for k, v in model.head.get_config().items() if k != "name"} if hasattr(model, "head") else None
    parts = [head, None if thresholds is None else dataclasses.asdict(thresholds), lite, details]
    return workdir.weights_digest(model.get_weights(), architecture(network) + repr(parts))


def metadata(folder: Path) -> dict[str, Any]:
    """Returns what stands in a version's end2_tf.json; nothing if another tool wrote the version."""
    try:
        return workdir.read_object(folder / METADATA)
    except End2Error:
        return {}


def _is_whole(folder: Path) -> bool:
    """Returns whether a version has all that was written of it, unaltered."""
    files = metadata(folder).get("files")
    if not isinstance(files, dict):
        return False
    return all((folder / name).is_file() and workdir.sha256(folder / name) == digest for name, digest in files.items())


def _ask(folder: Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a SavedModel's answers, by a process without this package."""
    with tempfile.TemporaryDirectory() as temporary:
        given, got = Path(temporary) / "inputs.npy", Path(temporary) / "outputs.npz"
        np.save(given, inputs)
        command = [sys.executable, "-I", str(_BARE), str(folder), str(given), str(got)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise ModelError(
                f"the exported model doesn't open without end2_tf: {said[-1] if said else done.returncode}. Use layers "
                "of Keras alone."
            )
        with np.load(got) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _compare(answers: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], what: str) -> float:
    """Returns the largest difference of any output that is a real number; shapes and types must be the same."""
    largest = 0.0
    for name, wanted in expected.items():
        if name not in answers:
            if what == "SavedModel":
                raise ModelError(f"the exported {what} lacks the output {name}. {_REPORT}")
            continue
        got = answers[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            raise ModelError(
                f"the exported {what}'s {name} is {got.dtype} {got.shape}, not {wanted.dtype} {wanted.shape}. {_REPORT}"
            )
        if wanted.dtype.kind == "f":
            a, b = got.astype(np.float64), wanted.astype(np.float64)
            scale = np.abs(b)
            if name.endswith("/alphas"):  # exp(logits), and an input's logits are sums of terms of the largest's size
                a, b = np.log(a), np.log(b)
                scale = np.abs(b).max(axis=-1, keepdims=True)
            difference = np.abs(a - b) / np.maximum(1.0, scale)
            largest = max(largest, float(difference.max(initial=0.0)))
    if not largest <= PARITY:
        raise ModelError(
            f"the exported {what} differs from the Keras model by {largest:.2g}, more than {PARITY:g}. {_REPORT}"
        )
    return largest
