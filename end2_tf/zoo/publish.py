"""Writes the entries of a finished run into a zoo: all of them or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
from end2_tf.layers import SoftmaxHead
from end2_tf.models import EnsembleModel, UncertaintyClassifier
from end2_tf.progress import Report
from end2_tf.report.inputs import Evaluation
from end2_tf.zoo import cards, golden, keras_file, manifest, metadata, results
from end2_tf.zoo.catalogue import GOLDEN, METADATA, MODEL
from end2_tf.zoo.failures import Failures
from end2_tf.zoo.manifest import INDEX, MANIFEST

RESULTS, README, CONFIG = "results.csv", "README.md", "config.json"
_STAGING = ".publishing-"


@dataclass(frozen=True)
class Finished:
    """A finished run, as far as publishing looks at it.

    Attributes:
        experiment: Its config.
        data: What it was trained and tested on.
        ensemble: Its members.
        students: The `.keras` file of seed 0 of each method.
        seconds: Of training: of `ensemble`, and of each method.
        evaluation: The folder that its evaluation wrote.
    """

    experiment: Experiment
    data: DataSet
    ensemble: Ensemble
    students: Mapping[str, Path]
    seconds: Mapping[str, float]
    evaluation: Path


def publish(run: Finished, zoo_dir: Path, report: Report = lambda *args: None) -> list[str]:
    """Writes or replaces the entries of a run, then the zoo's results.csv, README.md and index.json.

    Everything is written beside the old entries first and checked, also by opening it again; a failure changes nothing.

    Args:
        run: What to publish: the ensemble, its first member as `single`, and seed 0 of each student.
        zoo_dir: The zoo; made if it isn't there.
        report: Called with progress.

    Returns:
        The names of the entries.

    Raises:
        ZooError: the zoo would grow beyond 60 MB or can't be written, or the members can't be one model.
    """
    members = _stacked(run.ensemble)
    commit = metadata.commit(ignored=zoo_dir)
    try:
        with _staging(zoo_dir) as staging:
            old_rows = results.read(zoo_dir / RESULTS)
            evaluation = Evaluation(run.evaluation)
            try:
                described = _write_models(run, members, evaluation, staging, commit, report)
                rows = [row for meta in described for row in results.rows_of(meta)]
                for meta in described:
                    _write_card(run, meta, rows, evaluation, staging / meta["entry"])
            finally:
                evaluation.close()
            entries = [meta["entry"] for meta in described]
            _replace(zoo_dir, staging, entries, results.merged(old_rows, rows, entries))
    except OSError as error:
        reason = error.strerror or str(error.__cause__ or error)
        raise ZooError(
            f"the zoo {zoo_dir} can't be written ({reason}). Make it writable, or choose another with --zoo_dir."
        ) from error
    return entries


def refresh(zoo_dir: Path) -> None:
    """Writes a zoo's README.md and index.json anew, after entries were removed or sealed again."""
    records = {name: manifest.record(folder) for name, folder in _folders(zoo_dir).items()}
    described = [workdir.read_json(folder / METADATA) for folder in _folders(zoo_dir).values()]
    sizes = {name: record.bytes for name, record in records.items()}
    workdir.write_text(zoo_dir / README, cards.readme(described, results.read(zoo_dir / RESULTS), sizes, zoo_dir))
    workdir.write_json(zoo_dir / INDEX, manifest.index_json(records))


@contextlib.contextmanager
def _staging(zoo_dir: Path) -> Iterator[Path]:
    """Holds the zoo for one publisher; yields a new folder in it, which is gone afterwards."""
    zoo_dir.mkdir(parents=True, exist_ok=True)
    try:
        with workdir.Workdir(zoo_dir).lock():
            for left_over in zoo_dir.glob(f"{_STAGING}*"):  # of a publisher that was killed
                shutil.rmtree(left_over)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=zoo_dir))
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
                (zoo_dir / ".lock").unlink(missing_ok=True)
    except WorkdirError as error:
        if error.__cause__ is None and error.errno is None:  # the lock is taken
            raise ZooError(f"another process writes the zoo {zoo_dir}. Run this again when it has finished.") from None
        raise


def _write_models(
    run: Finished, members: StackedEnsemble, evaluation: Evaluation, staging: Path, commit: str, report: Report
) -> list[dict[str, Any]]:
    """Writes model.keras, golden.npz, config.json and metadata.json of every entry; returns the metadata."""
    batch = golden.inputs(run.data)
    described = []
    methods = ("single", "ensemble", *run.students)
    for number, method in enumerate(methods):
        report("publishing", number, len(methods), {})
        folder = staging / f"{metadata.group_of(run.experiment)}_{method}"
        if not manifest.is_entry_name(folder.name):
            raise ZooError(f"{folder.name!r} can't be the name of an entry. Rename the method, or the data set.")
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
            seconds=run.seconds["ensemble" if method == "single" else method]
            / (members.num_members if method == "single" else 1),
            commit=commit,
        )
        workdir.write_json(folder / CONFIG, config.to_dict(run.experiment))
        workdir.write_json(folder / METADATA, meta)
        described.append(meta)
    return described


def _stacked(ensemble: Ensemble) -> StackedEnsemble:
    """Returns members as one model; a user's own may be of several architectures, or return probabilities."""
    if isinstance(ensemble, StackedEnsemble):
        return ensemble
    members = list(ensemble)
    if len({architecture(member) for member in members}) > 1:
        raise ZooError("the members have different architectures. Only an ensemble of one architecture is published.")
    if closing_activation(members[0]) != "linear" or ensemble.closes_unseen:
        raise ZooError("the members return probabilities. Only an ensemble whose members return logits is published.")
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


def _folders(zoo_dir: Path) -> dict[str, Path]:
    """Returns the entries' folders by name."""
    found = {path.parent.name: path.parent for path in zoo_dir.glob(f"*/{MANIFEST}")}
    return {name: found[name] for name in sorted(found) if manifest.is_entry_name(name)}


def _replace(zoo_dir: Path, staging: Path, entries: list[str], rows: list[results.Row]) -> None:
    """Swaps the new entries in and rewrites the zoo's own files, unless it would grow too large; `rows` are all."""
    folders = _folders(zoo_dir) | {name: staging / name for name in entries}
    records = {name: manifest.record(folder) for name, folder in sorted(folders.items())}
    sizes = {name: record.bytes for name, record in records.items()}
    described = [workdir.read_json(folder / METADATA) for folder in folders.values()]
    table, page = results.to_csv(rows), cards.readme(described, rows, sizes, zoo_dir)
    other = sum(path.stat().st_size for path in (zoo_dir / cards.PAGES).rglob("*") if path.is_file())
    total = sum(sizes.values()) + len(table.encode()) + len(page.encode()) + other
    if total > manifest.MAX_BYTES:
        raise ZooError(
            f"the zoo {zoo_dir} would have {total / 1e6:.1f} MB, more than {manifest.MAX_BYTES / 1e6:.0f} MB. "
            "Remove entries, or publish smaller models."
        )
    for name in entries:
        if (zoo_dir / name).exists():
            os.replace(zoo_dir / name, staging / f"{name}.old")
        os.replace(staging / name, zoo_dir / name)
    workdir.write_text(zoo_dir / RESULTS, table)
    workdir.write_text(zoo_dir / README, page)
    workdir.write_json(zoo_dir / INDEX, manifest.index_json(records))  # last: until then nothing new is opened
