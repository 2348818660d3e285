"""Trains, keeps and opens ensembles: two engines behind one interface."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from end2_tf import backbones, checkpoint, config, training, workdir
from end2_tf.data.dataset import DataSet
from end2_tf.data.shards import Shards
from end2_tf.ensemble import dropout, sequential, stacked
from end2_tf.ensemble.ensemble import Ensemble, StackedEnsemble, architecture, closing_activation, fresh_copy, load
from end2_tf.errors import ConfigError, WorkdirError
from end2_tf.models import is_batchable
from end2_tf.reading import keras_files

__all__ = [
    "Ensemble",
    "StackedEnsemble",
    "architecture",
    "closing_activation",
    "fresh_copy",
    "load",
    "missing",
    "num_begun",
    "num_stacks",
    "open_members",
    "seed_of",
    "stacks_of",
    "train_member",
    "train_stack",
]


WORTH_PROCESSES = 2e12  # FLOPs of training: some 20 seconds of two cores


def seed_of(seed: int, *key: int) -> int:
    """Returns a seed of its own for each key under an experiment's seed, in [0, 2³¹)."""
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0] >> 1)


def build_member(settings: config.Ensemble, data: DataSet, seed: int, *, mixed: bool = False) -> keras.Model:
    """Makes an untrained member, or its twin that computes in bfloat16; initial values are a function of the seed."""
    keras.utils.set_random_seed(seed)
    mean, std = data.normalisation()
    with training.precision(mixed):
        return backbones.build(
            settings.backbone,
            settings.options,
            input_shape=data.input_shape,
            num_classes=data.num_classes,
            mean=mean,
            std=std,
            field="ensemble.backbone",
        )


def engine(settings: config.Ensemble, data: DataSet) -> str:
    """Returns 'stacked' or 'sequential': what `auto` chooses for this architecture and these data.

    Raises:
        ConfigError: the settings ask for stacking, and the architecture, the augmentation or the data don't allow it.
    """
    member = build_member(settings, data, 0)
    drops = any(isinstance(layer, keras.layers.Dropout) and layer.rate for layer in member.layers)
    augmentation = settings.augmentation
    augmented = augmentation.changes_images or augmentation.mixup or (augmentation.jitter and augmentation.share < 1)
    in_shards = isinstance(data.train.inputs, Shards)
    is_deep = settings.kind == "deep"
    if settings.kind == "dropout":
        dropout.check(member)
    can_stack = is_deep and is_batchable(member) and not drops and not augmented and not in_shards
    if settings.engine == "stacked" and in_shards:
        raise ConfigError(
            "ensemble.engine is 'stacked', which has all inputs in memory, but data.shard_rows keeps them on disk. Set "
            "ensemble.engine=sequential, or leave data.shard_rows out."
        )
    if settings.engine == "stacked" and not can_stack:
        kinds = sorted({type(layer).__name__ for layer in member.layers})
        raise ConfigError(
            f"ensemble.engine is 'stacked', but the members have layers {', '.join(kinds)}"
            f"{' and an augmentation other than jitter of all inputs' if augmented else ''}. Stacking takes dense "
            "layers without dropout; set ensemble.engine=sequential."
        )
    if settings.engine != "auto":
        return settings.engine
    return "stacked" if can_stack else "sequential"


def missing(settings: config.Ensemble, folder: Path) -> list[int]:
    """Returns the numbers of the members that `folder` lacks."""
    return [i for i in range(settings.num_members) if read_record(folder, i) is None]


def train_stack(
    settings: config.Ensemble,
    data: DataSet,
    folder: Path,
    group: Sequence[int],
    *,
    seed: int,
    deterministic: bool = False,
    progress: training.Progress | None = None,
) -> None:
    """Trains members at once with the stacked engine and writes those to `folder` that it lacks.

    A member is `member_000.keras`, an ordinary Keras model in float32, and `member_000.json`, written after it: seed,
    digest of weights and config, history.

    Args:
        settings: Of the ensemble.
        data: To train on.
        folder: Where members are kept.
        group: The numbers of the members that share the stack; those that are there are left alone.
        seed: Of the experiment; member i's own is `seed_of(seed, i)`.
        deterministic: Whether members must be bit-equal to those of a whole stack.
        progress: Called after each epoch.
    """
    absent = sorted(set(group) & set(missing(settings, folder)))
    if not absent:
        _stack_checkpoint(folder, list(group)).unlink(missing_ok=True)
        return
    # The last bits depend on who is in the stack; and a stack that was trained, but not yet written, is there whole.
    stack = list(group) if deterministic or _has_begun(folder, group) else absent
    seeds = [seed_of(seed, i) for i in stack]
    members = [build_member(settings, data, own) for own in seeds]
    mixed = settings.mixed_precision and training.has_bfloat16()
    histories = stacked.train(
        members,
        data,
        settings,
        seeds=seeds,
        numbers=stack,
        prototype=build_member(settings, data, seeds[0], mixed=True) if mixed else None,
        checkpoint=_stack_checkpoint(folder, stack),
        progress=progress,
    )
    spent = checkpoint.seconds_spent(_stack_checkpoint(folder, stack))
    each = None if spent is None else spent / len(stack)
    for index, member, own, history in zip(stack, members, seeds, histories, strict=True):
        if index in absent:
            _write_member(folder, index, member, own, history, each)
    done = [_stack_checkpoint(folder, stack)] if missing(settings, folder) else folder.glob(".stack_*.npz")
    for leftover in done:
        leftover.unlink(missing_ok=True)


