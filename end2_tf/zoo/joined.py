"""A run on a published ensemble: its students join the entries that the ensemble has already."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from end2_tf import config, workdir
from end2_tf.config import Experiment
from end2_tf.ensemble import Ensemble, StackedEnsemble
from end2_tf.errors import ZooError
from end2_tf.reading import texts
from end2_tf.zoo import manifest, metadata, places
from end2_tf.zoo.catalogue import METADATA
from end2_tf.zoo.manifest import INDEX

CONFIG = "config.json"

_ROUNDED = 1e-3  # nats by which a published ensemble's NLL may be from its entry's, which is of the weights as trained


def find(experiment: Experiment, ensemble: Ensemble, zoo_dir: Path) -> Experiment | None:
    """Returns the experiment with its members told as their entry tells them, if they are a published ensemble's.

    They are if `ensemble.models` has the very weights of an entry, and the data are called the same.

    Raises:
        ZooError: the entry was altered.
    """
    if not experiment.ensemble.models or not isinstance(ensemble, StackedEnsemble) or not (zoo_dir / INDEX).is_file():
        return None
    digest, place = workdir.weights_digest(ensemble.model.get_weights(), ""), places.Folder(zoo_dir)
    for name, record in place.index.entries.items():
        if record.kind != "ensemble":
            continue
        found = manifest.read_metadata(place.fetch(name, METADATA))
        if found["weights"]["sha256"] != digest:
            continue
        published = config.from_dict(texts.read_object(place.fetch(name, CONFIG), ZooError, "Publish it again."))
        told = dataclasses.replace(experiment, ensemble=published.ensemble)
        if metadata.group_of(told) == found["group"]:
            return told
    return None


def check_same_test(results: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    """Raises ZooError unless a run was tested on the data on which its members' entry was: their number, and the NLL.

    Args:
        results: The run's results.json.
        published: The ensemble's metadata.
    """
    advice = "Test on the same data, or publish elsewhere with --zoo_dir."
    entry = published["entry"]
    for name, count in published["examples"].items():
        if results["counts"].get(name, count) != count:
            raise ZooError(
                f"{name} has {results['counts'][name]:,} examples in this run and {count:,} in {entry}, whose students "
                f"these are. {advice}"
            )
    theirs = {row["dataset"]: row["mean"] for row in published["results"] if row["metric"] == "nll"}
    for row in (row for row in results["rows"] if (row["model"], row["metric"]) == ("ensemble", "nll")):
        value, known = row["value"], theirs.get(row["dataset"])
        if value is not None and known is not None and abs(value - known) > _ROUNDED:
            raise ZooError(
                f"the ensemble's NLL on {row['dataset']} is {value:.4f} in this run and {known:.4f} in {entry}, whose "
                f"students these are. {advice}"
            )
