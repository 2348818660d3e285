"""The transfer set: what the members said about each input that a student will be shown.

Members' logits are recorded once, (example, member, class), for in-domain and auxiliary inputs, per view of each. A
student needs only a statistic of them, so the logits are reduced to (example, S) for the temperature of each epoch, and
a training step costs nothing per member.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf import config, uncertainty, workdir
from end2_tf.config import Augmentation
from end2_tf.data.views import CLEAN, Views
from end2_tf.ensemble import Ensemble
from end2_tf.errors import ConfigError, DataError
from end2_tf.progress import Report

CHUNK_VALUES = 4_000_000  # logits reduced at a time: 32 MB in float64


@dataclasses.dataclass(frozen=True)
class Recording:
    """What the members said of one array of inputs.

    Args:
        logits: View → (n, members, classes); CLEAN is the view without augmentation.
        folder: Where statistics are kept; None keeps them in memory only.
        num_members: Use the first so many only; None for all.
    """

    logits: Mapping[int, np.ndarray]
    folder: Path | None = None
    num_members: int | None = None

    def __len__(self) -> int:
        return len(next(iter(self.logits.values())))

    @property
    def num_classes(self) -> int:
        return next(iter(self.logits.values())).shape[2]

    def statistics(self, loss: Any, temperatures: np.ndarray) -> Callable[[int, int], np.ndarray]:
        """Returns a function (level, view) → (n, S) float32 that reduces a view's logits when it is first asked for.

        A view that wasn't recorded stands for the clean inputs. The latest table is kept in memory, all of them on disk
        where there is a folder.
        """
        function = tf.function(loss.reduce_members, reduce_retracing=True)
        not_theirs = ("name", "targets", "temperature", "reduction")
        options = {k: v for k, v in loss.get_config().items() if k not in not_theirs}
        latest: list[Any] = [None, None]
        lock = threading.Lock()  # Keras looks at a first batch by a pipeline of its own, beside the training's

        def make(level: int, view: int) -> np.ndarray:
            temperature = float(temperatures[level])
            logits = self.logits[view][:, : self.num_members]
            if self.folder is None:
                return reduce(loss, logits, temperature, function)
            part = [] if self.num_members is None else [self.num_members]
            key = config.digest(type(loss).__name__, options, temperature, *part)
            path = self.folder / ".statistics" / f"{_view_name(view)}_{key}.npy"
            if path.is_file():
                return np.load(path)
            table = reduce(loss, logits, temperature, function)
            workdir.write_atomically(path, lambda temporary: np.save(temporary, table))
            return table

        def table(level: int, view: int) -> np.ndarray:
            view = view if view in self.logits else CLEAN
            with lock:
                if latest[0] != (level, view):
                    latest[:] = [(level, view), make(level, view)]
                return latest[1]

        return table


@dataclasses.dataclass(frozen=True)
class TransferSet:
    """Recordings of the in-domain inputs and, for methods that use them, of auxiliary ones."""

    train: Recording
    auxiliary: Recording | None = None

    def statistics(
        self, loss: Any, temperatures: np.ndarray, *, with_auxiliary: bool
    ) -> Callable[[int, int, np.ndarray], np.ndarray]:
        """Returns a function that looks up what a loss needs of members.

        Args:
            loss: A `DistillationLoss`.
            temperatures: The schedule's levels.
            with_auxiliary: Whether auxiliary inputs are used too.

        Returns:
            (level, view, ids) → (len(ids), S) float32; ids from len(train) on are auxiliary inputs.

        Raises:
            DataError: auxiliary inputs are wanted, and none were recorded.
        """
        num, size = len(self.train), loss.statistics_size(self.train.num_classes)
        inside_table = self.train.statistics(loss, temperatures)
        outside_table = None
        if with_auxiliary:
            if self.auxiliary is None:
                raise DataError("the transfer set has no auxiliary inputs. Record it again with data.auxiliary set.")
            outside_table = self.auxiliary.statistics(loss, temperatures)

        def look_up(level: int, view: int, ids: np.ndarray) -> np.ndarray:
            inside = ids < num
            rows = np.empty((len(ids), size), np.float32)
            rows[inside] = inside_table(level, view)[ids[inside]]
            if outside_table is not None and not inside.all():
                rows[~inside] = outside_table(level, view)[ids[~inside] - num]
            return rows

        return look_up


def reduce(loss: Any, logits: np.ndarray, temperature: float, function: Any = None) -> np.ndarray:
    """Returns a loss's statistics (n, S) float32 of logits (n, members, classes), a chunk at a time.

    Args:
        loss: A `DistillationLoss`.
        logits: Of members.
        temperature: T.
        function: The graph of the loss's `reduce_members`, if there is one already.
    """
    rows = max(1, CHUNK_VALUES // max(1, logits.shape[1] * logits.shape[2]))
    function = function or tf.function(loss.reduce_members, reduce_retracing=True)
    out = np.empty((len(logits), loss.statistics_size(logits.shape[2])), np.float32)
    for start in range(0, len(logits), rows):
        chunk = np.asarray(logits[start : start + rows], np.float64)
        out[start : start + rows] = function(tf.constant(chunk), tf.constant(temperature, tf.float64)).numpy()
    return out


def check(settings: config.Transfer) -> None:
    """Raises ConfigError where members would be recorded on something else than the student is shown."""
    for name in ("augmentation", "auxiliary_augmentation"):
        if settings.mode == "clean" and getattr(settings, name).mixup:
            raise ConfigError(
                f"transfer.{name}.mixup is {getattr(settings, name).mixup:g}, but transfer.mode is 'clean': members "
                "would be recorded on one input and the student shown a mixture of two. Set transfer.mode=views or "
                "online."
            )


def make_views(
    settings: config.Transfer, train: np.ndarray, auxiliary: np.ndarray | None, seed: int, *folders: Path
) -> tuple[Views, Views | None]:
    """Returns the views of in-domain and auxiliary inputs: those that members were or will be recorded on.

    Args:
        settings: Augmentation of both.
        train: In-domain inputs.
        auxiliary: Auxiliary inputs, if there are any.
        seed: Of the draws.
        *folders: Of the two recordings, where views may be kept.
    """
    folder, other = (*folders, *[None] * 2)[:2]
    inside = Views(settings.augmentation, train, seed, folder=folder, name="transfer.augmentation")
    if auxiliary is None:
        return inside, None
    changes, name = settings.auxiliary_augmentation, "transfer.auxiliary_augmentation"
    return inside, Views(changes, auxiliary, seed, partners=train, folder=other, name=name)


def record(
    ensemble: Ensemble,
    views: Views,
    settings: config.Transfer,
    folder: Path,
    *,
    report: Report = lambda *args: None,
) -> dict[str, Any]:
    """Writes the members' logits for one array of inputs, per view; with `keep_inputs` the views too.

    A file that is complete is left alone, so an interrupted recording goes on with the next one.

    Returns:
        Details for the manifest: views, seed, shape.
    """
    numbers = recorded_views(settings, views.augmentation)
    for number, view in enumerate(numbers):
        path = _logits_path(folder, view)
        if not path.is_file():
            inputs, kept = views.array(view), views.path(view)
            if settings.keep_inputs and view != CLEAN and kept is not None:
                workdir.write_atomically(kept, functools.partial(np.save, arr=inputs))
            _record_one(ensemble, inputs, settings.dtype, path)
        report("members' logits", number + 1, len(numbers), {"examples": float(len(views.inputs))})
    return {
        "mode": settings.mode,
        "views": numbers,
        "view_seed": views.seed,
        "augmentation": dataclasses.asdict(views.augmentation),
        "logits": [len(views.inputs), ensemble.num_members, ensemble.num_classes],
    }


def disagreement(ensemble: Ensemble, inputs: np.ndarray, num: int = 5000) -> float:
    """Returns the members' mean knowledge uncertainty, nats, on `num` of some inputs, evenly spread over them.

    On what they were trained on members agree too closely to teach where they disagree; transfer inputs are about right
    where this is as on held-out inputs.
    """
    rows = np.linspace(0, len(inputs) - 1, min(num, len(inputs))).astype(np.int64)  # they may be sorted by class
    measured = uncertainty.from_members(ensemble.predict_logits(np.asarray(inputs)[rows]))
    return float(np.mean(measured["knowledge_uncertainty"]))


def recorded_views(settings: config.Transfer, augmentation: Augmentation) -> list[int]:
    """Returns the views on which members are recorded: none where they are asked online, else clean or numbered."""
    if settings.mode == "online":
        return []
    if settings.mode == "clean" or augmentation.is_identity:
        return [CLEAN]
    return list(range(settings.num_views))


def num_bytes(
    settings: config.Transfer,
    augmentation: Augmentation,
    shape: tuple[int, ...],
    dtype: Any,
    num_members: int,
    num_classes: int,
) -> int:
    """Returns how much `record` writes for inputs of that shape, (n, ...), and dtype under an augmentation."""
    numbers = recorded_views(settings, augmentation)
    kept = math.prod(shape) * np.dtype(dtype).itemsize if settings.keep_inputs and CLEAN not in numbers else 0
    logits = shape[0] * num_members * num_classes * np.dtype(settings.dtype).itemsize
    return len(numbers) * (logits + kept)


def _record_one(ensemble: Ensemble, inputs: np.ndarray, dtype: str, path: Path) -> None:
    shape = (len(inputs), ensemble.num_members, ensemble.num_classes)
    limit = float(np.finfo(dtype).max)

    def write(temporary: Path) -> None:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        for start in range(0, len(inputs), 1000):
            out[start : start + 1000] = np.clip(ensemble.predict_logits(inputs[start : start + 1000]), -limit, limit)
        out.flush()
        del out

    workdir.write_atomically(path, write)


def _view_name(view: int) -> str:
    return "clean" if view == CLEAN else f"view_{view:03d}"


def _logits_path(folder: Path, view: int) -> Path:
    return folder / f"{_view_name(view)}.npy"


def open_recording(folder: Path, views: list[int], num_members: int | None = None) -> Recording:
    """Opens what `record` wrote, memory-mapped; of all members, or of the first `num_members`."""
    logits = {view: np.load(_logits_path(folder, view), mmap_mode="r") for view in views}
    return Recording(logits, folder, num_members)


def record_in_memory(ensemble: Ensemble, inputs: np.ndarray, auxiliary: np.ndarray | None) -> TransferSet:
    """Returns the members' logits on clean inputs without writing them."""
    extra = None if auxiliary is None else Recording({CLEAN: ensemble.predict_logits(auxiliary)})
    return TransferSet(Recording({CLEAN: ensemble.predict_logits(inputs)}), extra)
