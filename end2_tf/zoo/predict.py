"""Predictions with uncertainties of a published model: `--zoo=NAME --input=FILE_OR_FOLDER`."""

from __future__ import annotations

from pathlib import Path

from end2_tf import predictions
from end2_tf.zoo import catalogue, manifest


def predict(name: str, path: Path, source: catalogue.Source = None) -> predictions.Table:
    """Predicts a file's or a folder's inputs with a published model.

    Args:
        name: The entry.
        path: See `predictions.read`.
        source: Where the zoo is; see `zoo.load`.

    Returns:
        A row an input.

    Raises:
        ZooError: the entry isn't there or was altered.
        DataError: the inputs can't be read, or don't fit the model.
    """
    place = catalogue.find(name, source, None)
    metadata = manifest.read_metadata(place.fetch(name, catalogue.METADATA))
    names, inputs = predictions.read(path, tuple(metadata["input"]["shape"]), name)
    if metadata["kind"] == "ensemble":
        found = catalogue.open_ensemble(place, name).uncertainty(inputs)
    else:
        found = catalogue.open_model(place, name).predict_measures(inputs)
    return predictions.table(names, found, metadata["classes"])
