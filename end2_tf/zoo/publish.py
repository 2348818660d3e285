"""Writes the entries of a finished run into a zoo: all of them or none.

They are made in a hidden folder of the zoo and then swapped in by renaming, the index last. What they replace waits in
that folder meanwhile, so a swap that fails, or whose process is killed, can be taken back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from end2_tf import config, workdir
from end2_tf.config import Experiment
from end2_tf.data.dataset import DataSet
from end2_tf.ensemble import Ensemble, StackedEnsemble, architecture, closing_activation
from end2_tf.errors import WorkdirError, ZooError
from end2_tf.export import savedmodel
from end2_tf.heads import SoftmaxHead
from end2_tf.models import EnsembleModel, UncertaintyClassifier
from end2_tf.progress import Report
from end2_tf.report.inputs import Evaluation
from end2_tf.serving import catalogue as served
from end2_tf.zoo import cards, golden, joined, keras_file, manifest, metadata, places, results
from end2_tf.zoo.catalogue import GOLDEN, METADATA, MODEL
from end2_tf.zoo.failures import Failures
from end2_tf.zoo.manifest import INDEX, MANIFEST

RESULTS, README, CONFIG, SERVED = "results.csv", "README.md", joined.CONFIG, served.FILE
_OF_EXPORT = ("signatures", "thresholds", "calibration_split", "decisions", "parity")  # what metadata say of it
_STAGING, _OLD = ".publishing-", ".old"


@dataclass(frozen=True)
class Finished:
    """A finished run, as far as publishing looks at it.

    Attributes:
        experiment: Its config.
        data: What it was trained and tested on.
        ensemble: Its members.
        students: The `.keras` file of seed 0 of each method.
        seconds: Of training: of `ensemble`, all members together, and of each method; None where it isn't known.
        evaluation: The folder that its evaluation wrote.
        exports: The SavedModel of each method that is exported, a folder called by its version.
        joins: Whether its members are published; its students alone are then, and `experiment` is what `joined.find`
            returned.
    """

    experiment: Experiment
    data: DataSet
    ensemble: Ensemble
    students: Mapping[str, Path]
    seconds: Mapping[str, float | None]
    evaluation: Path
    exports: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    joins: bool = False


@dataclass(frozen=True)
class Published:
    """What publishing did: the names of the entries that it wrote, and of those that it removed."""

    entries: list[str]
    removed: list[str]


def publish(run: Finished, zoo_dir: Path, report: Report = lambda *args: None) -> Published:
    """Writes or replaces the entries of a run, then the zoo's results.csv, README.md and index.json.

    Entries of the same data set and backbone that the run doesn't have are removed: they are of another ensemble, or of
    methods that it leaves out. A run that joins a published ensemble replaces its own students and removes none.
    Everything is written beside the old entries first and checked, also by opening it again; a failure changes nothing.

    Args:
        run: What to publish: the ensemble, its first member as `single`, and seed 0 of each student.
        zoo_dir: The zoo; made if it isn't there.
        report: Called with progress.

    Raises:
        ZooError: another entry was altered; the zoo would grow beyond 60 MB or can't be written; the members can't
            be one model; or what a run joins was tested on other data.
    """
    members, group = _stacked(run.ensemble), metadata.group_of(run.experiment)
    own = () if run.joins else ("single", "ensemble")
    entries = {method: f"{group}_{method}" for method in (*own, *run.students)}
    for name in entries.values():
        if not manifest.is_entry_name(name):
            raise ZooError(f"{name!r} can't be the name of an entry. Rename the method, or the data set.")
    try:
        with _staging(zoo_dir) as staging:
            others = _others(zoo_dir, list(entries.values()))
            kept = [name for name, meta in others.items() if run.joins or meta["group"] != group]
            removed = [name for name in others if name not in kept]
            all_rows = results.read(zoo_dir / RESULTS)
            old_rows = [row for row in all_rows if row["entry"] in kept]
            evaluation = Evaluation(run.evaluation)
            if run.joins:
                joined.check_same_test(evaluation.results, others[f"{group}_ensemble"])
            described = _write_models(run, members, entries, evaluation, staging, zoo_dir, report)
            rows = [*old_rows, *(row for meta in described for row in results.rows_of(meta))]
            for meta in described:
                _write_card(run, meta, rows, evaluation, staging / meta["entry"])
            beside = [others[name] for name in kept if others[name]["group"] == group]
            new = [*entries.values(), *_renew_cards(beside, zoo_dir, staging, all_rows, rows)]
            folders = {name: zoo_dir / name for name in kept} | {name: staging / name for name in new}
            _write_listing(staging, zoo_dir, folders, results.in_order(rows))
            _swap(zoo_dir, staging, removed, [*new, RESULTS, README, SERVED])
    except OSError as error:
        reason = error.strerror or str(error.__cause__ or error)
        raise ZooError(
            f"the zoo {zoo_dir} can't be written ({reason}). Make it writable, or choose another with --zoo_dir."
        ) from error
    return Published(list(entries.values()), removed)


def refresh(zoo_dir: Path) -> None:
    """Writes a zoo's own files anew from the entries that are there, after some were removed or sealed again.

    It is how to say that what is there now is meant: publishing a run refuses entries that were altered.
    """
    folders = _folders(zoo_dir)
    rows = [row for row in results.read(zoo_dir / RESULTS) if row["entry"] in folders]
    _write_listing(zoo_dir, zoo_dir, folders, rows)


def list_pages(zoo_dir: Path) -> None:
    """Writes a zoo's README.md anew, which links its pages; vouches for nothing. Without entries nothing is written."""
    folders = _folders(zoo_dir)
    if folders:
        sizes = {name: manifest.record(folder).bytes for name, folder in folders.items()}
        workdir.write_text(zoo_dir / README, _readme(zoo_dir, folders, sizes, results.read(zoo_dir / RESULTS)))


