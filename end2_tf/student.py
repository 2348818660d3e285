"""Trains a student: any backbone, any loss in end2_tf/losses/, any data set."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from end2_tf import config, registry, training
from end2_tf import options as option_values
from end2_tf.data import checks, shards
from end2_tf.data.examples import Examples
from end2_tf.data.pipeline import Batches, Order, Targets, label_rows, label_targets
from end2_tf.data.views import Views
from end2_tf.ensemble import Ensemble
from end2_tf.ensemble.ensemble import NORMALISING, check_network, closing_activation
from end2_tf.errors import ConfigError, DataError, ModelError, ShapeError, WorkdirError
from end2_tf.heads import Head, SoftmaxHead
from end2_tf.loop import Teach
from end2_tf.losses import DistillationLoss
from end2_tf.models import UncertaintyClassifier
from end2_tf.reading import keras_files
from end2_tf.transfer import Recording, Report, TransferSet, make_views, record_in_memory


def build_loss(method: config.Method, num_members: int, field: str = "methods") -> keras.losses.Loss:
    """Returns a method's loss; temperature, offset and the number of members are given to those that take them.

    Args:
        method: Its values.
        num_members: How many members the student learns from.
        field: Where the method stands in the config, for messages.

    Raises:
        ConfigError: an option that the loss doesn't take, or a value that it refuses.
    """
    module, class_name = registry.module("loss", method.loss, f"{field}.loss"), registry.class_name(method.loss)
    loss_class = getattr(module, class_name, None)
    if loss_class is None:
        raise ConfigError(
            f"{field}.loss is {method.loss!r}, but end2_tf/losses/{method.loss}.py has no class {class_name}. Call its "
            "class that."
        )
    for key in ("temperature", "offset"):
        if key in method.loss_options:
            raise ConfigError(
                f"{field}.loss_options has {key!r}, which is the method's own. Set {field}.{key} instead."
            )
    known = {"temperature": method.temperature, "offset": method.offset, "num_members": num_members}
    given: dict[str, Any] = {k: v for k, v in known.items() if k in inspect.signature(loss_class).parameters}
    options = option_values.check(
        loss_class.__init__,
        method.loss_options,
        f"{field}.loss_options",
        f"the loss {method.loss!r}",
        reserved=("targets", *known),
    )
    if not issubclass(loss_class, DistillationLoss):
        if method.offset and "offset" not in given:
            raise ConfigError(
                f"{field}.offset is {method.offset:g}, but its loss {method.loss!r} has no alphas. Set it to 0."
            )
        return loss_class(**options, **given)
    if method.labels and not loss_class.has_mean:
        raise ConfigError(
            f"{field}.labels is {method.labels:g}, but the loss {method.loss!r} has no mean among its targets that a "
            f"label could be part of. Set {field}.labels=0, or another loss."
        )
    loss = loss_class(**options, **given, targets="statistics")
    ends_tempered = method.temperature_schedule == "constant" and method.temperature != 1
    if ends_tempered and loss.tempers_alphas:
        raise ConfigError(
            f"{field}.temperature is {method.temperature:g} throughout, so the student would learn alphas of logits / "
            f"{method.temperature:g} and be used without that division. Set {field}.temperature_schedule=anneal, or "
            f"{field}.temperature=1."
        )
    return loss


def check_loss(loss: keras.losses.Loss, num_members: int, num_classes: int) -> None:
    """Tries a loss on two examples.

    Raises:
        ModelError: the shapes of its statistics or values aren't what `DistillationLoss` says.
    """
    if not isinstance(loss, DistillationLoss):
        return
    name = type(loss).__name__
    said = np.linspace(-1, 1, 2 * num_members * num_classes).reshape(2, num_members, num_classes)
    statistics = loss.reduce_members(said, 1.0)
    size = loss.statistics_size(num_classes)
    if tuple(statistics.shape) != (2, size):
        raise ModelError(
            f"{name}.reduce_log_probs returns shape {tuple(statistics.shape)} for 2 examples, but statistics_size says "
            f"(2, {size}). Make them agree."
        )
    outputs = np.linspace(-1, 1, 2 * head_of(loss).num_outputs(num_classes)).reshape(2, -1)
    values = loss.from_statistics(tf.cast(statistics, tf.float32), tf.constant(outputs), 1.0)
    if tuple(values.shape) != (2,):
        raise ModelError(
            f"{name}.from_statistics returns shape {tuple(values.shape)} for 2 examples. Allowed: (2,), the loss of "
            "each example. Sum over the last axis, and over no other."
        )


def check_annealing(loss: keras.losses.Loss, method: config.Method, epochs: int, field: str = "methods") -> None:
    """Raises ConfigError where a Dirichlet's temperature hasn't come down to 1 by the last epoch."""
    if not (isinstance(loss, DistillationLoss) and loss.tempers_alphas):
        return
    last = training.Temperature(method, epochs)(epochs - 1)
    if last != 1:
        raise ConfigError(
            f"{field}.temperature {method.temperature:g} is annealed over {method.temperature_cycle:.2g} of "
            f"{epochs} epoch{'' if epochs == 1 else 's'} and is still {last:.3g} in the last, so the student would "
            f"learn alphas of logits / {last:.3g}. Train more epochs, or set a smaller {field}.temperature_cycle, or "
            f"{field}.temperature=1."
        )


def head_of(loss: keras.losses.Loss, dtype: Any = None) -> Head:
    """Returns the head that a network trained with this loss is published with: a softmax, unless it names another."""
    return loss.make_head(dtype) if hasattr(loss, "make_head") else SoftmaxHead(dtype=dtype)


def validator(examples: Examples, loss: keras.losses.Loss, batch_size: int = 1000) -> training.Validate:
    """Returns a function that measures a network's raw outputs on held-out examples, for the training's history."""
    labels, head = np.asarray(examples.labels), head_of(loss, "float64")
    latest: list[Any] = [None, None]  # a model and its graph; one at a time, so that earlier members can go

    def validate(model: keras.Model) -> dict[str, float]:
        if latest[0] is not model:

            def ask(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
                outputs = head(tf.cast(model(inputs, training=False), tf.float64))
                alphas = {"alpha0": tf.reduce_sum(outputs["alphas"], axis=-1)} if "alphas" in outputs else {}
                return {"log_probs": head.log_probs(outputs), **alphas}

            latest[:] = [model, tf.function(ask, reduce_retracing=True)]
        chunks = range(0, len(labels), batch_size)
        call = latest[1]
        parts = [call(tf.cast(examples.inputs[i : i + batch_size], tf.float32)) for i in chunks]
        found = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
        log_probs = found["log_probs"]
        # Until the temperature has come down to 1, exp(logits) is no precision.
        is_annealed = float(np.asarray(getattr(loss, "temperature", 1.0))) == 1.0
        return {
            "validation_error": float(np.mean(log_probs.argmax(1) != labels)),
            "validation_nll": float(-np.mean(log_probs[np.arange(len(labels)), labels])),
            "alpha0": float(np.exp(np.mean(np.log(found["alpha0"])))) if "alpha0" in found and is_annealed else np.nan,
        }

    return validate


def train(
    backbone: keras.Model,
    loss: keras.losses.Loss,
    method: config.Method,
    settings: config.Student,
    examples: Examples,
    *,
    seed: int,
    view_seed: int,
    transfer: config.Transfer,
    auxiliary: Examples | None = None,
    transfer_set: TransferSet | None = None,
    places: tuple[tuple[Path, int | None], ...] = (),
    ensemble: Ensemble | None = None,
    validation: Examples | None = None,
    checkpoint: Path | None = None,
    tensorboard: Path | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    report: Report = lambda *args: None,
    field: str = "methods",
) -> tuple[UncertaintyClassifier, list[dict[str, float]]]:
    """Trains one student and gives it its head.

    Args:
        backbone: Freshly made model from raw inputs to as many outputs as the loss's head needs; trained in place.
        loss: What `build_loss` makes of the method.
        method: Temperature, whether auxiliary inputs are used.
        settings: Epochs, batch size, optimiser.
        examples: In-domain inputs; labels are used by losses on labels, and where `method.labels` isn't 0.
        seed: Of the order of data and dropout.
        view_seed: Of the augmentation; the transfer set's own, where its views were recorded.
        transfer: Mode, augmentation, share of auxiliary inputs.
        auxiliary: Inputs without labels.
        transfer_set: Recorded logits (every mode but online).
        places: Where views may have been kept, see `transfer.make_views`.
        ensemble: The members (online mode).
        validation: For the history.
        checkpoint: Where to keep the state of an unfinished training.
        tensorboard: Folder for scalars.
        callbacks: More Keras callbacks.
        report: Called with progress.
        field: Where the method stands in the config, for messages.

    Returns:
        The published model, and the history with the columns of `training.COLUMNS`.
    """
    epochs = settings.epochs_of(method)
    check_annealing(loss, method, epochs, field)
    use = auxiliary if method.auxiliary else None
    order = Order(
        len(examples),
        settings.batch_size,
        seed,
        num_auxiliary=0 if use is None else len(use),
        auxiliary_share=transfer.auxiliary_share,
        rows=_rows_of(examples, None if transfer_set is None else transfer_set.train),
        auxiliary_rows=_rows_of(use, None if transfer_set is None else transfer_set.auxiliary),
    )
    # Where members were recorded on clean inputs and the student sees augmented ones, that is the paper's way.
    views, auxiliary_views = make_views(
        transfer, examples.inputs, None if use is None else use.inputs, view_seed, *places
    )
    lesson = _lesson(loss, method, epochs, examples, views, transfer, transfer_set, ensemble, backbone)
    validate = validator(validation, loss) if validation is not None else None
    network = loss.training_network(backbone) if hasattr(loss, "training_network") else backbone
    history = training.fit(
        network,
        loss,
        Batches(views, order, lesson.targets, auxiliary=auxiliary_views, num_views=lesson.num_views),
        teach=lesson.teach,
        epochs=epochs,
        settings=method.optimizer or settings.optimizer,
        seed=seed,
        checkpoint=checkpoint,
        temperature=lesson.temperature,
        validate=None if validate is None else lambda _: validate(backbone),
        tensorboard=tensorboard,
        callbacks=callbacks,
        progress=lambda epoch, epochs, row: report("training", epoch, epochs, row),
    )
    return UncertaintyClassifier(backbone, head_of(loss)), history


def _rows_of(examples: Examples | None, recording: Recording | None) -> int | None:
    """Returns how many examples a shard has, of the inputs or of what was recorded on them."""
    of_inputs = None if examples is None else shards.rows_in(examples.inputs)
    return of_inputs if of_inputs is not None or recording is None else recording.rows


@dataclasses.dataclass(frozen=True)
class _Lesson:
    """Where a student's targets come from: labels, a transfer set, or members asked during training."""

    targets: Targets
    temperature: training.Temperature | None = None
    num_views: int | None = None
    teach: Teach | None = None


