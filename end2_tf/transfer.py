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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from end2_tf import config, uncertainty
from end2_tf.config import Augmentation
from end2_tf.data import shards
from end2_tf.data.shards import Rows, Shards
from end2_tf.data.views import CLEAN, Views
from end2_tf.ensemble import Ensemble
from end2_tf.errors import ConfigError, DataError, WorkdirError
from end2_tf.progress import Report
from end2_tf.reading import texts

CHUNK_VALUES = 4_000_000  # logits reduced at a time: 32 MB in float64
STATISTICS = "statistics"

Statistic = tuple[Any, float, int | None]
"""(a loss, the temperature, how many of the members or None for all): what is kept of what members say."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """What the members said of one array of inputs.

    Args:
        logits: View → (n, members, classes), in memory or `Shards`; CLEAN is the view without augmentation. Empty where
            only statistics were kept.
        num: n.
        num_classes: K.
        views: Which were recorded.
        folder: Where statistics are kept; None keeps them in memory only.
        rows: Examples in a shard of them.
        num_members: Use the first so many only; None for all.
    """

    logits: Mapping[int, Any]
    num: int
    num_classes: int
    views: tuple[int, ...]
    folder: Path | None = None
    rows: int | None = None
    num_members: int | None = None

    @classmethod
    def in_memory(cls, logits: Mapping[int, np.ndarray]) -> Recording:
        """Returns a recording of arrays, view → (n, members, classes)."""
        first = next(iter(logits.values()))
        return cls(logits, len(first), first.shape[2], tuple(logits))

    def __len__(self) -> int:
        return self.num

    def statistics(self, loss: Any, temperatures: np.ndarray) -> Callable[[int, int], np.ndarray | Shards]:
        """Returns a function (level, view) → (n, S) float32, made of a view's logits where they aren't there.

        A view that wasn't recorded stands for the clean inputs. The latest table is kept in memory, or the last of its
        shards; all of them on disk where there is a folder. A shard of a table is made of as many of logits as give one
        of the usual size, so that looking rows up costs the same however many members there were.

        Raises:
            DataError: by the function: logits weren't kept, and neither was this statistic.
        """
        latest: list[Any] = [None, None]
        lock = threading.Lock()  # a pipeline asks from a thread of its own

        def make(level: int, view: int) -> np.ndarray | Shards:
            temperature = float(temperatures[level])
            if self.folder is None:
                return reduce(loss, self.logits[view][:, : self.num_members], temperature)
            name = f"{_view_name(view)}_{_statistic(loss, temperature, self.num_members)}"
            rows = self.rows or self.num
            kept = Shards(self.folder / STATISTICS / name, self.num, rows)
            if kept.is_there:
                return kept
            if view not in self.logits:
                raise DataError(
                    f"{self.folder} has no statistics for {type(loss).__name__} at temperature {temperature:g}, and "
                    "members' logits weren't kept. Record them again, or set transfer.keep=logits."
                )

            logits = self.logits[view]
            together = max(1, shards.SHARD_BYTES // (rows * 4 * loss.statistics_size(self.num_classes)))

            def of_shard(shard: int) -> np.ndarray:
                sources = range(shard * together, min((shard + 1) * together, logits.num_shards))
                return np.concatenate(
                    [reduce(loss, logits.load(each)[:, : self.num_members], temperature) for each in sources]
                )

            return Shards(self.folder / f".{STATISTICS}" / name, self.num, rows * together, of_shard)

        def table(level: int, view: int) -> np.ndarray | Shards:
            view = view if view in self.views else CLEAN
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


def reduce(loss: Any, logits: np.ndarray, temperature: float) -> np.ndarray:
    """Returns a loss's statistics (n, S) float32 of logits (n, members, classes), a chunk at a time.

    Args:
        loss: A `DistillationLoss`.
        logits: Of members.
        temperature: T.
    """
    rows = max(1, CHUNK_VALUES // max(1, logits.shape[1] * logits.shape[2]))
    function = _graph(loss)
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
    settings: config.Transfer,
    train: Rows,
    auxiliary: Rows | None,
    seed: int,
    *places: tuple[Path, int | None],
) -> tuple[Views, Views | None]:
    """Returns the views of in-domain and auxiliary inputs: those that members were or will be recorded on.

    Args:
        settings: Augmentation of both.
        train: In-domain inputs.
        auxiliary: Auxiliary inputs, if there are any.
        seed: Of the draws.
        *places: Of the two recordings: the folder, where views may be kept, and the examples in a shard.
    """
    (folder, rows), (other, its_rows) = (*places, *[(None, None)] * 2)[:2]
    inside = Views(settings.augmentation, train, seed, folder=folder, rows=rows, name="transfer.augmentation")
    if auxiliary is None:
        return inside, None
    changes, name = settings.auxiliary_augmentation, "transfer.auxiliary_augmentation"
    return inside, Views(changes, auxiliary, seed, partners=train, folder=other, rows=its_rows, name=name)


def record(
    ensemble: Ensemble,
    views: Views,
    settings: config.Transfer,
    folder: Path,
    *,
    statistics: Sequence[Statistic] = (),
    units: Sequence[tuple[int, int]] | None = None,
    report: Report = lambda *args: None,
) -> None:
    """Writes what members say of one array of inputs, per view and shard; with `keep_inputs` the views too.

    A shard that is complete is left alone, so an interrupted recording goes on with the next one.

    Args:
        ensemble: The members.
        views: Of the inputs, with the shards' size.
        settings: What to keep.
        folder: Where.
        statistics: What to keep instead of logits, where `settings.keep` says so.
        units: Which (view, shard), of those that `units_of` names; all by default.
        report: Called with progress.
    """
    units = units_of(settings, views) if units is None else units
    for number, (view, shard) in enumerate(units):
        tables = _tables(views, settings, folder, view, statistics)
        kept = views.kept(view) if settings.keep_inputs and view != CLEAN else None
        wanted = [table for table, _ in tables] + ([kept] if kept is not None else [])
        if any(not each.path(shard).is_file() for each in wanted):
            start, stop = shards.spans(len(views.inputs), views.rows)[shard]
            inputs = views.rows_at(view, slice(start, stop))
            if kept is not None:
                kept.write(shard, inputs)
            _record_shard(ensemble, inputs, shard, tables)
        report("members' predictions", number + 1, len(units), {"examples": float(len(views.inputs))})


def details(settings: config.Transfer, views: Views, ensemble: Ensemble) -> dict[str, Any]:
    """Returns what a recording's manifest says of it: views, seed, shape, shards."""
    return {
        "mode": settings.mode,
        "views": recorded_views(settings, views.augmentation),
        "view_seed": views.seed,
        "augmentation": dataclasses.asdict(views.augmentation),
        "logits": [len(views.inputs), ensemble.num_members, ensemble.num_classes],
        "keep": settings.keep,
        "rows": views.rows,
    }


