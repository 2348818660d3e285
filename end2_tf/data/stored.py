"""Data in a workdir: training inputs in shards, held-out sets beside them, read from their source once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import filelock
import numpy as np
from pydantic import Field

from end2_tf import workdir
from end2_tf.data import moments
from end2_tf.data.examples import Examples
from end2_tf.data.shards import Shards
from end2_tf.data.streams import Stream
from end2_tf.errors import DataError, WorkdirError
from end2_tf.reading import npz, texts
from end2_tf.workdir import Artefact

IN_SHARDS = ("train", "auxiliary")  # other sets are looked at whole
_SORTED = 0.5  # share of the changes of label expected of a random order, below which it is none

Report = Callable[[str, int, int, dict[str, float]], None]


@dataclass(frozen=True, eq=False)
class Loaded:
    """What was loaded of a source.

    Attributes:
        sets: Name → examples.
        class_names: Of the labels; empty where there are none.
        posterior: See `Splits`.
        moments: Mean and standard deviation of the training inputs, see `moments.of`, where they are known.
    """

    sets: dict[str, Examples]
    class_names: tuple[str, ...] = ()
    posterior: Callable[[np.ndarray], np.ndarray] | None = None
    moments: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class _Said:
    """What a manifest says of the sets beside it."""

    sets: dict[texts.FileName, tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]]
    moments: tuple[Any, Any] | None
    class_names: tuple[texts.Name, ...]


def open_stored(artefact: Artefact) -> Loaded | None:
    """Returns what was written, the sets of `IN_SHARDS` in shards; None where it isn't there, or not whole."""
    manifest = artefact.manifest()
    if manifest is None:
        return None
    said = texts.fit(_Said, manifest, f"{artefact.path / workdir.MANIFEST}", WorkdirError, "Delete it and run again.")
    sets = {}
    for name, (num, rows) in said.sets.items():
        inputs = Shards(artefact.path / name, num, rows)
        labels = _labels_path(artefact, name)
        sets[name] = Examples(
            inputs if name in IN_SHARDS else inputs.read(0), npz.array(labels) if labels.is_file() else None
        )
    known = None if said.moments is None else (np.array(said.moments[0]), np.array(said.moments[1]))
    return Loaded(sets, said.class_names, moments=known)


def write(artefact: Artefact, loaded: Loaded, rows: int, *, seed: int, report: Report = lambda *args: None) -> Loaded:
    """Writes what was loaded, arrays or streams.

    What was interrupted goes on with the next shard; what another process is writing is waited for. Training examples
    whose source reads them in any order are shuffled, since a training shuffles within a few shards only.

    Args:
        artefact: Where.
        loaded: What to write.
        rows: Examples a shard.
        seed: Of the shuffle.
        report: Called with progress.

    Returns:
        The same, from there.

    Raises:
        DataError: the examples of train come class by class and can't be read in another order; or a stream's fault.
        WorkdirError: there isn't room for them.
    """
    ordered = {
        name: _shuffled(examples, seed) if name in IN_SHARDS else examples for name, examples in loaded.sets.items()
    }
    _check_order(ordered)
    artefact.path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(artefact.path / ".lock"):
        if (stored := open_stored(artefact)) is not None:
            return stored
        artefact.begin()
        needed = sum(map(_bytes, ordered.values())) - workdir.bytes_in(artefact.path)  # it may have been interrupted
        workdir.Workdir(artefact.path.parents[1]).check_writable(needed)
        sizes = {}
        for name, examples in ordered.items():
            sizes[name] = (len(examples), rows if name in IN_SHARDS else max(1, len(examples)))
            _write_set(artefact, name, examples, sizes[name][1], report)
        train = Shards(artefact.path / "train", *sizes["train"]) if "train" in sizes else None
        found = None if train is None else [values.tolist() for values in moments.of(train)]
        artefact.finish(sets=sizes, class_names=list(loaded.class_names), moments=found)
    stored = open_stored(artefact)
    assert stored is not None
    return stored


def _write_set(artefact: Artefact, name: str, examples: Examples, rows: int, report: Report) -> None:
    inputs, shards = examples.inputs, Shards(artefact.path / name, len(examples), rows)
    if examples.labels is not None:
        labels = examples.labels
        workdir.write_atomically(_labels_path(artefact, name), lambda path: np.save(path, labels))
    missing = list(shards.missing())
    if not missing:
        return
    number, first, _ = missing[0]
    for shard, part in enumerate(_parts(inputs, rows, first), number):
        shards.write(shard, part)
        report(f"reading {name} into shards", min((shard + 1) * rows, len(examples)), len(examples), {})
    if not shards.is_there:
        raise DataError(f"{inputs.name} has fewer examples than the {len(examples):,} it says. Prepare it anew.")


def _parts(inputs: np.ndarray | Stream, rows: int, first: int) -> Iterator[np.ndarray]:
    if not isinstance(inputs, Stream):
        return (inputs[start : start + rows] for start in range(first, len(inputs), rows))
    return iter([inputs.array()]) if rows >= len(inputs) else inputs.batches(rows, first)


def _labels_path(artefact: Artefact, name: str) -> Path:
    return artefact.path / f"{name}_labels.npy"


def _shuffled(examples: Examples, seed: int) -> Examples:
    if isinstance(examples.inputs, Stream) and not examples.inputs.in_any_order:
        return examples
    return examples.select(np.random.default_rng([seed, len(examples)]).permutation(len(examples)))


def _check_order(sets: Mapping[str, Examples]) -> None:
    labels = sets["train"].labels if "train" in sets else None
    if labels is None:
        return
    shares = np.bincount(labels) / len(labels)
    expected = (len(labels) - 1) * (1 - np.sum(shares**2))
    changes = int(np.count_nonzero(np.diff(labels)))
    if changes < _SORTED * expected:
        raise DataError(
            f"{getattr(sets['train'].inputs, 'name', 'train')}: the examples come class by class ({changes:,} changes "
            f"of label in {len(labels):,}), and shards of such would each know a few classes. Shuffle the file once, "
            "or leave data.shard_rows out."
        )


def _bytes(examples: Examples) -> int:
    inputs = examples.inputs
    return int(np.prod(inputs.shape)) * inputs.dtype.itemsize
