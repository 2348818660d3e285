"""The pipeline, told in the order in which it happens."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from end2_tf import __version__, config, workdir
from end2_tf.config import Experiment
from end2_tf.errors import ConfigError, ModelError
from end2_tf.plan import FORMAT, Plan
from end2_tf.progress import Progress
from end2_tf.workdir import Artefact, Workdir

STAGES = ("ensemble", "transfer", "student", "evaluate", "report")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one stage did: whether it was up to date already, where its result is, and how long it took."""

    stage: str
    was_ready: bool
    path: Path
    seconds: float
    summary: str = ""


class Run:
    """One experiment in one workdir.

    Args:
        name: Of the experiment.
        experiment: Its values.
        root: The workdir.
        data_dir: Where TFDS keeps its data; None for its default.
        download: Whether TFDS may fetch what is missing.
        deterministic: Whether results must be bit-equal.
        progress: Called with progress.
        say: Prints a line for the user.
        prepare: Called once, before the first thing that needs TensorFlow.
        command: The command line that repeats this, for the report.
    """

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        root: Workdir,
        *,
        data_dir: str | None = None,
        download: bool = False,
        deterministic: bool = False,
        progress: Progress | None = None,
        say: Callable[[str], None] = print,
        prepare: Callable[[], None] = lambda: None,
        command: str = "",
    ):
        self.name, self.experiment, self.root = name, experiment, root
        self.plan = Plan(experiment, root, data_dir, deterministic)
        self.data_dir, self.download = data_dir, download
        self.progress, self.say = progress or Progress(quiet=True), say
        self._start = prepare
        self.command = command or f"python main.py --experiment={name}"

    # What stages share.

    @functools.cache  # noqa: B019 - one run a process
    def prepare(self) -> None:
        """Called before the first work: starts TensorFlow, and builds once what later stages will need.

        So an option that a loss or a backbone doesn't take is noticed now, not after hours of training.
        """
        self._start()
        self.say(self.data.summary())
        from end2_tf import ensemble, student
        from end2_tf.data.views import Views

        experiment = self.experiment
        for name in experiment.student.methods:
            student.build_loss(experiment.methods[name], f"methods.{name}")
        for augmentation in (experiment.ensemble.augmentation, experiment.transfer.augmentation):
            Views(augmentation, self.data.train.inputs, 0)
        if not experiment.ensemble.models:
            ensemble.engine(experiment.ensemble, ensemble.build_member(experiment.ensemble, self.data, 0))
        self.student_backbone()

    @functools.cached_property
    def data(self) -> Any:
        from end2_tf.data import dataset

        return dataset.load(
            self.experiment.data, data_dir=self.data_dir, download=self.download, seed=self.experiment.seed
        )

    @functools.cached_property
    def ensemble(self) -> Any:
        from end2_tf import ensemble

        settings = self.experiment.ensemble
        if settings.models:
            return self._check_fits(ensemble.load(settings.models))
        return ensemble.open_members(self.plan.ensemble.path, settings.num_members)

    def _check_fits(self, ensemble: Any) -> Any:
        data = self.data
        pattern = self.experiment.ensemble.models
        if ensemble.input_shape != data.input_shape:
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

    # Stages.

    def run(self, stages: tuple[str, ...]) -> list[Outcome]:
        """Runs stages that aren't up to date, in order; holds the workdir meanwhile."""
        if self.download:
            from end2_tf.data import dataset

            dataset.download(self.experiment.data, data_dir=self.data_dir)
        _ = self.plan.prints  # data that aren't there are noticed before anything is written
        self.root.check_writable()
        with self.root.lock():
            return [self._run_one(stage) for stage in stages]

    def _run_one(self, stage: str) -> Outcome:
        started = time.monotonic()
        was_ready, path, summary = getattr(self, f"run_{stage}")()
        self.progress.end()
        outcome = Outcome(stage, was_ready, path, time.monotonic() - started, summary)
        self._tell(outcome)
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        how = "up to date" if outcome.was_ready else f"{outcome.seconds:.0f} s"
        summary = f": {outcome.summary}" if outcome.summary else ""
        self.say(f"{outcome.stage:<9} {how:<10} {outcome.path}{summary}")

    def run_ensemble(self) -> tuple[bool, Path, str]:
        artefact = self.plan.ensemble
        manifest = artefact.manifest()
        if manifest is not None:
            return True, artefact.path, f"{manifest['num_members']} members"
        self.prepare()
        from end2_tf import ensemble, student
        from end2_tf.losses import CrossEntropy

        settings, started = self.experiment.ensemble, time.monotonic()
        artefact.begin()
        if settings.models:
            members = self.ensemble
            digests = [workdir.weights_digest(m.get_weights(), ensemble.architecture(m)) for m in members]
            details = {"num_members": len(digests), "models": settings.models, "weights": digests}
            self._warn_if_at_chance(members)
        else:
            self.root.check_writable(self._ensemble_bytes())
            records = ensemble.train(
                settings,
                self.data,
                artefact.path,
                seed=self.experiment.seed,
                validate=student.validator(self.data.validation, CrossEntropy(), 0.0),
                report=self.progress,
            )
            details = {"num_members": len(records), "weights": [r["weights"] for r in records]}
        artefact.finish(seconds=time.monotonic() - started, **details)
        return False, artefact.path, f"{details['num_members']} members"

    def _ensemble_bytes(self) -> int:
        from end2_tf import ensemble

        member = ensemble.build_member(self.experiment.ensemble, self.data, 0)
        return round(
            4.4 * member.count_params() * self.experiment.ensemble.num_members
        )  # float32, and a tenth of overhead

    def _warn_if_at_chance(self, members: Any) -> None:
        from end2_tf import metrics, uncertainty

        held_out = self.data.validation.take(1000, self.experiment.seed)
        probs = uncertainty.from_members(members.predict_logits(held_out.inputs))["probs"]
        error = metrics.error_rate(probs, held_out.labels)
        self.say(f"          your {members.num_members} members: {100 * error:.1f} % error on {len(held_out)} held out")
        if error > 0.9 * (1 - 1 / self.data.num_classes):
            self.say(
                "          that is near chance: do they take raw inputs (pixels 0-255), and classes in this order?"
            )

    def run_transfer(self) -> tuple[bool, Path, str]:
        artefact = self.plan.transfer
        if not any(map(self.plan.is_distilled, self.experiment.student.methods)):
            return True, artefact.path, "no method needs it"
        manifest = artefact.manifest()
        if manifest is None:
            self.prepare()
            from end2_tf import transfer

            self._require(self.plan.ensemble, "ensemble")
            data, settings, started = self.data, self.experiment.transfer, time.monotonic()
            self.root.check_writable(transfer.num_bytes(settings, data, self.ensemble.num_members))
            artefact.begin()
            details = transfer.record(
                self.ensemble, data, settings, artefact.path, seed=self.experiment.seed, report=self.progress
            )
            details["members"] = (self.plan.ensemble.manifest() or {}).get("weights", [])
            manifest = artefact.finish(
                seconds=time.monotonic() - started,
                class_names=list(data.class_names),
                data=self.plan.prints["auxiliary"],
                **details,
            )
            ready = False
        else:
            ready = True
        n, m, k = manifest["logits"]
        if manifest["mode"] == "online":
            return ready, artefact.path, f"members are asked during training ({m} members)"
        return ready, artefact.path, f"{n} + {manifest['auxiliary']} auxiliary inputs, {m} members, {k} classes"

    def run_student(self) -> tuple[bool, Path, str]:
        todo = [(m, s, a) for m, s, a in self.plan.students() if a.manifest() is None]
        for number, (method, seed, artefact) in enumerate(todo):
            name = f"{method}, seed {seed} ({number + 1} of {len(todo)})"
            self._train_student(method, seed, artefact, name)
        return not todo, self.root.path / "student", f"{len(self.plan.students())} students"

    def _train_student(self, method: str, seed: int, artefact: Artefact, name: str) -> None:
        self.prepare()
        import keras

        from end2_tf import student, training, transfer
        from end2_tf.ensemble import architecture, seed_of

        experiment, data, started = self.experiment, self.data, time.monotonic()
        how = experiment.methods[method]
        transfer_set = None
        if self.plan.is_distilled(method):
            self._require(self.plan.transfer, "transfer")
            manifest = self.plan.transfer.manifest() or {}
            if manifest["mode"] != "online":
                transfer_set = transfer.open_set(self.plan.transfer.path, manifest["views"])
        artefact.begin()
        own_seed = seed_of(experiment.seed, 1_000_000 + seed)  # members count from 0
        keras.utils.set_random_seed(own_seed)
        before = keras.mixed_precision.global_policy()
        if experiment.student.mixed_precision:
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        try:
            backbone = self.student_backbone()
        finally:
            keras.mixed_precision.set_global_policy(before)
        model, history = student.train(
            backbone,
            how,
            experiment.student,
            data.train,
            seed=own_seed,
            view_seed=experiment.seed,  # the transfer set's own
            transfer=experiment.transfer,
            auxiliary=data.auxiliary,
            transfer_set=transfer_set,
            ensemble=self.ensemble if experiment.transfer.mode == "online" and self.plan.is_distilled(method) else None,
            validation=data.validation,
            checkpoint=artefact.path / ".checkpoint.npz",
            tensorboard=artefact.path / "tensorboard",
            report=lambda what, done, of, row: self.progress(f"{name}: {what}", done, of, row),
            field=f"methods.{method}",
        )
        workdir.write_atomically(artefact.path / "model.keras", lambda path: model.save(path))
        workdir.write_text(artefact.path / "history.csv", training.history_csv(history))
        artefact.finish(
            method=method,
            seed=seed,
            seconds=time.monotonic() - started,
            weights=workdir.weights_digest(model.get_weights(), architecture(model.backbone)),
        )
        (artefact.path / ".checkpoint.npz").unlink(missing_ok=True)

    def student_backbone(self) -> Any:
        from end2_tf import backbones, ensemble

        settings, teacher = self.experiment.student, self.experiment.ensemble
        if settings.backbone is None and teacher.models:
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
        mean, std = self.data.normalisation()
        same = settings.backbone in (None, teacher.backbone)
        options = settings.options if settings.options is not None else (teacher.options if same else {})
        return backbones.build(
            settings.backbone or teacher.backbone,
            options,
            input_shape=self.data.input_shape,
            num_classes=self.data.num_classes,
            mean=mean,
            std=std,
            field="student.backbone",
        )

    def run_evaluate(self) -> tuple[bool, Path, str]:
        artefact = self.plan.evaluation
        ready = artefact.manifest() is not None
        if not ready:
            self._evaluate(artefact)
        from end2_tf import tables

        results = workdir.read_json(artefact.path / "results.json")
        text = tables.rows_csv(results["rows"])
        target, copy = self.root.path / "results.csv", self.root.path / "results.json"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            workdir.write_text(target, text)
        if not copy.is_file() or workdir.sha256(copy) != workdir.sha256(artefact.path / "results.json"):
            workdir.write_json(copy, results)
        return ready, target, f"{len(results['rows'])} numbers"

    def _evaluate(self, artefact: Artefact) -> None:
        self.prepare()
        import keras

        from end2_tf import ensemble, training
        from end2_tf.evaluate import Evaluation

        self._require(self.plan.ensemble, "ensemble")
        evaluation = Evaluation(self.data, self.experiment.evaluation, self.progress)
        evaluation.add_ensemble(self.ensemble)
        histories: dict[str, Path] = {}
        for method in self.experiment.student.methods:
            models = []
            for other, _, student in self.plan.students():
                if other == method:
                    self._require(student, "student")
                    models.append(keras.saving.load_model(student.path / "model.keras"))
                    histories.setdefault(method, student.path / "history.csv")
            self.progress(f"evaluating {method}", 0, 1, {})
            evaluation.add_student(method, models)
        evaluation.add_posterior()
        artefact.begin()
        if not self.experiment.ensemble.models:
            records = [ensemble.read_record(self.plan.ensemble.path, i) for i in range(self.ensemble.num_members)]
            curves = training.history_csv(training.mean_history([r["history"] for r in records if r]))
            workdir.write_text(artefact.path / "history" / "ensemble.csv", curves)
        for method, path in histories.items():
            workdir.write_text(artefact.path / "history" / f"{method}.csv", path.read_text(encoding="utf-8"))
        stages = [self.plan.ensemble, self.plan.transfer, *(a for _, _, a in self.plan.students())]
        evaluation.write(
            artefact.path,
            {
                "experiment": self.name,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": config.to_dict(self.experiment),
                "versions": versions(),
                "seconds": _seconds(stages),
                "num_members": self.ensemble.num_members,
                "command": self.command,
            },
        )
        artefact.finish()

    def run_report(self) -> tuple[bool, Path, str]:
        self._require(self.plan.evaluation, "evaluate")
        page = self.root.path / "report.html"
        artefact = Artefact(self.root.path, "report", "")
        manifest = artefact.manifest()
        key = config.digest(FORMAT, "report", self.plan.evaluation.digest)
        if manifest and manifest.get("of") == key and page.is_file() and workdir.sha256(page) == manifest.get("page"):
            return True, page, ""
        from end2_tf import report

        page = report.build(self.plan.evaluation.path, self.root.path)
        artefact.finish(of=key, page=workdir.sha256(page))
        return False, page, ""

    def _require(self, artefact: Artefact, stage: str) -> None:
        """Runs, and tells of, an earlier stage whose result isn't there, so that `--stage=report` alone works too."""
        if artefact.manifest() is None:
            self._run_one(stage)


def versions() -> dict[str, str]:
    """Returns the versions that numbers may depend on."""
    import platform

    names = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")
    return {
        "end2_tf": __version__,
        "python": platform.python_version(),
        **{n: importlib.metadata.version(n) for n in names},
    }


def _seconds(artefacts: list[Artefact]) -> dict[str, float]:
    total: dict[str, float] = {}
    for artefact in artefacts:
        manifest = artefact.manifest()
        if manifest is not None:
            total[artefact.stage] = total.get(artefact.stage, 0.0) + float(manifest.get("seconds", 0.0))
    return total