def units_of(settings: config.Transfer, views: Views) -> list[tuple[int, int]]:
    """Returns the parts that `record` writes one after another, as (view, shard)."""
    num_shards = len(shards.spans(len(views.inputs), views.rows))
    return [(view, shard) for view in recorded_views(settings, views.augmentation) for shard in range(num_shards)]


def disagreement(ensemble: Ensemble, inputs: np.ndarray) -> float:
    """Returns the members' mean knowledge uncertainty, nats, on some inputs.

    On what they were trained on members agree too closely to teach where they disagree; transfer inputs are about right
    where this is as on held-out inputs.
    """
    return float(np.mean(uncertainty.from_members(ensemble.predict_logits(inputs))["knowledge_uncertainty"]))


def spread(inputs: Rows, most: int = 5000) -> np.ndarray:
    """Returns the numbers of at most so many inputs, evenly spread, as they may be sorted by class.

    Of inputs in shards it takes a few whole ones, each of which has some of every class.
    """
    num, rows = len(inputs), shards.rows_in(inputs)
    if rows is None or num <= most:
        return np.linspace(0, num - 1, min(most, num)).astype(np.int64)
    spans = shards.spans(num, rows)
    chosen = np.unique(np.linspace(0, len(spans) - 1, min(shards.WINDOW, len(spans))).astype(np.int64))
    return np.concatenate([np.arange(*spans[i]) for i in chosen])[:most]


def recorded_views(settings: config.Transfer, augmentation: Augmentation) -> list[int]:
    """Returns the views on which members are recorded: none where they are asked online, else clean or numbered."""
    if settings.mode == "online":
        return []
    if settings.mode == "clean" or augmentation.is_identity:
        return [CLEAN]
    return list(range(settings.num_views))


def said_bytes(settings: config.Transfer, num_members: int, num_classes: int, statistics: Sequence[Statistic]) -> int:
    """Returns the bytes of what is kept of what members say of one input."""
    if settings.keep == "logits":
        return num_members * num_classes * np.dtype(settings.dtype).itemsize
    names = {_statistic(*each): each[0].statistics_size(num_classes) for each in statistics}
    return 4 * sum(names.values())


def shard_rows(settings: config.Transfer, views: Views, said: int) -> int:
    """Returns how many examples make a shard, where `said_bytes` of each are kept: as the inputs have, if in shards."""
    if (rows := shards.rows_in(views.inputs)) is not None:
        return rows
    of_input = views.inputs.dtype.itemsize * math.prod(views.inputs.shape[1:])
    return shards.rows_of(max(said, of_input if settings.keep_inputs else 0))


