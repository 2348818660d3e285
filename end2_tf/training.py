"""Trains one Keras model: members and students alike.

Knows no data set and no loss by name. A training that was killed goes on from its last checkpoint and, with
deterministic operations, ends in the same weights as one that wasn't.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import config, distribution, interrupts, schedules
from end2_tf.checkpoint import Checkpoint
from end2_tf.data.pipeline import Batches
from end2_tf.errors import TrainingError
from end2_tf.interrupts import Terminated
from end2_tf.loop import Loop, Teach

COLUMNS = ("epoch", "loss", "learning_rate", "temperature", "alpha0", "validation_error", "validation_nll")


@keras.saving.register_keras_serializable("end2_tf")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """`end2_tf.schedules.learning_rate` as Keras wants it: a table over the steps, looked up in the graph.

    Args:
        schedule, base, cycle, floor: See there.
        num_steps: Length of the training.
    """

    def __init__(self, schedule: str, base: float, num_steps: int, cycle: float, floor: float = 0.0):
        self.schedule, self.base, self.num_steps, self.cycle, self.floor = schedule, base, num_steps, cycle, floor
        steps = np.arange(num_steps)
        self._table = np.asarray(schedules.learning_rate(schedule, base, steps, num_steps, cycle, floor), np.float32)

    def __call__(self, step: Any) -> Any:
        position = tf.clip_by_value(tf.cast(step, tf.int32), 0, self.num_steps - 1)
        return tf.gather(tf.constant(self._table), position)

    def get_config(self) -> dict[str, Any]:
        names = ("schedule", "base", "num_steps", "cycle", "floor")
        return {name: getattr(self, name) for name in names}


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Networks built inside compute in bfloat16 with float32 weights if `mixed`, else in float32.

    A mixed network is only for training: its twin, built in float32, takes over its weights and is what is saved.
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if mixed else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@functools.cache
def has_bfloat16() -> bool:
    """Returns whether this machine computes in bfloat16 about as fast as in float32, or faster.

    NVIDIA's GPUs have units for it from compute capability 8.0. For processors it is measured, on the weights' gradient
    of a small convolution, in some 50 ms. Those without bfloat16 units emulate it, and that gradient then takes about
    12 times as long.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= (8, 0)

    def seconds(dtype: str) -> float:
        images = tf.cast(tf.random.stateless_normal((16, 16, 16, 16), (0, 0)), dtype)
        gradient = tf.cast(tf.random.stateless_normal((16, 16, 16, 32), (0, 1)), dtype)
        times = []
        for _ in range(4):  # the first one also sets things up
            started = time.perf_counter()
            tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=(3, 3, 16, 32),
                out_backprop=gradient,
                strides=(1, 1, 1, 1),
                padding="SAME",
            ).numpy()
            times.append(time.perf_counter() - started)
        return min(times)

    return seconds("bfloat16") < 2 * seconds("float32")


def optimizer(
    settings: config.Optimizer, num_steps: int, weights: Iterable[keras.Variable] = ()
) -> keras.optimizers.Optimizer:
    """Returns the optimiser with the schedule over `num_steps` steps; weight decay spares biases and normalisation.

    It knows them by name, and those of `weights`, one network's, by their one axis: scales of residual branches have
    no name in Keras. Weights are averaged over a tenth of the training at most, else the first ones would weigh too
    much. Gradients are clipped by whoever adds them up, see `loop.Loop`.
    """
    common: dict[str, Any] = {
        "learning_rate": LearningRate(
            settings.schedule, settings.learning_rate, num_steps, settings.cycle, settings.floor
        ),
        "weight_decay": settings.weight_decay or None,
        "use_ema": settings.average > 0,
        "ema_momentum": min(settings.average, max(0.0, 1 - 10 / num_steps)),
    }
    if settings.name == "sgd":
        made = keras.optimizers.SGD(momentum=settings.momentum, **common)
    else:
        made = keras.optimizers.Adam(**common)
    if settings.weight_decay:
        vectors = [weight for weight in weights if len(weight.shape) < 2]
        made.exclude_from_weight_decay(var_list=vectors, var_names=["bias", "gamma", "beta"])
    return made


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Gives a model in training its averaged weights for a while, where its optimiser averages them."""
    own = [np.asarray(v) for v in model.trainable_variables] if model.optimizer.use_ema else []
    try:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        yield
    finally:
        with interrupts.deferred():
            for variable, value in zip(model.trainable_variables, own, strict=False):
                variable.assign(value)


@dataclasses.dataclass(frozen=True)
class Temperature:
    """The temperature of each epoch: the schedule at the epoch's first step, on its grid of levels."""

    method: config.Method
    epochs: int

    @property
    def levels(self) -> np.ndarray:
        if self.method.temperature_schedule == "constant":
            return np.asarray([self.method.temperature])
        return schedules.temperature_levels(self.method.temperature, self.method.temperature_levels)

    def level(self, epoch: int) -> int:
        """Returns the index into `levels`."""
        method = self.method
        if method.temperature_schedule == "constant":
            return 0
        value = schedules.temperature("anneal", method.temperature, epoch, self.epochs, method.temperature_cycle)
        return int(schedules.level_of(value, self.levels))

    def __call__(self, epoch: int) -> float:
        return float(self.levels[self.level(epoch)])