def _lesson(loss, method, epochs, examples, views, transfer, transfer_set, ensemble, backbone) -> _Lesson:
    if not isinstance(loss, DistillationLoss):
        num_views = transfer.num_views if transfer.mode == "views" else None
        num_classes = head_of(loss).num_classes(backbone.output_shape[-1])
        return _Lesson(label_targets(np.asarray(examples.labels), views, num_classes), None, num_views)
    temperature = training.Temperature(method, epochs)
    if transfer.mode == "online":
        if ensemble is None:
            raise ConfigError(
                "transfer.mode is 'online', but no ensemble was given. Give one, or set transfer.mode=clean."
            )
        _check_outputs(backbone, loss, ensemble.num_classes)
        return _online_lesson(loss, temperature, epochs, ensemble)
    if transfer_set is None:
        raise ConfigError(f"transfer.mode is {transfer.mode!r}, but no transfer set was given. Record one first.")
    num_classes = transfer_set.train.num_classes
    _check_outputs(backbone, loss, num_classes)
    look_up = transfer_set.statistics(loss, temperature.levels, with_auxiliary=method.auxiliary)

    def of_members(epoch: int, view: int, ids: np.ndarray) -> np.ndarray:
        return look_up(temperature.level(epoch), view, ids)

    targets: Targets = of_members
    if method.labels:
        targets = _with_labels(of_members, method.labels, np.asarray(examples.labels), views, num_classes)
    return _Lesson(targets, temperature, transfer.num_views if transfer.mode == "views" else None)


