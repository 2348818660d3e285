"""Names, summaries and models of a zoo's entries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from end2_tf.errors import ZooError, unknown
from end2_tf.zoo import manifest, places
from end2_tf.zoo.places import Place

if TYPE_CHECKING:
    from end2_tf.ensemble import StackedEnsemble

MODEL, METADATA, GOLDEN = "model.keras", "metadata.json", "golden.npz"
Source = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Entry:
    """A published model: its name, its kind (student, member, ensemble), what it is, and its size with all files."""

    name: str
    kind: str
    summary: str
    bytes: int


def entries(*, source: Source = None, cache: Source = None) -> list[Entry]:
    """Returns what is published, in the order of names; arguments as in `load`."""
    index = places.find(source, cache).index
    return [Entry(name, r.kind, r.summary, r.bytes) for name, r in sorted(index.entries.items())]


def names(*, source: Source = None, cache: Source = None) -> list[str]:
    """Returns the names that `load` takes; arguments as in `load`.

    Example:
        >>> end2_tf.zoo.list()
        ['fashion_mnist_mlp_end2', 'fashion_mnist_mlp_ensemble', ...]
    """
    return [entry.name for entry in entries(source=source, cache=cache)]


def table(*, source: Source = None, cache: Source = None) -> str:
    """Returns the entries as plain text, a line each."""
    found = entries(source=source, cache=cache)
    if not found:
        return "This zoo is empty."
    width = max(len(entry.name) for entry in found)
    return "\n".join(f"{e.name:<{width}}  {e.bytes / 1e6:5.1f} MB  {e.summary}" for e in found)


def load(name: str, *, source: Source = None, cache: Source = None) -> Any:
    """Opens a published model.

    Args:
        name: One of `list()`.
        source: A folder or an http(s) URL. Else the environment's END2_TF_ZOO, else zoo/ beside the package.
        cache: Folder in which files from a URL are kept. Else the environment's END2_TF_CACHE, else end2_tf/zoo in
            the user's cache.

    Returns:
        A Keras model that takes raw inputs: an `end2_tf.UncertaintyClassifier` (`predict` gives a dict of
        probabilities and uncertainties, `evaluate` error and NLL, `fit` fine-tunes), or for an ensemble a model with
        outputs (batch, members, classes), the members' logits.

    Raises:
        ZooError: no such entry; a file was altered (it is named), is missing or can't be fetched; or the model would
            need code from its file or from elsewhere.

    Example:
        >>> model = end2_tf.zoo.load("fashion_mnist_mlp_end2_aux")
        >>> model.predict(images)["knowledge_uncertainty"]
    """
    return open_model(find(name, source, cache), name)


def load_ensemble(name: str, *, source: Source = None, cache: Source = None) -> StackedEnsemble:
    """Opens a published ensemble as an object with `predict_logits(x)`, `uncertainty(x)` and `member(i)`.

    Args:
        name: An entry of kind ensemble.
        source, cache: As in `load`.

    Raises:
        ZooError: as `load`, and if the entry is no ensemble.
    """
    return open_ensemble(find(name, source, cache), name)


def open_ensemble(place: Place, name: str) -> StackedEnsemble:
    """Opens an ensemble of a zoo that has been found; see `load_ensemble`."""
    kind = place.index.entries[name].kind
    if kind != "ensemble":
        metadata = manifest.read_metadata(place.fetch(name, METADATA))
        teacher = f"{metadata['group']}_ensemble"
        there = f"Its ensemble is {teacher!r}." if teacher in place.index.entries else "Its ensemble isn't published."
        raise ZooError(f"the entry {name!r} is a {kind}, not an ensemble. {there} Open this one with zoo.load.")
    model = open_model(place, name)
    from end2_tf.ensemble import StackedEnsemble

    return StackedEnsemble.from_model(model)


def check(name: str, *, reproduce: bool = False, source: Source = None, cache: Source = None) -> None:
    """Checks every file of an entry.

    Args:
        name: Of the entry.
        reproduce: Whether to open the model too, and compare its predictions with the published ones.
        source, cache: As in `load`; from a URL all files are fetched.

    Raises:
        ZooError: a file was altered, is missing or isn't listed; or a prediction differs by more than 1e-4 (relative
            where it is larger than 1).
    """
    place = find(name, source, cache)
    place.fetch_all(name)
    if isinstance(place, places.Folder):
        place.check_nothing_else(name)
    if reproduce:
        from end2_tf.zoo import golden

        golden.check(open_model(place, name), place.fetch(name, GOLDEN))


def find(name: str, source: Source, cache: Source) -> Place:
    """Returns the zoo, which has an entry of this name, or raises ZooError with the names there are."""
    place = places.find(source, cache)
    if name not in place.index.entries:
        raise ZooError(unknown("the zoo's entry", name, "a published model", place.index.entries))
    return place


def open_model(place: Place, name: str) -> Any:
    """Opens a model of a zoo that has been found; see `load`."""
    from end2_tf.zoo import keras_file

    if isinstance(place, places.Folder):
        place.fetch_all(name)  # costs nothing to check whole; from a URL only what is opened is fetched
    return keras_file.open_model(place.fetch(name, MODEL), name)