Validate = Callable[[keras.Model], dict[str, float]]
"""Returns validation_error, validation_nll and, for a Dirichlet, alpha0."""

Progress = Callable[[int, int, dict[str, float]], None]
"""(epochs done, epochs, last row of the history); called after each epoch."""


def fit(
    model: keras.Model,
    loss: keras.losses.Loss,
    batches: Batches,
    *,
    epochs: int,
    settings: config.Optimizer,
    seed: int,
    teach: Teach | None = None,
    checkpoint: Path | None = None,
    temperature: Temperature | None = None,
    validate: Validate | None = None,
    tensorboard: Path | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Trains `model` in place, under the `tf.distribute` strategy in whose scope it was made and this is called.

    Args:
        model: From raw inputs to logits.
        loss: Of (targets, logits).
        batches: What to show.
        epochs: Length of the training.
        settings: Optimiser.
        seed: Of dropout; the data's seed is in `batches`.
        teach: See `loop.Loop`.
        checkpoint: Where to keep the state of an unfinished training; removed by the caller when its result is safe.
        temperature: Of each epoch, given to `loss.temperature`.
        validate: Called about 50 times over the training, for the history.
        tensorboard: Folder for TensorBoard's scalars.
        callbacks: More Keras callbacks; of those of batches, they get the last of each call of the graph.
        progress: Called with (epochs done, epochs, last row) after each epoch.

    Returns:
        One row an epoch with the keys of `COLUMNS`; NaN where a column wasn't measured.

    Raises:
        TrainingError: the loss is no longer finite; the last good checkpoint is kept.
        End2Error: what reading or making a batch raised; the same.
    """
    num_steps = batches.steps_per_epoch * epochs
    # Compiled for callbacks, which look for optimiser and loss there; the loop makes the steps.
    model.compile(optimizer=optimizer(settings, num_steps, model.trainable_variables), loss=loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]
    is_chief = distribution.is_chief()
    state = _State(Checkpoint(checkpoint, variables, is_read_only=not is_chief))
    if len(state.rows) < epochs:
        history = _History(state, epochs, temperature, validate if is_chief else None, seed, progress)
        scalars = [_Scalars(tensorboard, state)] if tensorboard and is_chief else []
        every = keras.callbacks.CallbackList(
            [history, *scalars, *(callbacks or [])], model=model, epochs=epochs, steps=batches.steps_per_epoch
        )
        loop = Loop(model, loss, clip_norm=settings.clip_norm, teach=teach)
        try:
            _train(loop, batches, state, every, epochs)
        except (KeyboardInterrupt, Terminated):
            if state.is_whole:
                state.save()
            raise
        except tf.errors.OpError:
            if batches.failure is None:
                raise
            raise batches.failure from None
    model.optimizer.finalize_variable_values(model.trainable_variables)  # a checkpoint's own aren't averaged
    if not all(np.isfinite(np.asarray(w)).all() for w in model.trainable_variables):
        raise TrainingError(
            "the weights aren't finite any more. Try a smaller learning rate, or optimizer.clip_norm=10."
        )
    _forget_training(model)
    return state.rows


def _train(loop: Loop, batches: Batches, state: _State, callbacks: keras.callbacks.CallbackList, epochs: int) -> None:
    """Makes the steps from the state's on, and tells the callbacks."""
    length = batches.steps_per_epoch
    calls = loop.run(batches, state.step, epochs * length)
    callbacks.on_train_begin()
    while (epoch := len(state.rows)) < epochs:
        if state.step == epoch * length:
            callbacks.on_epoch_begin(epoch)
        while state.step < (epoch + 1) * length:  # a state may be that of an epoch's last step
            with interrupts.deferred():  # between steps and their count
                state.is_whole = False
                losses = next(calls)
                _check_finite(losses, batches, state)
                state.count(losses)
            callbacks.on_train_batch_end(state.step - epoch * length - 1, {"loss": state.loss})
            if state.step < (epoch + 1) * length:  # else the end of the epoch does
                state.save_now_and_then()
        callbacks.on_epoch_end(epoch, {"loss": state.loss})
    callbacks.on_train_end()


def _check_finite(losses: np.ndarray, batches: Batches, state: _State) -> None:
    bad = np.flatnonzero(~np.isfinite(losses[:, 0]))
    if not len(bad):
        return
    step = state.step + int(bad[0])
    epoch = step // batches.steps_per_epoch
    path = state.checkpoint.path
    kept = f" The last good state is in {path}." if path is not None and path.is_file() else ""
    raise TrainingError(
        f"the loss is {losses[bad[0], 0]} at step {step + 1}, in epoch {epoch + 1}, on batch "
        f"{batches.digest(step)}. Try a smaller learning rate, or clip gradients with optimizer.clip_norm=10.{kept}"
    )


class _State:
    """Where a training is: its steps, the sums of this epoch's losses, the rows of the epochs before, the variables."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.is_whole = True  # whether the variables are those after `step`
        self.step, self._sums, self.rows = 0, np.zeros(2), list[dict[str, float]]()
        found = checkpoint.restore("step", "sums", "rows")
        if found is not None:
            self.step, self._sums = int(found["step"]), found["sums"]
            self.rows = [dict(zip(COLUMNS, map(float, row), strict=True)) for row in found["rows"]]

    @property
    def loss(self) -> float:
        """The mean loss of the epoch's examples so far."""
        return float(self._sums[0] / self._sums[1])

    def count(self, losses: np.ndarray) -> None:
        self._sums = self._sums + losses.sum(0)
        self.step += len(losses)
        self.is_whole = True

    def end_epoch(self, row: dict[str, float]) -> None:
        with interrupts.deferred():
            self.rows.append(row)
            self._sums = np.zeros(2)

    def save(self) -> None:
        with interrupts.deferred():
            rows = np.asarray([[row[c] for c in COLUMNS] for row in self.rows], np.float64)
            self.checkpoint.save(step=np.asarray(self.step), sums=self._sums, rows=rows.reshape(-1, len(COLUMNS)))

    def save_now_and_then(self) -> None:
        if self.checkpoint.is_due:
            self.save()


def _forget_training(model: keras.Model) -> None:
    """Takes the optimiser and the loss off a model, so that saving it saves the network alone."""
    model.optimizer = None
    model.compiled = False


class _History(keras.callbacks.Callback):
    """Sets what depends on the epoch, and notes what came of it."""

    def __init__(self, state, epochs, temperature, validate, seed, progress):
        super().__init__()
        self.state, self.epochs = state, epochs
        self.temperature, self.validate, self.seed, self.progress = temperature, validate, seed, progress
        self.every = max(1, epochs // 50)

    def on_train_begin(self, logs=None):
        self._set_temperature(len(self.state.rows))  # also in the middle of an epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._set_temperature(epoch)
        for number, generator in enumerate(_seed_generators(self.model)):
            generator.state.assign(np.random.SeedSequence([self.seed, number, epoch]).generate_state(2))

    def _set_temperature(self, epoch):
        if self.temperature is not None:
            self.model.loss.temperature.assign(self.temperature(epoch))

    def on_epoch_end(self, epoch, logs=None):
        row = dict.fromkeys(COLUMNS, math.nan)
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        row |= {"epoch": float(epoch + 1), "loss": self.state.loss, "learning_rate": rate}
        row["temperature"] = self.temperature(epoch) if self.temperature is not None else 1.0
        last = epoch + 1 == self.epochs
        if self.validate is not None and (last or (epoch + 1) % self.every == 0):
            with averaged(self.model):
                row |= self.validate(self.model)
            if math.isnan(row["validation_nll"]):
                raise TrainingError(
                    f"the network's outputs aren't finite any more after epoch {epoch + 1}. Try a smaller learning "
                    "rate, or clip gradients with optimizer.clip_norm=10."
                )
        self.state.end_epoch(row)
        if last or self.state.checkpoint.is_due:
            self.state.save()
        if self.progress is not None:
            self.progress(epoch + 1, self.epochs, row)


class _Scalars(keras.callbacks.Callback):
    """Writes the columns of `history.csv` for TensorBoard by their names; Keras' own callback adds `epoch_` to them."""

    def __init__(self, folder, state):
        super().__init__()
        self.folder, self.state = folder, state

    def on_train_begin(self, logs=None):
        self.writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, epoch, logs=None):
        with self.writer.as_default(step=epoch + 1):
            for name, value in self.state.rows[-1].items():
                if name != "epoch" and math.isfinite(value):
                    tf.summary.scalar(name, value)

    def on_train_end(self, logs=None):
        self.writer.close()


def _seed_generators(model: keras.Model) -> list[Any]:
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    return [layer.seed_generator for layer in layers if getattr(layer, "seed_generator", None) is not None]


def mean_history(histories: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Returns the mean over several trainings of each column that was measured, an epoch a row."""
    rows = []
    for epoch in zip(*histories, strict=True):
        present = [c for c in COLUMNS if all(c in row for row in epoch)]
        rows.append(dict.fromkeys(COLUMNS, math.nan) | {c: float(np.mean([row[c] for row in epoch])) for c in present})
    return rows


def history_csv(rows: list[dict[str, float]]) -> str:
    """Returns the history as CSV with the columns `COLUMNS`; empty where nothing was measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            ["" if math.isnan(row[c]) else (int(row[c]) if c == "epoch" else f"{row[c]:.6g}") for c in COLUMNS]
        )
    return text.getvalue()
