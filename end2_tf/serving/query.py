"""Predictions of a server, from the command line: `--stage=query --server=URL --zoo=MODEL --input=FILE_OR_FOLDER`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from end2_tf import predictions
from end2_tf.errors import ServerError
from end2_tf.serving.client import Client

DECIDE = "decide"


def query(server: str, model: str, path: Path) -> predictions.Table:
    """Asks a server about a file's or a folder's inputs.

    Args:
        server: `http://host:8501` or `grpc://host:8500`.
        model: Its name there.
        path: See `predictions.read`.

    Returns:
        A row an input, with a last column `abstain` where the model decides. Classes are numbered where the server
        doesn't know their names, as TensorFlow Serving doesn't.

    Raises:
        ConfigError, DataError, ServerError: the address, the inputs, or the server's answer.
    """
    client = Client(server, model)
    signatures = client.signatures()
    signature = DECIDE if DECIDE in signatures else "serving_default"
    shape = signatures[signature]
    names, inputs = predictions.read(path, shape, model)
    found = client.predict(inputs, signature)
    if "probs" not in found or any(values.ndim != (2 if name == "probs" else 1) for name, values in _told(found)):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in found.items())
        raise ServerError(
            f"{model} at {server} answers {shapes}, not probs (n, classes) with a number an input for each measure. "
            "Ask for a model of --stage=export."
        )
    classes = client.classes() or [str(i) for i in range(found["probs"].shape[1])]
    return predictions.table(names, found, classes)


def _told(found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the outputs that a table shows."""
    for name, values in found.items():
        if name in ("probs", "abstain") or name.endswith("_uncertainty"):
            yield name, values
