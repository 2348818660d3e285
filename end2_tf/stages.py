"""The pipeline, told in the order in which it happens."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from end2_tf import __version__, advice, config, console, distribution, workdir
from end2_tf.config import Experiment
from end2_tf.distribution import AUTO, Strategy
from end2_tf.errors import ConfigError
from end2_tf.placement import Launch, Placement
from end2_tf.plan import FORMAT
from end2_tf.progress import Progress, Report, Together
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Artefact, Workdir


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one stage did: whether it was up to date already, where its result is, and how long it took."""

    stage: str
    was_ready: bool
    path: Path
    seconds: float
    summary: str = ""


class Run(Trainer):
    """One experiment in one workdir.

    Args:
        name: Of the experiment.
        experiment: Its values.
        root: The workdir.
        data_dir: Where TFDS keeps its data; None for its default.
        download: Whether TFDS may fetch what is missing.
        deterministic: Whether results must be bit-equal.
        jobs: How many members or students are trained side by side; 0 for as many as there are cores, or GPUs.
        strategy: Which devices a training has, see `distribution.make`.
        launch: Does tasks on other machines; by default they are done on this one.
        members: The stage ensemble trains these alone; other runs may train others in the same workdir meanwhile.
        progress: Called with progress.
        say: Prints a line for the user.
        prepare: Called once, before the first thing that needs TensorFlow.
        command: The command line that repeats this, for the report.
        zoo_dir: Where the stage publish writes; zoo/ by default.
    """

    for_training = False

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        root: Workdir,
        *,
        data_dir: str | None = None,
        download: bool = False,
        deterministic: bool = False,
        jobs: int = 0,
        strategy: Strategy = AUTO,
        launch: Launch | None = None,
        members: range | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] = print,
        prepare: Callable[[], None] = lambda: None,
        command: str = "",
        zoo_dir: Path | None = None,
    ):
        super().__init__(
            experiment,
            root,
            data_dir=data_dir,
            download=download,
            deterministic=deterministic,
            shared_by=strategy.shared_by,
        )
        self.name, self.members = name, members
        self.progress, self.say = progress or Progress(quiet=True), say
        self.placement = Placement(jobs, strategy, launch, self.progress)
        self._start = prepare
        self.command = command or f"python main.py --experiment={name}"
        self.zoo_dir = zoo_dir or Path("zoo")
        self._seconds_told = 0.0

    # What stages share.

    def reading(self, what: str, done: int, of: int, figures: dict[str, float]) -> None:
        self.progress(what, done, of, figures)

    @functools.cache  # noqa: B019 - one run a process
    def prepare(self) -> None:
        """Called before the first work: starts TensorFlow, and builds once what later stages will need.

        So an option that a loss or a backbone doesn't take is noticed now, not after hours of training.
        """
        self.progress("starting TensorFlow", 0, 0, {})
        self._start()
        self.say(self.data.summary())
        self.progress("building networks", 0, 0, {})
        from end2_tf import ensemble, student, transfer
        from end2_tf.data.views import Views

        experiment = self.experiment
        for name in experiment.student.methods:
            method = experiment.methods[name]
            epochs = experiment.student.epochs_of(method)
            loss = self.loss(name)
            student.check_loss(loss, self.num_taught, self.data.num_classes)
            student.check_annealing(loss, method, epochs, f"methods.{name}")
        Views(experiment.ensemble.augmentation, self.data.train.inputs, 0, name="ensemble.augmentation")
        for name in experiment.student.methods:
            own = experiment.methods[name].augmentation
            if own is not None:
                Views(own, self.data.train.inputs, 0, name=f"methods.{name}.augmentation")
        transfer.check(experiment.transfer)
        self.views()
        if experiment.ensemble.is_brought:
            _ = self.teacher
        else:
            ensemble.engine(experiment.ensemble, self.members_data)
        for name in experiment.student.methods:
            self.check_start(name, self.student_backbone(name))
        if experiment.ensemble.mixed_precision or experiment.student.mixed_precision:
            from end2_tf import training

            if not training.has_bfloat16():
                self.say("          mixed_precision is asked for, but bfloat16 is slow here: training in float32")

    # Stages.

    def run(self, stages: tuple[str, ...]) -> list[Outcome]:
        """Runs stages that aren't up to date, in order; holds the workdir meanwhile.

        Of several processes that train together, by TF_CONFIG, each runs the stage student; the first one writes.
        """
        num_workers = distribution.num_workers()
        if num_workers > 1 and stages != ("student",):
            raise ConfigError(
                f"--stage is {', '.join(stages)}, but TF_CONFIG names {num_workers} workers, which train students "
                "together and do nothing else. Run --stage=transfer first, without TF_CONFIG, then --stage=student."
            )
        if self.download:
            from end2_tf.data import dataset

            dataset.download(self.experiment.data, data_dir=self.data_dir)
        _ = self.plan.prints  # data that aren't there are noticed before anything is written
        if not distribution.is_chief():
            return [self.run_stage(stage) for stage in stages]
        self.root.check_writable()
        if self.members is not None:  # other runs train other members in this workdir; each member has its own lock
            return [self.run_stage(stage) for stage in stages]
        with self.root.lock():
            return [self.run_stage(stage) for stage in stages]

    def run_stage(self, stage: str) -> Outcome:
        """Runs one stage if it isn't up to date, and tells of it; the caller holds the workdir."""
        started, told = time.monotonic(), self._seconds_told
        was_ready, path, summary = getattr(self, f"run_{stage}")()
        self.progress.end()
        needed = self._seconds_told - told  # by the earlier stages that this one had to run
        outcome = Outcome(stage, was_ready, path, time.monotonic() - started - needed, summary)
        self._seconds_told += outcome.seconds
        self._tell(outcome)
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        how = "up to date" if outcome.was_ready else f"{outcome.seconds:.0f} s"
        summary = f": {outcome.summary}" if outcome.summary else ""
        stage = console.paint(f"{outcome.stage:<9}", "bold", sys.stdout)
        how = console.paint(f"{how:<10}", "dim" if outcome.was_ready else "green", sys.stdout)
        self.say(f"{stage} {how} {outcome.path}{summary}")

    def run_ensemble(self) -> tuple[bool, Path, str]:
        artefact = self.plan.ensemble
        manifest = artefact.manifest()
        if manifest is not None:
            return True, artefact.path, console.counted(manifest["num_members"], "member")
        self.prepare()
        from end2_tf import ensemble

        settings, seconds = self.experiment.ensemble, None
        artefact.begin()
        if settings.is_brought:
            members = self.ensemble
            details: dict[str, Any] = {"num_members": members.num_members}
            if settings.models:
                digests = [workdir.weights_digest(m.get_weights(), ensemble.architecture(m)) for m in members]
                details |= {"models": settings.models, "weights": digests}
            else:
                details |= {"predictions": settings.predictions}
            self._say_how_good(members)
        else:
            self._train_members(artefact.path)
            if self.members is not None:
                return False, artefact.path, self._told_of(self.members, artefact.path)
            records = [ensemble.read_record(artefact.path, i) or {} for i in range(settings.num_members)]
            details = {"num_members": len(records), "weights": [r["weights"] for r in records]}
            spent = [r["seconds"] for r in records if r.get("seconds") is not None]
            seconds = sum(spent) if len(spent) == len(records) else None
        artefact.finish(seconds=seconds, **details)
        for lock in artefact.path.glob(".member_*.lock"):
            lock.unlink(missing_ok=True)
        return False, artefact.path, console.counted(details["num_members"], "member")

    def _train_members(self, folder: Path) -> None:
        from end2_tf import ensemble

        settings = self.experiment.ensemble
        mine = range(settings.num_members) if self.members is None else self.members
        missing = [index for index in ensemble.missing(settings, folder) if index in mine]
        if not missing:
            return
        weights = ensemble.build_member(settings, self.data, 0).count_params()
        self.root.check_writable(round(4.4 * weights * len(missing)))  # float32, and a tenth of overhead
        with workdir.lock_each([folder / f".member_{index:03d}.lock" for index in missing]):
            if ensemble.engine(settings, self.members_data) == "stacked":
                self._train_stacks(folder, list(mine), missing)
                return
            what, before = f"training {console.counted(len(mine), 'member')}", len(mine) - len(missing)
            if settings.kind == "dropout":
                what, missing, before = "training the network that members are draws of", [0], 0
            together = Together(self.progress, what, before, before + len(missing))
            tasks = [Task("member", index) for index in missing]
            alone = functools.partial(functools.partial, together)
            for turn in [[task] for task in tasks] if settings.kind == "snapshots" else [tasks]:
                self.placement.do(self, turn, what, alone, before)  # each snapshot goes on from the one before
                before += len(turn)

    def _train_stacks(self, folder: Path, mine: list[int], missing: list[int]) -> None:
        """Trains members that stack: together here, or in several stacks side by side where that is faster."""
        from end2_tf import ensemble

        if self.members is not None and self.deterministic:
            raise ConfigError(
                "--members and --deterministic were both given, but members that are stacked depend in their last bits "
                "on who is in the stack. Set ensemble.engine=sequential, or leave one out."
            )
        if self.placement.launch is not None:
            self.say("          members of this architecture are stacked: they train together, here")
        what, num = f"training {console.counted(len(missing), 'member')}", 1
        if not self.deterministic:
            processes = self.placement.num_processes
            num = ensemble.num_begun(folder, mine, missing) or ensemble.num_stacks(
                self.experiment.ensemble, self.members_data, len(mine), processes
            )
        if num == 1:
            self.progress(what, 0, self.experiment.ensemble.epochs, {})
            self.train_stack(mine[0], mine[-1], lambda _, *row: self.progress(what, *row))
            return
        tasks = [
            Task("stack", stack[0], last=stack[-1])
            for stack in ensemble.stacks_of(mine, num)
            if any(index in stack for index in missing)
        ]
        together = Together(self.progress, what, 0, len(tasks))
        self.placement.do(self, tasks, f"{what} in {num} stacks", functools.partial(functools.partial, together))

    def _told_of(self, members: range, folder: Path) -> str:
        from end2_tf import ensemble

        missing = len(ensemble.missing(self.experiment.ensemble, folder))
        total = self.experiment.ensemble.num_members
        if missing:
            return f"members {members.start} to {members.stop - 1}; {missing} of {total} are missing"
        return f"all {total} members are there; --stage=ensemble without --members puts them together"

    def _say_how_good(self, members: Any) -> None:
        from end2_tf import metrics, uncertainty

        held_out = self.data.validation.take(1000, self.experiment.seed)
        probs = uncertainty.from_members(members.predict_logits(held_out.inputs))["probs"]
        error = metrics.error_rate(probs, held_out.labels)
        whose = "your one member" if members.num_members == 1 else f"your {members.num_members} members"
        self.say(f"          {whose}: {100 * error:.1f} % error on {len(held_out)} held out")
        for line in advice.on_members(members.num_members, error, self.data.num_classes):
            self.say(f"          {line}")

    def run_transfer(self) -> tuple[bool, Path, str]:
        needed, folder = self.plan.all_recordings(), self.root.path / "transfer"
        if not needed:
            return True, folder, "no method needs it"
        was_ready = all(artefact.manifest() is not None for artefact in needed)
        if not was_ready:
            self.prepare()
            self.require(self.plan.ensemble, "ensemble")
            self._record_all()
        manifests = [artefact.manifest() or {} for artefact in needed]
        now = (self.plan.ensemble.manifest() or {}).get("weights")
        if now and any(manifest.get("members") not in (now, [], None) for manifest in manifests):
            self.say(
                "          the ensemble was trained anew since its predictions were recorded, so students learn from "
                f"members that are gone: delete {folder} and {self.root.path / 'student'} to teach them anew"
            )
        _, num_members, num_classes = manifests[0]["logits"]
        knowledge = (self.plan.transfer.manifest() or {}).get("knowledge")
        disagreement = ""
        if knowledge:
            shown, new = knowledge["transfer"], knowledge["validation"]
            disagreement = f"; members' knowledge uncertainty {shown:.2g} nats there, {new:.2g} on validation inputs"
            if line := advice.on_transfer_inputs(knowledge, self.experiment):
                self.say(f"          {line}")
        if self.experiment.transfer.mode == "online":
            return was_ready, folder, f"members are asked during training ({num_members} members){disagreement}"
        parts = []
        for artefact, manifest in zip(needed, manifests, strict=True):
            kind = "inputs" if artefact.digest == self.plan.transfer.digest else "auxiliary inputs"
            num_views = len(manifest["views"])
            views = f" in {num_views} views" if num_views > 1 else ""
            parts.append(f"{manifest['logits'][0]:,} {kind}{views}")
        return was_ready, folder, f"{' + '.join(parts)}, {num_members} members, {num_classes} classes{disagreement}"

    def _record_all(self) -> None:
        from end2_tf import transfer

        todo = [recording for recording in self.recordings() if recording.artefact.manifest() is None]
        # A folder may hold more than is to be recorded: what students made of an earlier recording.
        self.root.check_writable(sum(max(0, r.num_bytes - workdir.bytes_in(r.artefact.path)) for r in todo))
        started = time.monotonic()
        begun = [recording for recording in todo if recording.artefact.path.exists()]
        for recording in todo:
            recording.artefact.begin()
        if self.placement.launch is None:
            for recording in todo:
                recording.record(self.ensemble, report=self.progress)
        elif tasks := [task for recording in todo for task in recording.tasks()]:
            what = f"recording members' predictions in {len(tasks)} parts"
            self.placement.launch(tasks, self, Together(self.progress, what, 0, len(tasks), shows_figures=False))
        for recording in todo:
            details = transfer.details(self.experiment.transfer, recording.views, self.ensemble)
            if recording.artefact is self.plan.transfer:
                details["knowledge"] = self._disagreement(recording.views)
            recording.artefact.finish(
                seconds=None if begun else (time.monotonic() - started) / len(todo),  # who knows for how long before
                members=(self.plan.ensemble.manifest() or {}).get("weights", []),
                class_names=list(self.data.class_names),
                **details,
            )

    def _disagreement(self, views: Any) -> dict[str, float]:
        """Returns the members' mean knowledge uncertainty on transfer inputs and on held-out ones."""
        from end2_tf import transfer

        ids, held_out = transfer.spread(views.inputs), self.data.validation.inputs
        shown = views.inputs[ids] if self.experiment.transfer.mode == "clean" else views.rows_at(0, ids)
        return {
            "transfer": transfer.disagreement(self.ensemble, shown),
            "validation": transfer.disagreement(self.ensemble, held_out[transfer.spread(held_out)]),
        }

    def run_student(self) -> tuple[bool, Path, str]:
        students = self.plan.students()
        missing = {a.path: Task("student", seed, method) for method, seed, a in students if a.manifest() is None}
        tasks = list(missing.values())  # two methods of the same settings are one student
        if not tasks:
            return True, self.root.path / "student", console.counted(len(students), "student")
        self.prepare()
        for artefact in {a.digest: a for task in tasks for a in self.plan.recordings(task.method)}.values():
            self.require(artefact, "transfer")
        asks = self.experiment.transfer.mode == "online" and any(self.plan.is_distilled(task.method) for task in tasks)
        if asks or self.experiment.student.start == "member":
            self.require(self.plan.ensemble, "ensemble")

        def alone(task: Task) -> Report:
            name = f"{task.method}, seed {task.number} ({tasks.index(task) + 1} of {len(tasks)})"
            return lambda what, done, of, row: self.progress(f"{name}: {what}", done, of, row)

        self.placement.do(self, tasks, f"training {console.counted(len(tasks), 'student')}", alone)
        return False, self.root.path / "student", console.counted(len(students), "student")

    def run_evaluate(self) -> tuple[bool, Path, str]:
        artefact = self.plan.evaluation
        ready = artefact.manifest() is not None
        if not ready:
            self.evaluate()
        target, num = self._show_results(artefact)
        return ready, target, f"{num} numbers"

    def _show_results(self, artefact: Artefact) -> tuple[Path, int]:
        """Copies an evaluation's numbers to the top of the workdir; returns the table there, and how many they are."""
        from end2_tf import tables

        results = workdir.read_json(artefact.path / "results.json")
        text = tables.rows_csv(results["rows"])
        target, copy = self.root.path / "results.csv", self.root.path / "results.json"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            workdir.write_text(target, text)
        if not copy.is_file() or workdir.sha256(copy) != workdir.sha256(artefact.path / "results.json"):
            workdir.write_json(copy, results)
        return target, len(results["rows"])

    def evaluate(self) -> None:
        """Makes the evaluation; what it needs and isn't there is trained first."""
        artefact = self.plan.evaluation
        self.prepare()
        from end2_tf import ensemble, training
        from end2_tf import student as students
        from end2_tf.data import dataset
        from end2_tf.evaluate import Evaluation
        from end2_tf.zoo import metadata

        self.require(self.plan.ensemble, "ensemble")
        evaluation = Evaluation(self.data, self.experiment.evaluation, self.progress, len(self.plan.students()))
        evaluation.add_ensemble(self.ensemble, self.plan.num_taught)
        histories: dict[str, Path] = {}
        for method in self.experiment.student.methods:
            models = []
            for other, _, student in self.plan.students():
                if other == method:
                    self.require(student, "student")
                    models.append(students.open_model(student.path))
                    histories.setdefault(method, student.path / "history.csv")
            evaluation.add_student(method, models)
        evaluation.add_posterior()
        artefact.begin()
        if not self.experiment.ensemble.is_brought:
            records = [ensemble.read_record(self.plan.ensemble.path, i) for i in range(self.ensemble.num_members)]
            curves = training.history_csv(training.mean_history([r["history"] for r in records if r]))
            workdir.write_text(artefact.path / "history" / "ensemble.csv", curves)
        for method, path in histories.items():
            workdir.write_text(artefact.path / "history" / f"{method}.csv", path.read_text(encoding="utf-8"))
        stages = [self.plan.ensemble, self.plan.transfer, self.plan.auxiliary, *(a for _, _, a in self.plan.students())]
        evaluation.write(
            artefact.path,
            {
                "experiment": self.name,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": config.to_dict(self.experiment),
                "versions": versions(),
                "commit": metadata.commit(ignored=self.zoo_dir),
                "seconds": _seconds(stages),
                "num_members": self.ensemble.num_members,
                "severities": dataset.severities(self.experiment.data),
                "command": self.command,
            },
        )
        artefact.finish()

    def run_report(self) -> tuple[bool, Path, str]:
        self.require(self.plan.evaluation, "evaluate")
        self._show_results(self.plan.evaluation)  # another evaluation in this workdir may have come between
        page = self.root.path / "report.html"
        artefact = Artefact(self.root.path, "report", "")
        manifest = artefact.manifest()
        key = config.digest(FORMAT, "report", self.plan.evaluation.digest)
        if manifest and manifest.get("of") == key and page.is_file() and workdir.sha256(page) == manifest.get("page"):
            return True, page, ""
        from end2_tf import report

        page = report.build(self.plan.evaluation.path, self.root.path, self.progress)
        artefact.finish(of=key, page=workdir.sha256(page))
        return False, page, ""

    def run_export(self) -> tuple[bool, Path, str]:
        from end2_tf import delivery

        return delivery.export(self)

    def run_publish(self) -> tuple[bool, Path, str]:
        from end2_tf import delivery

        return delivery.publish(self)

    def require(self, artefact: Artefact, stage: str) -> None:
        """Runs, and tells of, an earlier stage whose result isn't there, so that `--stage=report` alone works too."""
        if artefact.manifest() is None:
            if distribution.num_workers() > 1:
                raise ConfigError(
                    f"{artefact.path} isn't there, and the workers that TF_CONFIG names train students and do nothing "
                    f"else. Run --stage={stage} first, without TF_CONFIG."
                )
            self.run_stage(stage)


def versions() -> dict[str, str]:
    """Returns the versions that numbers may depend on."""
    import platform

    names = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scipy")
    return {
        "end2_tf": __version__,
        "python": platform.python_version(),
        **{n: importlib.metadata.version(n) for n in names},
    }


def _seconds(artefacts: list[Artefact]) -> dict[str, float]:
    """Returns how long each stage took, over all processes that took part; none of those where that isn't known."""
    total: dict[str, list[Any]] = {}
    for artefact in artefacts:
        manifest = artefact.manifest()
        if manifest is not None:
            total.setdefault(artefact.stage, []).append(manifest.get("seconds"))
    return {stage: sum(spent) for stage, spent in total.items() if None not in spent}