def _has_begun(folder: Path, group: Sequence[int]) -> bool:
    """Returns whether `folder` has the checkpoint of a stack of these members."""
    return _stack_checkpoint(folder, list(group)).is_file()


def stacks_of(group: Sequence[int], num: int) -> list[Sequence[int]]:
    """Returns members dealt out to so many stacks, those of neighbours together."""
    ends = [len(group) * number // num for number in range(num + 1)]
    return [group[start:end] for start, end in itertools.pairwise(ends)]


def num_begun(folder: Path, group: Sequence[int], absent: Sequence[int]) -> int | None:
    """Returns into how many stacks members were dealt by a training that was interrupted; None where there is none.

    Args:
        folder: Where members are kept.
        group: All members that it was to train.
        absent: Those of them that aren't there.
    """
    for num in range(1, len(group) + 1):
        for stack in stacks_of(group, num):
            if _has_begun(folder, stack) or _has_begun(folder, [index for index in stack if index in absent]):
                return num
    return None


def num_stacks(settings: config.Ensemble, data: DataSet, num_members: int, num_processes: int) -> int:
    """Returns how many stacks, each in a process of its own, train so many members soonest; 1 for this process alone.

    Operations of one thread are faster than those that two threads share, where they are as small as these: 1.2 to 1.4
    times on two cores. But a process takes some seconds to start.
    """
    member = build_member(settings, data, 0)
    flops = 6.0 * member.count_params() * len(data.train) * settings.epochs * num_members
    return min(num_processes, num_members) if num_processes > 1 and flops >= WORTH_PROCESSES else 1


def train_member(
    settings: config.Ensemble,
    data: DataSet,
    folder: Path,
    index: int,
    *,
    seed: int,
    validate: training.Validate | None = None,
    progress: training.Progress | None = None,
) -> None:
    """Trains one member with the sequential engine and writes it to `folder`, as `train_stack` does.

    A snapshot goes on from the one before, which must be there, with a new optimiser and the learning rate's schedule
    from its beginning (Huang et al., 2017, arXiv:1704.00109). With dropout, member 0 is the network itself, from which
    all members are drawn and written.

    Args:
        settings, data, folder, seed: See `train_stack`.
        index: Which member.
        validate: For its history.
        progress: Called after each epoch.
    """
    own = seed_of(seed, index)
    member = build_member(settings, data, own)
    mixed = settings.mixed_precision and training.has_bfloat16()
    network = build_member(settings, data, own, mixed=True) if mixed else member
    if settings.kind == "snapshots" and index > 0:
        network.load_weights(_paths(folder, index - 1)[0])
    unfinished = folder / f".member_{index:03d}.npz"
    history = sequential.train(
        network, data, settings, seed=own, checkpoint=unfinished, validate=validate, progress=progress
    )
    spent = checkpoint.seconds_spent(unfinished)
    if network is not member:
        member.set_weights(network.get_weights())
    if settings.kind == "dropout":
        for number in range(settings.num_members):
            draw = seed_of(seed, number)
            each = None if spent is None else spent / settings.num_members
            _write_member(folder, number, dropout.thinned(member, draw), draw, history, each)
    else:
        _write_member(folder, index, member, own, history, spent)
    unfinished.unlink(missing_ok=True)


def _stack_checkpoint(folder: Path, indices: list[int]) -> Path:
    return folder / f".stack_{config.digest(indices)}.npz"


def _paths(folder: Path, index: int) -> tuple[Path, Path]:
    return folder / f"member_{index:03d}.keras", folder / f"member_{index:03d}.json"


def _write_member(
    folder: Path, index: int, member: keras.Model, seed: int, history: list[dict[str, float]], seconds: float | None
) -> None:
    model_path, record_path = _paths(folder, index)
    workdir.write_atomically(model_path, lambda path: member.save(path))
    record = {
        "seed": seed,
        "weights": workdir.weights_digest(member.get_weights(), architecture(member)),
        "sha256": workdir.sha256(model_path),
        "seconds": seconds,
        "history": [{k: v for k, v in row.items() if not math.isnan(v)} for row in history],
    }
    workdir.write_json(record_path, record)


def read_record(folder: Path, index: int) -> dict[str, Any] | None:
    """Returns a member's record if its files are complete and unaltered."""
    model_path, record_path = _paths(folder, index)
    if not (model_path.is_file() and record_path.is_file()):
        return None
    record = workdir.read_object(record_path)
    return record if record.get("sha256") == workdir.sha256(model_path) else None


def open_members(folder: Path, num_members: int) -> StackedEnsemble:
    """Opens members that `train_stack` or `train_member` wrote; one graph serves all, as their architecture is one."""
    first = _paths(folder, 0)[0]
    prototype = keras_files.load(
        first, what=f"{first}", error=WorkdirError, advice="Delete it and run the stage again.", compile=False
    )
    rows = []
    for index in range(num_members):
        prototype.load_weights(_paths(folder, index)[0])
        rows.append(prototype.get_weights())
    return StackedEnsemble(prototype, [np.stack(arrays) for arrays in zip(*rows, strict=True)])
