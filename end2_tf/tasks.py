"""A run's tasks, which any process can do: to train a member, some or a student, to record a part of a transfer set."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Literal

from end2_tf import checkpoint, workdir
from end2_tf.config import Experiment, Transfer
from end2_tf.errors import ConfigError, ModelError
from end2_tf.plan import Plan
from end2_tf.progress import Report
from end2_tf.workdir import Artefact, Workdir


@dataclasses.dataclass(frozen=True)
class Task:
    """Member `number` of the ensemble; or the student of `method` with seed `number`; or part `number` of a recording.

    A stack is the members from `number` to `last`, which train together. A recording's `method` is `auxiliary` where it
    is of auxiliary inputs. `variant` names the experiment where there are several, see `Trainer.of`.
    """

    kind: Literal["member", "stack", "student", "recording"]
    number: int
    method: str = ""
    variant: str = ""
    last: int | None = None

    def __str__(self) -> str:
        if self.kind == "recording":
            name = f"part {self.number} of the recording of {self.method or 'in-domain'} inputs"
        elif self.kind == "stack":
            name = f"members {self.number} to {self.last}"
        else:
            name = f"member {self.number}" if self.kind == "member" else f"student {self.method}, seed {self.number}"
        return f"{name} of {self.variant!r}" if self.variant else name


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """What members are asked about: one array of inputs in its views.

    Attributes:
        artefact: Where it is kept.
        views: Of the inputs.
        settings: What is kept of what members say.
        statistics: See `transfer.record`.
        num_bytes: How much will be written.
        method: That of its tasks.
    """

    artefact: Artefact
    views: Any
    settings: Transfer
    statistics: list[Any]
    num_bytes: int
    method: str

    def tasks(self) -> list[Task]:
        """Returns its parts."""
        from end2_tf import transfer

        return [Task("recording", i, self.method) for i in range(len(transfer.units_of(self.settings, self.views)))]

    def record(self, ensemble: Any, number: int | None = None, report: Report = lambda *args: None) -> None:
        """Asks members, about all inputs or those of one part, and writes what they say."""
        from end2_tf import transfer

        units = transfer.units_of(self.settings, self.views)
        transfer.record(
            ensemble,
            self.views,
            self.settings,
            self.artefact.path,
            statistics=self.statistics,
            units=units if number is None else [units[number]],
            report=report,
        )


class Trainer:
    """Does the tasks of one experiment in one workdir, and holds what they share: data and ensemble, opened once.

    Attributes:
        for_training: Whether its data are those of trainings alone, without OOD and shifted sets.

    Args:
        experiment: Its values.
        root: The workdir.
        data_dir: Where TFDS keeps its data; None for its default.
        download: Whether TFDS may fetch what is missing.
        deterministic: Whether results must be bit-equal.
        shared_by: See `Plan`.
    """

    for_training = True

    def __init__(
        self,
        experiment: Experiment,
        root: Workdir,
        *,
        data_dir: str | None = None,
        download: bool = False,
        deterministic: bool = False,
        shared_by: str = "",
    ):
        self.experiment, self.root = experiment, root
        self.data_dir, self.download = data_dir, download
        self.deterministic, self.shared_by = deterministic, shared_by
        self.plan = Plan(experiment, root, data_dir, deterministic, shared_by)
        self.variants: Mapping[str, Trainer] = {}  # of other experiments in this workdir, for tasks that name them
        self.strategy: Any = None  # of `distribution`, under which networks are made and trained; None: one device

    def of(self, task: Task) -> Trainer:
        """Returns the trainer of a task's experiment."""
        return self.variants[task.variant] if task.variant else self

    def borrow(self, other: Trainer) -> None:
        """Takes over the data and the ensemble that another trainer has open, where they are this one's too."""
        mine, theirs = self.experiment, other.experiment
        if "prints" in vars(other.plan) and mine.data == theirs.data:
            self.plan.prints = other.plan.prints
        if "data" in vars(other) and (mine.data, mine.seed) == (theirs.data, theirs.seed):
            self.data = other.data
        if "ensemble" in vars(other) and self.plan.ensemble.digest == other.plan.ensemble.digest:
            self.ensemble = other.ensemble

    def forget(self) -> None:
        """Lets go of data and ensemble; they are opened again when they are needed."""
        for name in ("data", "_divided", "ensemble"):
            vars(self).pop(name, None)

    @functools.cached_property
    def data(self) -> Any:
        from end2_tf.data import dataset

        return dataset.load(
            self.experiment.data,
            data_dir=self.data_dir,
            download=self.download,
            seed=self.experiment.seed,
            places=self.plan.places,
            report=self.reading,
            for_training=self.for_training,
        )

    @functools.cached_property
    def _divided(self) -> tuple[Any, Any]:
        """The training examples that members are trained on, and those held out."""
        from end2_tf.data.examples import hold_out

        return hold_out(self.data.train, self.experiment.ensemble.held_out_fraction, self.experiment.seed)

    @property
    def members_data(self) -> Any:
        """The data with those training examples alone that members are trained on."""
        if self.experiment.ensemble.held_out_fraction == 0:
            return self.data
        return dataclasses.replace(self.data, train=self._divided[0])

    @property
    def shown(self) -> Any:
        """The training examples that students of the ensemble are shown."""
        wanted = self.experiment.transfer.inputs
        return self.data.train if wanted == "all" else self._divided[wanted == "held_out"]

    @functools.cached_property
    def ensemble(self) -> Any:
        from end2_tf import ensemble
        from end2_tf.ensemble import recorded

        settings = self.experiment.ensemble
        if settings.models:
            return self._check_fits(ensemble.load(settings.models))
        if settings.predictions:
            return self._check_fits(recorded.load(os.path.expanduser(settings.predictions), self.data.input_shape))
        return ensemble.open_members(self.plan.ensemble.path, settings.num_members)

    def reading(self, what: str, done: int, of: int, figures: dict[str, float]) -> None:
        """Told how far data are read into shards."""

    @property
    def teacher(self) -> Any:
        """The members that students learn from."""
        num = self.plan.num_taught
        return self.ensemble if num is None else self.ensemble.first(num)

    @property
    def num_taught(self) -> int:
        """How many members students learn from."""
        experiment = self.experiment
        total = self.ensemble.num_members if experiment.ensemble.is_brought else experiment.ensemble.num_members
        return min(experiment.transfer.num_members or total, total)

    def loss(self, method: str) -> Any:
        """Makes a method's loss."""
        from end2_tf import student

        return student.build_loss(self.experiment.methods[method], self.num_taught, f"methods.{method}")

    def _check_fits(self, ensemble: Any) -> Any:
        data = self.data
        pattern = self.experiment.ensemble.models or self.experiment.ensemble.predictions
        if not ensemble.takes(data.input_shape):
            raise ModelError(
                f"the members of {pattern!r} take inputs of shape {ensemble.input_shape}, but the data's are "
                f"{data.input_shape}. Give the data they were trained for, or members trained for these data."
            )
        if ensemble.num_classes != data.num_classes:
            raise ModelError(
                f"the members of {pattern!r} know {ensemble.num_classes} classes, "
                f"but the data has {data.num_classes}. Give the data they were trained for."
            )
        ensemble.recognise_probabilities(data.train.inputs[:64])
        return ensemble

    def artefact(self, task: Task) -> Artefact:
        """Returns where a task's result is kept; all members share one artefact."""
        plan = self.of(task).plan
        if task.kind == "recording":
            return plan.auxiliary if task.method else plan.transfer
        return plan.ensemble if task.kind in ("member", "stack") else plan.student(task.method, task.number)

    def views(self) -> list[tuple[Artefact, Any]]:
        """Returns the recordings that the experiment's methods need, each with the views it is made on."""
        from end2_tf import transfer

        needed = {artefact.digest for artefact in self.plan.all_recordings()}
        artefacts = [self.plan.transfer, *([self.plan.auxiliary] if self.data.auxiliary is not None else [])]
        views = transfer.make_views(
            self.experiment.transfer,
            self.shown.inputs,
            None if self.data.auxiliary is None else self.data.auxiliary.inputs,
            self.experiment.seed,
            *((artefact.path, (artefact.manifest() or {}).get("rows")) for artefact in artefacts),
        )
        return [(a, v) for a, v in zip(artefacts, views, strict=False) if a.digest in needed and v is not None]

    def recordings(self) -> list[Recording]:
        """Returns the recordings that the experiment's methods need; the ensemble must be there."""
        from end2_tf import transfer

        settings, ensemble, found = self.experiment.transfer, self.ensemble, []
        for artefact, views in self.views():
            is_auxiliary = artefact is self.plan.auxiliary
            statistics = self.statistics(with_auxiliary=is_auxiliary)
            said = transfer.said_bytes(settings, ensemble.num_members, ensemble.num_classes, statistics)
            if artefact.manifest() is None:
                views.rows = transfer.shard_rows(settings, views, said)
            size = transfer.num_bytes(settings, views.augmentation, views.inputs.shape, views.inputs.dtype, said)
            method = "auxiliary" if is_auxiliary else ""
            found.append(Recording(artefact, views, settings, statistics, size, method))
        return found

    def statistics(self, *, with_auxiliary: bool) -> list[Any]:
        """Returns what this experiment's losses need of members: on auxiliary inputs, or on in-domain ones."""
        from end2_tf import training

        found = []
        for name in self.experiment.student.methods:
            method = self.experiment.methods[name]
            if self.plan.is_distilled(name) and (method.auxiliary or not with_auxiliary):
                loss = self.loss(name)
                temperature = training.Temperature(method, self.experiment.student.epochs_of(method))
                temperatures = {temperature(epoch) for epoch in range(temperature.epochs)}
                found += [(loss, each, self.plan.num_taught) for each in sorted(temperatures)]
        return found

    def train(self, task: Task, report: Report) -> None:
        """Does one task and writes its result; a training that was interrupted goes on.

        The artefact of a member or a recording must have begun, and what a student learns from must be there.

        Args:
            task: Which.
            report: Called with ("training", epochs done, epochs, last row) after each epoch.
        """
        trainer = self.of(task)
        with contextlib.nullcontext() if self.strategy is None else self.strategy.scope():
            if task.kind == "member":
                trainer._train_member(task.number, report)
            elif task.kind == "stack":
                assert task.last is not None
                trainer.train_stack(task.number, task.last, report)
            elif task.kind == "recording":
                trainer._record_part(task, report)
            else:
                trainer._train_student(dataclasses.replace(task, variant=""), report)

    def _record_part(self, task: Task, report: Report) -> None:
        (recording,) = (each for each in self.recordings() if each.method == task.method)
        recording.record(self.ensemble, task.number)
        report("recording", 1, 1, {})

    def _train_member(self, index: int, report: Report) -> None:
        from end2_tf import ensemble, student
        from end2_tf.losses import CrossEntropy

        ensemble.train_member(
            self.experiment.ensemble,
            self.members_data,
            self.plan.ensemble.path,
            index,
            seed=self.experiment.seed,
            validate=student.validator(self.data.validation, CrossEntropy()),
            progress=lambda epoch, epochs, row: report("training", epoch, epochs, row),
        )

    def train_stack(self, first: int, last: int, report: Report) -> None:
        """Trains members `first` to `last` together, but for those that are there; see `train`."""
        from end2_tf import ensemble

        ensemble.train_stack(
            self.experiment.ensemble,
            self.members_data,
            self.plan.ensemble.path,
            range(first, last + 1),
            seed=self.experiment.seed,
            deterministic=self.deterministic,
            progress=lambda epoch, epochs, row: report("training", epoch, epochs, row),
        )

    def _train_student(self, task: Task, report: Report) -> None:
        from end2_tf import distribution, models, student, training, transfer
        from end2_tf.ensemble import architecture, seed_of

        experiment, data = self.experiment, self.data
        method, settings = experiment.methods[task.method], experiment.student
        artefact, field = self.artefact(task), f"methods.{task.method}"
        unfinished = artefact.path / ".checkpoint.npz"
        transfer_set = teacher = None
        if self.plan.is_distilled(task.method):
            if experiment.transfer.mode == "online":
                teacher = self.teacher
            else:
                transfer_set = transfer.TransferSet(
                    *(
                        transfer.open_recording(a.path, a.manifest() or {}, self.plan.num_taught)
                        for a in self.plan.recordings(task.method)
                    )
                )
        shown, recordings = experiment.transfer, self.plan.recordings(task.method)
        places = tuple((each.path, (each.manifest() or {}).get("rows")) for each in recordings)
        if not self.plan.is_distilled(task.method):
            shown = Transfer(
                augmentation=self.plan.label_augmentation(task.method),
                auxiliary_share=experiment.transfer.auxiliary_share,
            )
        is_chief = distribution.is_chief()
        if is_chief:
            artefact.begin()
        seed = seed_of(experiment.seed, 1_000_000 + task.number)  # members count from 0
        backbone = self._seeded_backbone(task.method, seed)
        mixed = settings.mixed_precision and training.has_bfloat16()
        network = self._seeded_backbone(task.method, seed, mixed=True) if mixed else backbone
        if settings.start == "member":
            network.set_weights(self.teacher.member(task.number % self.num_taught).get_weights())
        loss = self.loss(task.method)
        model, history = student.train(
            network,
            loss,
            method,
            settings,
            self.shown if self.plan.is_distilled(task.method) else data.train,
            seed=seed,
            view_seed=experiment.seed if self.plan.is_distilled(task.method) else seed,  # a transfer set has its own
            transfer=shown,
            auxiliary=data.auxiliary,
            transfer_set=transfer_set,
            places=places,
            ensemble=teacher,
            validation=data.validation,
            checkpoint=unfinished,
            tensorboard=artefact.path / "tensorboard" / f"{task.method}_seed_{task.number}",  # TensorBoard's name
            report=report,
            field=field,
        )
        if not is_chief:
            return
        if network is not backbone:
            backbone.set_weights(network.get_weights())
            model = models.UncertaintyClassifier(backbone, student.head_of(loss))
        workdir.write_atomically(artefact.path / "model.keras", lambda path: model.save(path))
        workdir.write_text(artefact.path / "history.csv", training.history_csv(history))
        artefact.finish(
            method=task.method,
            seed=task.number,
            seconds=checkpoint.seconds_spent(unfinished),
            weights=workdir.weights_digest(model.get_weights(), architecture(model.backbone)),
        )
        unfinished.unlink(missing_ok=True)

    def _seeded_backbone(self, method: str, seed: int, *, mixed: bool = False) -> Any:
        import keras

        if self.experiment.ensemble.is_brought:
            _ = self.ensemble  # opening it draws random numbers, which mustn't come between the seed and the network
        keras.utils.set_random_seed(seed)
        return self.student_backbone(method, mixed=mixed)

    @functools.cached_property
    def _member_shapes(self) -> list[tuple[int, ...]]:
        from end2_tf import ensemble

        settings = self.experiment.ensemble
        member = self.ensemble.member(0) if settings.models else ensemble.build_member(settings, self.data, 0)
        return [tuple(w.shape) for w in member.weights]

    def check_start(self, method: str, backbone: Any) -> None:
        """Raises ConfigError where `student.start` is `member` and a method's student can't take a member's weights.

        Args:
            method: Whose students.
            backbone: What `student_backbone` makes of it.
        """
        if self.experiment.student.start == "random":
            return
        own, theirs = [tuple(w.shape) for w in backbone.weights], self._member_shapes
        if own != theirs:
            raise ConfigError(
                f"student.start is 'member', but the student of methods.{method} has other weights than a member: "
                f"{_first_difference(own, theirs)}. Allowed: the members' backbone with as many units and outputs. Set "
                f"student.start=random, or leave {method!r} out."
            )

    def student_backbone(self, method: str, *, mixed: bool = False) -> Any:
        """Makes the untrained network of a method's student, or its twin that computes in bfloat16."""
        from end2_tf import backbones, ensemble, training
        from end2_tf import student as students

        settings, teacher = self.experiment.student, self.experiment.ensemble
        num_classes = self.data.num_classes
        own = self.experiment.methods[method].options
        if settings.backbone is None and teacher.models:
            if own:
                raise ConfigError(
                    f"methods.{method}.options is {own}, but the student copies your members' layers, which take none. "
                    "Name a student.backbone, or leave it out."
                )
            num_outputs = students.head_of(self.loss(method)).num_outputs(num_classes)
            if num_outputs != num_classes:
                raise ConfigError(
                    f"methods.{method}.loss needs a student of {num_outputs} outputs, but the student copies your "
                    f"members' layers, which give {num_classes}. Name a student.backbone, or leave {method!r} out."
                )
            if settings.mixed_precision:
                raise ConfigError(
                    "student.mixed_precision is true, but the student copies your members' layers, which have a "
                    "precision of their own. Name a student.backbone, or set student.mixed_precision=false."
                )
            student = ensemble.fresh_copy(self.ensemble.member(0))
            closing = ensemble.closing_activation(student)
            if closing != "linear" or self.ensemble.closes_unseen:
                raise ModelError(
                    f"a student can't be copied from the members of {teacher.models!r}: their softmax isn't the "
                    "activation of their last layer. Name a student.backbone."
                )
            return student
        num_outputs = students.head_of(self.loss(method)).num_outputs(num_classes)
        mean, std = self.data.normalisation()
        same = settings.backbone in (None, teacher.backbone)
        options = settings.options if settings.options is not None else (teacher.options if same else {})
        with training.precision(mixed):
            return backbones.build(
                settings.backbone or teacher.backbone,
                options | own,
                input_shape=self.data.input_shape,
                num_classes=num_outputs,
                mean=mean,
                std=std,
                field=f"methods.{method}.backbone" if own else "student.backbone",
            )


def _first_difference(own: list[tuple[int, ...]], theirs: list[tuple[int, ...]]) -> str:
    for one, other in zip(own, theirs, strict=False):
        if one != other:
            return f"one of shape {one} instead of {other}"
    return f"{len(own)} instead of {len(theirs)}"