def num_bytes(
    settings: config.Transfer, augmentation: Augmentation, shape: tuple[int, ...], dtype: Any, said: int
) -> int:
    """Returns how much `record` writes.

    Args:
        settings: What is kept.
        augmentation: Of the inputs.
        shape, dtype: Of all inputs, (n, ...).
        said: See `said_bytes`.
    """
    numbers = recorded_views(settings, augmentation)
    kept = math.prod(shape) * np.dtype(dtype).itemsize if settings.keep_inputs and CLEAN not in numbers else 0
    return len(numbers) * (shape[0] * said + kept)


def _tables(
    views: Views,
    settings: config.Transfer,
    folder: Path,
    view: int,
    statistics: Sequence[Statistic],
) -> list[tuple[Shards, Callable[[np.ndarray], np.ndarray]]]:
    """Returns what is kept of a view: where, and how it is made of members' logits."""
    num, rows = len(views.inputs), views.rows
    if settings.keep == "logits":
        limit = float(np.finfo(settings.dtype).max)
        logits = Shards(folder / _view_name(view), num, rows)
        return [(logits, lambda values: np.clip(values, -limit, limit).astype(settings.dtype))]
    tables = {}
    for loss, temperature, num_members in statistics:
        name = f"{_view_name(view)}_{_statistic(loss, temperature, num_members)}"
        function = functools.partial(_reduce_first, loss, temperature, num_members)
        tables[name] = (Shards(folder / STATISTICS / name, num, rows), function)
    return list(tables.values())


def _reduce_first(loss: Any, temperature: float, num_members: int | None, logits: np.ndarray) -> np.ndarray:
    return reduce(loss, logits[:, :num_members], temperature)


@functools.lru_cache(maxsize=64)
def _graph(loss: Any) -> Any:
    return tf.function(loss.reduce_members, reduce_retracing=True)


def _record_shard(
    ensemble: Ensemble,
    inputs: np.ndarray,
    shard: int,
    tables: Sequence[tuple[Shards, Callable[[np.ndarray], np.ndarray]]],
) -> None:
    """Asks members, a chunk of inputs at a time, and writes what is kept of it."""
    chunk = max(1, min(1000, CHUNK_VALUES // (ensemble.num_members * ensemble.num_classes)))
    parts: list[list[np.ndarray]] = [[] for _ in tables]
    for start in range(0, len(inputs), chunk):
        logits = ensemble.predict_logits(inputs[start : start + chunk])
        for part, (_, make) in zip(parts, tables, strict=True):
            part.append(make(logits))
    for part, (table, _) in zip(parts, tables, strict=True):
        table.write(shard, np.concatenate(part))


def _view_name(view: int) -> str:
    return "clean" if view == CLEAN else f"view_{view:03d}"


def _statistic(loss: Any, temperature: float, num_members: int | None) -> str:
    """Returns the name of a statistic: what it is made by."""
    not_theirs = ("name", "targets", "temperature", "reduction")
    options = {k: v for k, v in loss.get_config().items() if k not in not_theirs}
    part = [] if num_members is None else [num_members]
    return config.digest(type(loss).__name__, options, temperature, *part)


@dataclasses.dataclass(frozen=True)
class _Said:
    """What a manifest says of a recording; those of before there were shards say less."""

    logits: tuple[config.CountOrZero, config.Count, config.Count]
    views: tuple[int, ...]
    rows: config.Count | None = None
    keep: Literal["logits", "statistics"] = "logits"


def open_recording(folder: Path, manifest: Mapping[str, Any], num_members: int | None = None) -> Recording:
    """Opens what `record` wrote; of all members, or of the first `num_members`.

    Args:
        folder: Where.
        manifest: What `details` said of it.
        num_members: See `Recording`.
    """
    said = texts.fit(_Said, manifest, f"the manifest in {folder}", WorkdirError, "Delete it and run the stage again.")
    num, _, num_classes = said.logits
    rows = said.rows or num
    logits = (
        {view: Shards(folder / _view_name(view), num, rows) for view in said.views} if said.keep == "logits" else {}
    )
    return Recording(logits, num, num_classes, said.views, folder, rows, num_members)


def record_in_memory(ensemble: Ensemble, inputs: np.ndarray, auxiliary: np.ndarray | None) -> TransferSet:
    """Returns the members' logits on clean inputs without writing them."""
    extra = None if auxiliary is None else Recording.in_memory({CLEAN: ensemble.predict_logits(auxiliary)})
    return TransferSet(Recording.in_memory({CLEAN: ensemble.predict_logits(inputs)}), extra)
