"""The transfer set: what the members said about each input that a student will be shown.

Members' logits are recorded once, (example, member, class), for in-domain inputs per view and for auxiliary inputs as
they are. A student needs only a statistic of them, so `statistics` reduces the logits for each temperature of its
schedule to (example, S) and a training step costs nothing per member.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from end2_tf import config, workdir
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.data.views import CLEAN, Views
from end2_tf.ensemble import Ensemble
from end2_tf.errors import DataError
from end2_tf.progress import Report

CHUNK_VALUES = 4_000_000  # logits reduced at a time: 32 MB in float64


@dataclasses.dataclass(frozen=True)
class TransferSet:
    """Recorded logits.

    Args:
        logits: View → (n, members, classes); CLEAN is the view without augmentation.
        auxiliary: (n_auxiliary, members, classes), or None.
        cache: Folder for statistics; None keeps them in memory only.
    """

    logits: dict[int, np.ndarray]
    auxiliary: np.ndarray | None = None
    cache: Path | None = None

    @property
    def num_examples(self) -> int:
        return len(next(iter(self.logits.values())))

    @property
    def num_auxiliary(self) -> int:
        return 0 if self.auxiliary is None else len(self.auxiliary)

    @property
    def num_views(self) -> int:
        return len(self.logits)

    def statistics(
        self, loss: Any, temperatures: np.ndarray, *, with_auxiliary: bool, report: Report = lambda *args: None
    ) -> Callable[[int, int, np.ndarray], np.ndarray]:
        """Reduces the logits to what a loss needs, for every temperature it will be asked for.

        Args:
            loss: A `DistillationLoss`.
            temperatures: The schedule's levels.
            with_auxiliary: Whether auxiliary inputs are used too.
            report: Called with progress.

        Returns:
            (level, view, ids) → (len(ids), S) float32; ids from num_examples on are auxiliary inputs.
        """
        parts: dict[int | str, np.ndarray] = {view: logits for view, logits in self.logits.items()}
        if with_auxiliary:
            if self.auxiliary is None:
                raise DataError("the transfer set has no auxiliary inputs. Record it again with data.auxiliary set.")
            parts["auxiliary"] = self.auxiliary
        tables: dict[tuple[int | str, int], np.ndarray] = {}
        total = len(parts) * len(temperatures)
        for level, temperature in enumerate(temperatures):
            for part, logits in parts.items():
                tables[part, level] = self._table(loss, part, logits, float(temperature))
                report("statistics", len(tables), total, {"temperature": float(temperature)})
        num = self.num_examples

        def look_up(level: int, view: int, ids: np.ndarray) -> np.ndarray:
            inside = ids < num
            table = tables[view, level]
            rows = np.empty((len(ids), table.shape[1]), np.float32)
            rows[inside] = table[ids[inside]]
            if not inside.all():
                rows[~inside] = tables["auxiliary", level][ids[~inside] - num]
            return rows

        return look_up

    def _table(self, loss: Any, part: int | str, logits: np.ndarray, temperature: float) -> np.ndarray:
        path = None
        if self.cache is not None:
            options = {
                k: v for k, v in loss.get_config().items() if k not in ("name", "targets", "temperature", "reduction")
            }
            key = config.digest(type(loss).__name__, options, temperature)
            path = self.cache / f"{part}_{key}.npy"
            if path.is_file():
                return np.load(path, mmap_mode="r")
        table = reduce(loss, logits, temperature)
        if path is not None:
            workdir.write_atomically(path, lambda temporary: np.save(temporary, table))
        return table


def reduce(loss: Any, logits: np.ndarray, temperature: float) -> np.ndarray:
    """Returns a loss's statistics (n, S) float32 of logits (n, members, classes), a chunk at a time."""
    rows = max(1, CHUNK_VALUES // max(1, logits.shape[1] * logits.shape[2]))
    function = tf.function(loss.reduce_members, reduce_retracing=True)
    out = np.empty((len(logits), loss.statistics_size(logits.shape[2])), np.float32)
    for start in range(0, len(logits), rows):
        chunk = np.asarray(logits[start : start + rows], np.float64)
        out[start : start + rows] = function(tf.constant(chunk), tf.constant(temperature, tf.float64)).numpy()
    return out


def record(
    ensemble: Ensemble,
    data: DataSet,
    settings: config.Transfer,
    folder: Path,
    *,
    seed: int,
    report: Report = lambda *args: None,
) -> dict[str, Any]:
    """Writes the members' logits for `data`'s train inputs, per view, and its auxiliary inputs.

    A file that is complete is left alone, so an interrupted recording goes on with the next one.

    Returns:
        Details for the manifest: views, seeds, shapes.
    """
    views = Views(settings.augmentation, data.train.inputs, seed)
    numbers = list(range(num_recorded(settings))) if _has_views(settings) else [CLEAN]
    jobs: list[tuple[Path, np.ndarray, int]] = [(_logits_path(folder, v), data.train.inputs, v) for v in numbers]
    if data.auxiliary is not None:
        jobs.append((folder / "auxiliary.npy", data.auxiliary.inputs, CLEAN))
    if settings.mode == "online":
        jobs = []  # members are asked during training
    for number, (path, inputs, view) in enumerate(jobs):
        if not path.is_file():
            _record_one(ensemble, inputs, views, view, settings.dtype, path)
        report("members' logits", number + 1, len(jobs), {"examples": float(len(inputs))})
    return {
        "mode": settings.mode,
        "views": numbers,
        "view_seed": seed,
        "augmentation": dataclasses.asdict(settings.augmentation),
        "logits": [len(data.train), ensemble.num_members, ensemble.num_classes],
        "auxiliary": 0 if data.auxiliary is None else len(data.auxiliary),
    }


def _has_views(settings: config.Transfer) -> bool:
    return settings.mode == "views" and not settings.augmentation.is_identity


def num_recorded(settings: config.Transfer) -> int:
    """Returns how often each in-domain input is recorded: once a view, once clean, or never."""
    if settings.mode == "online":
        return 0
    return settings.num_views if _has_views(settings) else 1


def num_bytes(settings: config.Transfer, data: DataSet, num_members: int) -> int:
    """Returns how much `record` will write."""
    auxiliary = 0 if data.auxiliary is None or settings.mode == "online" else len(data.auxiliary)
    inputs = len(data.train) * num_recorded(settings) + auxiliary
    return inputs * num_members * data.num_classes * np.dtype(settings.dtype).itemsize


def _record_one(ensemble: Ensemble, inputs: np.ndarray, views: Views, view: int, dtype: str, path: Path) -> None:
    shape = (len(inputs), ensemble.num_members, ensemble.num_classes)
    limit = float(np.finfo(dtype).max)

    def write(temporary: Path) -> None:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        for start in range(0, len(inputs), 1000):
            rows = np.arange(start, min(start + 1000, len(inputs)))
            batch = inputs[rows]
            if view != CLEAN:
                batch = views.apply(tf.constant(batch), tf.constant(views.of(view, rows))).numpy()
            out[rows] = np.clip(ensemble.predict_logits(batch), -limit, limit)
        out.flush()
        del out

    workdir.write_atomically(path, write)


def _logits_path(folder: Path, view: int) -> Path:
    return folder / ("clean.npy" if view == CLEAN else f"view_{view:02d}.npy")


def open_set(folder: Path, views: list[int]) -> TransferSet:
    """Opens what `record` wrote, memory-mapped."""
    auxiliary = folder / "auxiliary.npy"
    return TransferSet(
        logits={view: np.load(_logits_path(folder, view), mmap_mode="r") for view in views},
        auxiliary=np.load(auxiliary, mmap_mode="r") if auxiliary.is_file() else None,
        cache=folder / ".statistics",
    )


def record_in_memory(ensemble: Ensemble, examples: Examples, auxiliary: Examples | None) -> TransferSet:
    """Returns the members' logits on clean inputs without writing them."""
    return TransferSet(
        logits={CLEAN: ensemble.predict_logits(examples.inputs)},
        auxiliary=None if auxiliary is None else ensemble.predict_logits(auxiliary.inputs),
    )