def _with_labels(of_members: Targets, share: float, labels: np.ndarray, views: Views, num_classes: int) -> Targets:
    """Returns targets whose mean prediction is (1 - share) the members' and share the label's; auxiliary inputs' as is.

    In cross-entropy that is Hinton, Vinyals & Dean's sum of a distillation term and a term on labels.
    """
    of_labels = label_rows(labels, views, num_classes)

    def targets(epoch: int, view: int, ids: np.ndarray) -> np.ndarray:
        rows = np.array(of_members(epoch, view, ids))
        inside = np.flatnonzero(ids < len(labels))
        rows[inside, :num_classes] *= 1 - share
        rows[inside, :num_classes] += share * of_labels(epoch, view, ids[inside])
        return rows

    return targets


def _online_lesson(
    loss: DistillationLoss, temperature: training.Temperature, epochs: int, ensemble: Ensemble
) -> _Lesson:
    """Members say in the graph, batch by batch, what they think of the very input that the student sees."""
    values = tf.constant([temperature(epoch) for epoch in range(epochs)], tf.float64)

    def ask(inputs: tf.Tensor, _: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        return tf.cast(loss.reduce_members(ensemble.logits(inputs), values[epoch]), tf.float32)

    # Nobody reads these targets, but tf.data crashes on arrays without any bytes.
    return _Lesson(lambda epoch, view, ids: np.zeros(len(ids), np.float32), temperature, None, ask)


def _check_outputs(backbone: keras.Model, loss: keras.losses.Loss, num_classes: int) -> None:
    got, wanted = backbone.output_shape[-1], head_of(loss).num_outputs(num_classes)
    if got != wanted:
        needed = "" if wanted == num_classes else f", for which {type(loss).__name__} needs {wanted} outputs"
        raise ModelError(
            f"the student has {got} outputs, but the members know {num_classes} classes{needed}. Give it {wanted}."
        )


def distil(
    members: Ensemble | list[keras.Model],
    student: keras.Model,
    inputs: np.ndarray,
    *,
    auxiliary: np.ndarray | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    loss: str = "mean_precision",
    epochs: int = 90,
    batch_size: int = 128,
    seed: int = 0,
    online: bool | None = None,
    augmentation: config.Augmentation | Mapping[str, Any] | None = None,
    **method: Any,
) -> UncertaintyClassifier:
    """Distils Keras models into one that keeps their mean and their disagreement.

    Args:
        members: An `Ensemble`, or Keras models from raw inputs to logits or probabilities.
        student: An untrained Keras model from the same inputs to logits (n, classes), or as many outputs as the loss's
            head needs; trained in place.
        inputs: The transfer set, (n, ...); labels aren't needed.
        auxiliary: More inputs, from outside the domain, on which the student learns where members disagree.
        validation: (inputs, labels), only for the history.
        loss: A file in end2_tf/losses/.
        epochs, batch_size, seed: Of the student's training.
        online: Ask the members during training, on the student's own augmented view, instead of once beforehand, on
            the inputs as they are. By default where there is an augmentation; with one, False teaches the members'
            answers to other inputs than the student is shown.
        augmentation: Random changes of the student's inputs: fields of `end2_tf.config.Augmentation`.
        **method: More fields of `end2_tf.config.Method`: loss_options, offset, temperature, optimizer, ….

    Returns:
        A Keras model whose `predict` returns probabilities, alphas and uncertainties.

    Raises:
        ConfigError, DataError, ModelError, ShapeError: something doesn't fit together; says what and what to do.
        TrainingError: the loss is no longer finite.

    Example:
        >>> student = end2_tf.distil(members, build(), x_train, epochs=30)
        >>> student.predict(x_test)["knowledge_uncertainty"]
    """
    how = config.build(config.Method, "method", loss=loss, auxiliary=auxiliary is not None, **method)
    settings = config.build(config.Student, "student", epochs=epochs, batch_size=batch_size)
    registry.check("loss", loss, "loss")
    if registry.is_on_labels(loss):
        raise ConfigError(f"loss is {loss!r}, which learns from labels, not from members. Use Keras' own fit for that.")
    teacher = members if isinstance(members, Ensemble) else Ensemble(members)
    if any(student is member for member in teacher.members):
        raise ModelError(f"the student ({student.name}) is one of the members. Give an untrained model of its own.")
    if teacher.num_members == 1:
        warnings.warn(
            "members is one model: nobody disagrees with it, so knowledge uncertainty will be 0.", stacklevel=2
        )
    examples = Examples(_checked_inputs(teacher, inputs, "inputs"), None)
    extra = None if auxiliary is None else Examples(_checked_inputs(teacher, auxiliary, "auxiliary inputs"), None)
    held_out = None if validation is None else _checked_validation(teacher, *validation)
    teacher.recognise_probabilities(examples.inputs[:64])
    made = build_loss(how, teacher.num_members, "method")
    check_loss(made, teacher.num_members, teacher.num_classes)
    _check_student(student, teacher, made)
    changes = _changes(augmentation)
    online = not changes.is_identity if online is None else online
    transfer = config.Transfer(mode="online" if online else "clean", augmentation=changes)
    # Before members are asked about all inputs, which may take hours.
    if transfer.augmentation.mixup and not online:
        raise ConfigError(
            f"augmentation.mixup is {transfer.augmentation.mixup:g}, but members are asked about the inputs as they "
            "are, and the student would be shown mixtures. Set online=True."
        )
    check_annealing(made, how, settings.epochs_of(how), "method")
    if how.labels:
        raise ConfigError(f"method.labels is {how.labels:g}, but the inputs have no labels. Leave it out.")
    make_views(transfer, examples.inputs, None if extra is None else extra.inputs, seed)
    keras.utils.set_random_seed(seed)
    model, _ = train(
        student,
        made,
        how,
        settings,
        examples,
        seed=seed,
        view_seed=seed,
        transfer=transfer,
        auxiliary=extra,
        transfer_set=None
        if online
        else record_in_memory(teacher, examples.inputs, None if extra is None else extra.inputs),
        ensemble=teacher,
        validation=held_out,
        field="method",
    )
    return model


def _changes(augmentation: Any) -> config.Augmentation:
    if isinstance(augmentation, config.Augmentation):
        return augmentation
    if augmentation is None or isinstance(augmentation, Mapping):
        made: config.Augmentation = config.build(config.Augmentation, "augmentation", **(augmentation or {}))
        return made
    names = ", ".join(field.name for field in dataclasses.fields(config.Augmentation))
    raise ConfigError(f"augmentation is {augmentation!r}. Allowed: values by name, of {names}.")


def _kind(value: Any) -> str:
    return f"{type(value).__name__}; its attribute inputs is one" if hasattr(value, "inputs") else type(value).__name__


def _checked_inputs(teacher: Ensemble, inputs: np.ndarray, name: str) -> np.ndarray:
    given, inputs = inputs, np.asarray(inputs)
    if inputs.dtype == object:
        raise DataError(f"{name} are no array of numbers, but {_kind(given)}. Give an array (n, ...).")
    teacher.check_inputs(inputs, name)
    if len(inputs) == 0:
        raise DataError(
            f"{name} have shape {inputs.shape}, so there is nothing to learn from. Give at least one example."
        )
    if inputs.dtype != np.uint8:
        inputs = inputs.astype(np.float32)
        checks.check_finite(inputs, name)
    return inputs


def _checked_validation(teacher: Ensemble, inputs: np.ndarray, labels: np.ndarray) -> Examples:
    labels = np.asarray(labels)
    examples = Examples(_checked_inputs(teacher, inputs, "validation inputs"), labels)
    checks.check_labels(labels, len(examples), teacher.num_classes, "validation labels")
    return examples


def _check_student(student: keras.Model, teacher: Ensemble, loss: keras.losses.Loss) -> None:
    shape, _ = check_network(student, f"the student ({student.name})")
    if shape != teacher.input_shape:
        raise ShapeError(f"the student takes inputs {shape}, the members {teacher.input_shape}. Make them equal.")
    closing = closing_activation(student)
    if closing != "linear":
        lost = " Its sum would say nothing of precision." if closing in NORMALISING else ""
        raise ModelError(
            f"the student ends in the activation {closing!r}, but it must return logits.{lost} Remove the activation."
        )
    _check_outputs(student, loss, teacher.num_classes)


def open_model(folder: Path) -> UncertaintyClassifier:
    """Opens the student that a training left in its folder.

    Raises:
        WorkdirError: the file can't be opened, or isn't a student's.
    """
    path = folder / "model.keras"
    return keras_files.load(
        path, what=str(path), error=WorkdirError, advice="Delete it and run the stage student again."
    )
