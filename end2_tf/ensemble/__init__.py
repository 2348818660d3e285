"""Trains, keeps and opens ensembles: two engines behind one interface."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from end2_tf import backbones, config, training, workdir
from end2_tf.data.dataset import DataSet
from end2_tf.ensemble import sequential, stacked
from end2_tf.ensemble.ensemble import Ensemble, StackedEnsemble, architecture, closing_activation, fresh_copy, load
from end2_tf.errors import ConfigError
from end2_tf.models import is_batchable
from end2_tf.progress import Report

__all__ = [
    "Ensemble",
    "StackedEnsemble",
    "architecture",
    "closing_activation",
    "fresh_copy",
    "load",
    "open_members",
    "seed_of",
    "train",
]


def seed_of(seed: int, *key: int) -> int:
    """Returns a seed of its own for each key under an experiment's seed, in [0, 2³¹)."""
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0] >> 1)


def build_member(settings: config.Ensemble, data: DataSet, seed: int) -> keras.Model:
    """Makes an untrained member; its initial values are a function of the seed."""
    keras.utils.set_random_seed(seed)
    mean, std = data.normalisation()
    return backbones.build(
        settings.backbone,
        settings.options,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        mean=mean,
        std=std,
        field="ensemble.backbone",
    )


def engine(settings: config.Ensemble, member: keras.Model) -> str:
    """Returns 'stacked' or 'sequential': what `auto` chooses for this architecture.

    Raises:
        ConfigError: the settings ask for stacking, and the architecture or the augmentation doesn't allow it.
    """
    drops = any(isinstance(layer, keras.layers.Dropout) and layer.rate for layer in member.layers)
    augmented = settings.augmentation.flip or settings.augmentation.shift or settings.augmentation.rotation
    can_stack = is_batchable(member) and not drops and not augmented
    if settings.engine == "stacked" and not can_stack:
        kinds = sorted({type(layer).__name__ for layer in member.layers})
        raise ConfigError(
            f"ensemble.engine is 'stacked', but the members have layers {', '.join(kinds)}"
            f"{' and augmented images' if augmented else ''}. Stacking takes dense layers without dropout; "
            "set ensemble.engine=sequential."
        )
    if settings.engine != "auto":
        return settings.engine
    return "stacked" if can_stack else "sequential"


def train(
    settings: config.Ensemble,
    data: DataSet,
    folder: Path,
    *,
    seed: int,
    validate: training.Validate | None = None,
    report: Report = lambda *args: None,
) -> list[dict[str, Any]]:
    """Trains the members that `folder` lacks, and writes each as it finishes.

    A member is `member_000.keras`, an ordinary Keras model, and `member_000.json`, written after it: seed, digest of
    weights and config, history.

    Args:
        settings: Of the ensemble.
        data: To train on.
        folder: Where members are kept.
        seed: Of the experiment; member i's own is `seed_of(seed, i)`.
        validate: For the histories of sequential members.
        report: Called with progress.

    Returns:
        The members' records, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(settings.num_members) if read_record(folder, i) is None]
    done = settings.num_members - len(missing)
    if missing:
        first = build_member(settings, data, seed_of(seed, missing[0]))
        if engine(settings, first) == "stacked":
            members = [first, *(build_member(settings, data, seed_of(seed, i)) for i in missing[1:])]
            checkpoint = folder / f".stack_{config.digest(missing)}.npz"
            histories = stacked.train(
                members,
                data,
                settings,
                seeds=[seed_of(seed, i) for i in missing],
                checkpoint=checkpoint,
                progress=lambda epoch, epochs, row: report(f"training {len(missing)} members", epoch, epochs, row),
            )
            for index, member, history in zip(missing, members, histories, strict=True):
                _write_member(folder, index, member, seed_of(seed, index), history)
            for leftover in folder.glob(".stack_*.npz"):
                leftover.unlink()
        else:
            for position, index in enumerate(missing):
                member_seed = seed_of(seed, index)
                member = first if position == 0 else build_member(settings, data, member_seed)
                checkpoint = folder / f".member_{index:03d}.npz"
                history = sequential.train(
                    member,
                    data,
                    settings,
                    seed=member_seed,
                    checkpoint=checkpoint,
                    validate=validate,
                    progress=_after(report, done + position, settings.num_members),
                )
                _write_member(folder, index, member, member_seed, history)
                checkpoint.unlink(missing_ok=True)
    return [read_record(folder, i) or {} for i in range(settings.num_members)]


def _after(report: Report, done: int, num_members: int) -> training.Progress:
    """Returns the progress of one member as progress of the ensemble, with `done` members before it."""

    def progress(epoch: int, epochs: int, row: dict[str, float]) -> None:
        report(f"training {num_members} members", done * epochs + epoch, num_members * epochs, row)

    return progress


def _paths(folder: Path, index: int) -> tuple[Path, Path]:
    return folder / f"member_{index:03d}.keras", folder / f"member_{index:03d}.json"


def _write_member(folder: Path, index: int, member: keras.Model, seed: int, history: list[dict[str, float]]) -> None:
    model_path, record_path = _paths(folder, index)
    workdir.write_atomically(model_path, lambda path: member.save(path))
    record = {
        "seed": seed,
        "weights": workdir.weights_digest(member.get_weights(), architecture(member)),
        "sha256": workdir.sha256(model_path),
        "history": [{k: v for k, v in row.items() if not math.isnan(v)} for row in history],
    }
    workdir.write_json(record_path, record)


def read_record(folder: Path, index: int) -> dict[str, Any] | None:
    """Returns a member's record if its files are complete and unaltered."""
    model_path, record_path = _paths(folder, index)
    if not (model_path.is_file() and record_path.is_file()):
        return None
    record = workdir.read_json(record_path)
    return record if record["sha256"] == workdir.sha256(model_path) else None


def open_members(folder: Path, num_members: int) -> StackedEnsemble:
    """Opens members that `train` wrote; they share one architecture, so one graph serves all."""
    prototype = keras.saving.load_model(_paths(folder, 0)[0], compile=False)
    rows = []
    for index in range(num_members):
        prototype.load_weights(_paths(folder, index)[0])
        rows.append(prototype.get_weights())
    return StackedEnsemble(prototype, [np.stack(arrays) for arrays in zip(*rows, strict=True)])