def _readme(zoo_dir: Path, folders: Mapping[str, Path], sizes: Mapping[str, int], rows: list[results.Row]) -> str:
    described = [manifest.read_metadata(folder / METADATA) for folder in folders.values()]
    return cards.readme(described, rows, sizes, zoo_dir)


@contextlib.contextmanager
def _staging(zoo_dir: Path) -> Iterator[Path]:
    """Holds the zoo for one publisher; yields a new folder in it, which is gone afterwards."""
    zoo_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(workdir.Workdir(zoo_dir).lock())
        except WorkdirError as error:
            if error.__cause__ is not None:
                raise
            raise ZooError(f"another process writes the zoo {zoo_dir}. Run this again when it has finished.") from None
        for left_over in sorted(zoo_dir.glob(f"{_STAGING}*")):  # of a publisher that was killed
            _clear(zoo_dir, left_over)
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=zoo_dir))
        try:
            yield staging
        finally:
            _clear(zoo_dir, staging)
            (zoo_dir / ".lock").unlink(missing_ok=True)


def _others(zoo_dir: Path, entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the metadata of all entries but these, which must be as the index says: it will vouch for them again.

    Raises:
        ZooError: one was altered, is missing, or isn't in the index.
    """
    advice = f"To keep the zoo as it is now, call end2_tf.zoo.publish.refresh({str(zoo_dir)!r}) first."
    place = places.Folder(zoo_dir)
    listed = sorted(place.index.entries) if (zoo_dir / INDEX).is_file() else []
    for name in _folders(zoo_dir):
        if name not in listed and name not in entries:
            raise ZooError(f"{zoo_dir / name} isn't in the zoo's {INDEX}. Remove it. {advice}")
    try:
        return {n: manifest.read_metadata(place.fetch(n, METADATA)) for n in listed if n not in entries}
    except ZooError as error:
        raise ZooError(f"{error} {advice}") from None


def _write_models(
    run: Finished,
    members: StackedEnsemble,
    entries: Mapping[str, str],
    evaluation: Evaluation,
    staging: Path,
    zoo_dir: Path,
    report: Report,
) -> list[dict[str, Any]]:
    """Writes model.keras, golden.npz, config.json and metadata.json of every entry; returns the metadata."""
    batch = golden.inputs(run.data)
    described = []
    for number, (method, entry) in enumerate(entries.items()):
        report("publishing", number, len(entries), {})
        folder = staging / entry
        folder.mkdir()
        saved = run.students[method] if method in run.students else _save(method, members, staging)
        outputs, weights = write_model(saved, folder / MODEL, batch, evaluation.results["created"])
        arrays: dict[str, Any] = {"inputs": batch, **outputs}
        np.savez_compressed(folder / GOLDEN, **arrays)
        meta = metadata.describe(
            method=method,
            experiment=run.experiment,
            data=run.data,
            results=evaluation.results,
            outputs=outputs,
            weights=weights,
            seconds=_seconds(run, method),
            export=_copy_export(run.exports[method], zoo_dir / entry, folder) if method in run.exports else None,
        )
        workdir.write_json(folder / CONFIG, metadata.without_folders(config.to_dict(run.experiment)))
        workdir.write_json(folder / METADATA, meta)
        described.append(meta)
    return described


def _seconds(run: Finished, method: str) -> float | None:
    """Returns how long a model was trained; of a single member, its share of all members' time."""
    if method != "single":
        return run.seconds[method]
    spent = run.seconds["ensemble"]
    return None if spent is None else spent / run.ensemble.num_members


def _copy_export(exported: Path, published: Path, folder: Path) -> dict[str, Any]:
    """Copies a SavedModel into an entry, as the version after the published one unless it is the same.

    Its LiteRT version stays behind: it is as large again, and made from any run.
    """
    found = savedmodel.metadata(exported)
    last = max(workdir.versions(published), default=0)
    is_same = last > 0 and savedmodel.metadata(published / str(last)).get("digest") == found["digest"]
    version = last if is_same else last + 1
    shutil.copytree(exported, folder / str(version), ignore=shutil.ignore_patterns(Path(savedmodel.LITE).name))
    kept = {key: found[key] for key in _OF_EXPORT}
    return {"version": version, **kept, "parity": {k: v for k, v in kept["parity"].items() if k != "lite"}}


def _stacked(ensemble: Ensemble) -> StackedEnsemble:
    """Returns members as one model; a user's own may be of several architectures, or return probabilities."""
    if isinstance(ensemble, StackedEnsemble):
        return ensemble
    members = list(ensemble)
    if len({architecture(member) for member in members}) > 1:
        raise ZooError(
            "the members have different architectures, and one is published. Use --stage=export for students."
        )
    if closing_activation(members[0]) != "linear" or ensemble.closes_unseen:
        raise ZooError(
            "the members return probabilities, and logits are published. Remove their softmax, and run again."
        )
    return StackedEnsemble.from_members(members)


def _save(method: str, members: StackedEnsemble, staging: Path) -> Path:
    """Saves the ensemble, or its first member with a head, under a name that doesn't count up in this process."""
    if method == "single":
        model = UncertaintyClassifier(members.member(0), SoftmaxHead(name="head"), name="single")
    else:
        prototype = keras.models.clone_model(members.model.member)
        prototype.set_weights([np.zeros_like(w) for w in prototype.get_weights()])  # its weights are never used
        model = EnsembleModel(prototype, members.num_members, name="ensemble")
        for stack, values in zip(model.stacks, members.model.stacks, strict=True):
            stack.assign(values)
    path = staging / f".{method}.keras"
    model.save(path)
    return path


def write_model(
    saved: Path, target: Path, batch: np.ndarray, date: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Writes a model as small as its predictions allow; returns what the file predicts, and how weights are kept."""
    exact = golden.outputs(keras_file.open_model(saved, target.parent.name), batch)
    for precision in keras_file.PRECISIONS:
        keras_file.rewrite(saved, target, precision, date)
        model = keras_file.open_model(target, target.parent.name)
        outputs = golden.outputs(model, batch)
        change = golden.largest_change(outputs, exact)
        if change <= golden.KEPT:
            break
    weights = {
        "dtype": precision.dtype,
        "mantissa_bits": precision.mantissa_bits,
        "parameters": sum(int(np.size(stack)) for stack in getattr(model, "stacks", model.weights)),
        "largest_change": change,
        "sha256": workdir.weights_digest(model.get_weights(), ""),
    }
    return outputs, weights


def _write_card(
    run: Finished, meta: dict[str, Any], rows: list[results.Row], evaluation: Evaluation, folder: Path
) -> None:
    failures = Failures(evaluation, meta["method"])
    pictures = failures.pictures(run.data.test.inputs)
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.png)
    (folder / README).write_text(cards.card(meta, rows, failures, pictures), encoding="utf-8")
    manifest.seal(folder, meta["entry"])


def _renew_cards(
    beside: Sequence[dict[str, Any]],
    zoo_dir: Path,
    staging: Path,
    old: list[results.Row],
    new: list[results.Row],
) -> list[str]:
    """Copies entries whose cards are compared with what is new, with cards that say so; returns their names."""
    renewed = []
    for meta in beside:
        name = meta["entry"]
        text = (zoo_dir / name / README).read_text(encoding="utf-8")
        changed = cards.with_results(text, meta, old, new)
        if changed != text:
            shutil.copytree(zoo_dir / name, staging / name)
            (staging / name / README).write_text(changed, encoding="utf-8")
            manifest.seal(staging / name, name)
            renewed.append(name)
    return renewed


def _folders(zoo_dir: Path) -> dict[str, Path]:
    """Returns the entries' folders by name."""
    found = {path.parent.name: path.parent for path in zoo_dir.glob(f"*/{MANIFEST}")}
    return {name: found[name] for name in sorted(found) if manifest.is_entry_name(name)}


def _write_listing(target: Path, zoo_dir: Path, folders: Mapping[str, Path], rows: list[results.Row]) -> None:
    """Writes a zoo's own files, the index last, unless the zoo would be too large.

    Args:
        target: Where to write them.
        zoo_dir: The zoo, for its pages.
        folders: Of all its entries.
        rows: Of results.csv.
    """
    records = {name: manifest.record(folder) for name, folder in sorted(folders.items())}
    sizes = {name: record.bytes for name, record in records.items()}
    table, page = results.to_csv(rows), _readme(zoo_dir, folders, sizes, rows)
    other = sum(path.stat().st_size for path in (zoo_dir / cards.PAGES).rglob("*") if path.is_file())
    total = sum(sizes.values()) + len(table.encode()) + len(page.encode()) + other
    if total > manifest.MAX_BYTES:
        raise ZooError(
            f"the zoo {zoo_dir} would have {total / 1e6:.1f} MB, more than {manifest.MAX_BYTES / 1e6:.0f} MB. "
            "Remove entries, or publish smaller models."
        )
    workdir.write_text(target / RESULTS, table)
    workdir.write_text(target / README, page)
    workdir.write_text(target / SERVED, _served(folders))
    workdir.write_json(target / INDEX, manifest.index_json(records))


def _served(folders: Mapping[str, Path]) -> str:
    """Returns TensorFlow Serving's list of the entries that are exported, for a zoo mounted at /models."""
    exported = [(name, there) for name, folder in sorted(folders.items()) if (there := workdir.versions(folder))]
    models = [
        served.Model(name, Path(name), num_latest=2, labels={served.STABLE: max(there)}) for name, there in exported
    ]
    return served.write(models, "/models")


def _swap(zoo_dir: Path, staging: Path, removed: Sequence[str], new: Sequence[str]) -> None:
    """Moves what is replaced or removed out of a zoo, and what is new in; the index comes last, and makes it final."""
    old = staging / _OLD
    old.mkdir()
    for name in (*removed, *new):
        if (zoo_dir / name).exists():
            os.replace(zoo_dir / name, old / name)
        else:
            (old / f".{name}").touch()  # there was none
        if name in new:
            os.replace(staging / name, zoo_dir / name)
    os.replace(staging / INDEX, zoo_dir / INDEX)


def _clear(zoo_dir: Path, staging: Path) -> None:
    """Removes a publisher's folder; first puts back what it moved, if it failed or was killed before the index."""
    if (staging / INDEX).exists():
        for path in sorted((staging / _OLD).glob("*")):
            target = zoo_dir / path.name.removeprefix(".")
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            if not path.name.startswith("."):
                os.replace(path, target)
    shutil.rmtree(staging, ignore_errors=True)
