"""What the flags ask for, done: a run, a study, a comparison, predictions, a server.

Nothing here imports TensorFlow before it is needed, nor NumPy for the flags' own sake, so wrong flags are told at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from end2_tf import config, console, distribution, flags, grid, registry
from end2_tf.config import Experiment
from end2_tf.console import Answer
from end2_tf.errors import ConfigError, WorkdirError, unknown
from end2_tf.flags import FLAGS
from end2_tf.progress import Progress

if TYPE_CHECKING:
    from end2_tf import predictions, stages, workers
    from end2_tf.placement import Launch
    from end2_tf.serving.catalogue import Model
    from end2_tf.tasks import Task, Trainer
    from end2_tf.workdir import Workdir

LAUNCHERS = ("local", "ray")


def _say(line: str) -> None:
    print(line, file=console.speaker(as_json=FLAGS.json), flush=True)


def run(chosen: tuple[str, ...]) -> Answer:
    """Runs stages of an experiment, or describes it."""
    strategy = distribution.parse(FLAGS.strategy)
    if strategy.kind == "workers" and distribution.num_workers() == 1 and not FLAGS.describe:
        return _run_workers(strategy, chosen)
    run = resolve()
    if chosen == (registry.PUBLISH,):
        _check_publishing()
    if FLAGS.describe:
        return _describe(run)
    root = run.root.path
    run.say(f"{run.name} in {root}" + (" (smoke: a small version)" if FLAGS.smoke else ""))
    outcomes = run.run(chosen)
    if not distribution.is_chief():
        return Answer()  # the chief says all
    data: dict[str, Any] = {"experiment": run.name, "workdir": root, "stages": outcomes}
    lines = []
    if chosen[-1] in ("evaluate", "report"):
        from end2_tf import tables, workdir

        results = workdir.read_json(root / "results.json")
        data["results"] = results["rows"]
        lines += ["", tables.summary(results), "", f"Numbers: {root / 'results.csv'}"]
    if chosen[-1] == "report":
        data["report"] = root / "report.html"
        lines.append(f"Report:  {data['report']}")
    if chosen[-1] in _NEXT and FLAGS.members is None:
        data["next"] = _next(_NEXT[chosen[-1]], run.experiment)
        lines.append(f"Next:    {data['next']}")
    return Answer("\n".join(lines), data)


_NEXT = {"ensemble": "transfer", "transfer": "student", "student": "evaluate", "evaluate": "report", "report": "export"}
_NEXT |= {"export": "serve"}


def _next(stage: str, experiment: Experiment) -> str:
    """Returns the command that goes on from this one, with another stage, for people."""
    kept: list[str] = []
    used = flags.COMMANDS["serve_run" if stage == "serve" else "run"][1] - {"stage"}
    given = iter(flags.given())
    for part in given:
        name, is_whole, value = part.lstrip("-").partition("=")
        name = name.removeprefix("no")
        takes_one = not is_whole and not isinstance(FLAGS[name].value, bool)
        whole = [part, *([next(given)] if takes_one else [])]
        setting = value if is_whole else whole[-1]
        is_of_run = stage == "serve" and name == "set" and not setting.startswith("serving.")
        is_of_students = name == "strategy" and setting.startswith("workers")
        if name in used and not is_of_run and not is_of_students:
            kept += whole
    methods = experiment.student.methods
    if stage == "export" and not {"single", "ensemble", *methods} >= set(experiment.export.models):
        there = [*(name for name in ("end2_aux", "end2") if name in methods), *reversed(methods), "ensemble"]
        kept.append(f"--set=export.models={there[0]}")
    return shlex.join(["python", "main.py", f"--stage={stage}", *kept])


def _describe(run: stages.Run) -> Answer:
    from end2_tf import describe

    if not FLAGS.json:
        print(describe.resolved(run), flush=True)  # what is known at once
    cost, states = describe.cost(run), describe.states(run)
    values = config.to_dict(run.experiment)
    told = {"config": values, "cost": cost.strip().splitlines(), "states": states}
    return Answer(cost, {"experiment": run.name, "workdir": run.root.path, **told})


def write_inputs() -> Answer:
    """Writes what an ensemble elsewhere must predict on."""
    run, path = resolve(), Path(FLAGS.write_inputs)
    if path.suffix != ".npz" or path.exists():
        reason = "exists already" if path.exists() else "isn't an .npz file"
        raise ConfigError(f"--write_inputs is {str(path)!r}, which {reason}. Give a new file's name that ends in .npz.")
    from end2_tf import delivery

    num, parts = delivery.write_inputs(run, path)
    of = ", ".join(f"{name} {count:,}" for name, count in parts.items())
    return Answer(
        f"{path}: {num:,} inputs and their digests ({of}). Predict on inputs in that order; save logits or probs (n, "
        "members, classes) with inputs or digests; name that file in ensemble.predictions.",
        {"inputs": path, "num": num, "of": parts},
    )


def _run_workers(strategy: distribution.Strategy, chosen: tuple[str, ...]) -> Answer:
    """Runs the same command in several processes that train students together."""
    from end2_tf import gang

    if chosen != ("student",):
        raise ConfigError(
            f"--strategy is 'workers:{strategy.num}', which is for students. Say --stage=student; the stages before it "
            "run without --strategy."
        )
    resolve()  # what is wrong is said once
    code = gang.run([sys.executable, "-P", "-m", "end2_tf", *flags.given()], strategy.num or 1)
    return Answer(exit_code=code)  # the first process has said all


def resolve() -> stages.Run:
    """Builds the run that the flags ask for; raises ConfigError for anything that can't be."""
    name = _experiment()
    experiment = registry.experiments()[name]
    if not isinstance(experiment, config.Experiment):
        raise ConfigError(f"experiment {name!r} is no end2_tf.config.Experiment. Change its file.")
    if FLAGS.smoke:
        experiment = config.override(experiment, experiment.smoke)
    experiment = config.override(experiment, list(FLAGS["set"].value or []))
    if FLAGS.seed is not None:
        experiment = config.override(experiment, {"seed": FLAGS.seed})
    return _run(name, experiment, _root(name), shlex.join(["python", "main.py", *flags.given()]))


def _experiment() -> str:
    """Returns --experiment; raises ConfigError where there is none of that name."""
    experiments, name = registry.experiments(), FLAGS.experiment
    if name is None:
        raise ConfigError(f"--experiment is missing. Experiments: {', '.join(sorted(experiments))}. See --help.")
    if name not in experiments:
        raise ConfigError(unknown("--experiment", name, "an experiment", experiments, "See --list."))
    return str(name)


def _root(name: str) -> Workdir:
    """Returns the workdir of an experiment: what --workdir says, else its family's or its own in runs/."""
    from end2_tf.workdir import Workdir

    shared = getattr(registry.experiments()[name], "family", None) or name
    return Workdir(FLAGS.workdir or Path("runs") / (f"{shared}_smoke" if FLAGS.smoke else shared))


def _run(
    name: str, experiment: config.Experiment, root: Workdir, command: str, say: Callable[[str], None] | None = None
) -> stages.Run:
    if FLAGS.jobs < 0:
        raise ConfigError(f"--jobs is {FLAGS.jobs}. Allowed: 1 or more, or 0 for as many as there are cores.")
    if FLAGS.launcher not in LAUNCHERS:
        raise ConfigError(unknown("--launcher", FLAGS.launcher, "a launcher", LAUNCHERS))
    if FLAGS.ray_address is not None and FLAGS.launcher != "ray":
        raise ConfigError(f"--ray_address is given, but --launcher is {FLAGS.launcher!r}. Add --launcher=ray.")
    strategy = distribution.parse(FLAGS.strategy)
    if FLAGS.study is not None and strategy.kind == "workers":
        raise ConfigError(f"--strategy is {FLAGS.strategy!r}, which is for --stage=student. Leave it out of a study.")
    if FLAGS.launcher == "ray" and strategy.shared_by:
        raise ConfigError(f"--strategy is {FLAGS.strategy!r}, but Ray gives each task a device. Leave one out.")
    from end2_tf import stages

    progress = Progress(FLAGS.quiet or not distribution.is_chief())

    def tell(line: str) -> None:
        progress.end()
        (say or _say)(line)

    return stages.Run(
        name,
        experiment,
        root,
        data_dir=FLAGS.data_dir,
        download=FLAGS.download,
        deterministic=FLAGS.deterministic,
        jobs=FLAGS.jobs,
        strategy=strategy,
        launch=_launcher(tell),
        members=_members(experiment),
        progress=progress,
        say=tell if distribution.is_chief() else lambda line: None,
        prepare=lambda: _start_tensorflow(FLAGS.deterministic),
        command=command,
        zoo_dir=Path(FLAGS.zoo_dir) if FLAGS.zoo_dir else None,
    )


def _launcher(say: Callable[[str], None]) -> Launch | None:
    """Returns what does tasks on other machines, if the flags ask for that; what can't be is said now."""
    if FLAGS.launcher == "local":
        return None
    with missing_extra("ray"):
        from end2_tf import ray_cluster
    address = FLAGS.ray_address
    ray_cluster.check(address)

    def launch(tasks: Sequence[Task], trainer: Trainer, report: workers.TaskReport) -> None:
        ray_cluster.train(tasks, trainer, report, address=address, say=say)

    return launch


def _members(experiment: config.Experiment) -> range | None:
    """Reads --members."""
    if FLAGS.members is None:
        return None
    num = experiment.ensemble.num_members
    match = re.fullmatch(r"([0-9]{1,6}):([0-9]{1,6})", FLAGS.members)
    if match is None or not int(match[1]) < int(match[2]) <= num:
        raise ConfigError(
            f"--members is {FLAGS.members!r}. Allowed: first:end, for instance 0:{num} for all of ensemble.num_members."
        )
    if FLAGS.stage != "ensemble" or experiment.ensemble.is_brought:
        raise ConfigError("--members is for training members. Add --stage=ensemble, and bring no members.")
    if experiment.ensemble.kind != "deep":
        raise ConfigError(
            f"--members is {FLAGS.members!r}, but with ensemble.kind={experiment.ensemble.kind} one network makes all "
            "members. Leave --members out."
        )
    return range(int(match[1]), int(match[2]))


def study() -> Answer:
    """Lists the studies, runs one, or describes it."""
    if FLAGS.study == "list":
        return _studies()
    if FLAGS.stage != "all":
        raise ConfigError(f"--stage is {FLAGS.stage!r}, but a study runs whole. Leave --stage out.")
    if "://" in (FLAGS.zoo_dir or ""):
        raise ConfigError(f"--zoo_dir is {FLAGS.zoo_dir!r}, but a URL can't be written to. Name a folder.")
    changes = [*(FLAGS["set"].value or []), *([] if FLAGS.seed is None else [f"seed={FLAGS.seed}"])]
    found = grid.make(FLAGS.study, FLAGS.experiment, smoke=FLAGS.smoke, changes=changes)
    from end2_tf.study import StudyRun

    asked = [f"--study={FLAGS.study}", *([f"--experiment={FLAGS.experiment}"] if found.is_made else [])]
    given = [part for change in changes for part in ("--set", change)]
    command = shlex.join(["python", "main.py", *asked, *["--smoke"][: FLAGS.smoke], *given])
    name = f"{FLAGS.study}_{found.experiment}" if found.is_made else FLAGS.study
    root, said = _root(found.experiment), set()

    def say(line: str) -> None:  # variants that share a stage say the same of it
        if line not in said:
            said.add(line)
            _say(line)

    experiments = grid.experiments(found, smoke=FLAGS.smoke, changes=changes)
    run = StudyRun(
        name,
        found,
        {label: _run(found.experiment, each, root, command, say) for label, each in experiments.items()},
        command=command,
        zoo_dir=Path(FLAGS.zoo_dir) if FLAGS.zoo_dir else None,
        is_small=FLAGS.smoke,
        say=say,
    )
    if FLAGS.describe:
        return Answer(run.describe(), {"study": name, "workdir": root.path, "states": run.states()})
    say(f"{name} in {root.path}" + (" (smoke: a small version)" if FLAGS.smoke else ""))
    page = run.run()
    files = {"numbers": page.with_suffix(".csv"), "picture": page.with_suffix(".png"), "page": page}
    named = "\n".join(f"{what.capitalize() + ':':<8} {path}" for what, path in files.items())
    return Answer(f"\n{run.page()}\n{named}", {"study": name, "workdir": root.path, **files})


def _studies() -> Answer:
    found = {name: grid.find(name) for name in sorted(registry.studies())}
    whose = {name: s.experiment if isinstance(s, grid.Study) else None for name, s in found.items()}
    lines = [
        f"{name} {grid.ANY_EXPERIMENT if whose[name] is None else f'of {whose[name]}'}\n  {each.question}"
        for name, each in found.items()
    ]
    data = {name: {"experiment": whose[name], "question": each.question} for name, each in found.items()}
    return Answer("\n".join(lines), {"studies": data})


def _check_publishing() -> None:
    if FLAGS.smoke and FLAGS.zoo_dir is None:
        raise ConfigError("--smoke is no run to publish. Leave it out, or name a zoo for trying with --zoo_dir.")
    if "://" in (FLAGS.zoo_dir or ""):
        raise ConfigError(f"--zoo_dir is {FLAGS.zoo_dir!r}, but a URL can't be published to. Name a folder.")


def predict() -> Answer:
    """Lists the published models, or predicts with one."""
    if FLAGS.zoo == "list":
        from end2_tf import zoo

        return Answer(zoo.table(source=FLAGS.zoo_dir), {"entries": zoo.entries(source=FLAGS.zoo_dir)})
    if FLAGS.input is None:
        raise ConfigError(f"--input is missing: what should {FLAGS.zoo} predict? Give an .npz file or a folder.")
    from end2_tf import predictions
    from end2_tf.zoo import catalogue
    from end2_tf.zoo import predict as published

    catalogue.find(FLAGS.zoo, FLAGS.zoo_dir, None)  # a wrong name is told before TensorFlow is imported
    target = predictions.target(Path(FLAGS.input), FLAGS.output)
    progress = Progress(FLAGS.quiet)
    progress("starting TensorFlow", 0, 0, {})
    _start_tensorflow(FLAGS.deterministic)
    progress("predicting", 0, 0, {})
    found = published.predict(FLAGS.zoo, Path(FLAGS.input), FLAGS.zoo_dir)
    progress.end()
    return _written(target, found)


def _written(target: Path | None, table: predictions.Table) -> Answer:
    """Writes a table of predictions to a file, or answers with it."""
    from end2_tf import workdir

    if target is None:
        return Answer(table.csv(), {"predictions": table.records()})
    try:
        workdir.write_text(target, table.csv())
    except WorkdirError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise WorkdirError(f"can't write {target}: {reason}. Name another file with --output.") from error
    num = len(table.rows)
    return Answer(f"{num:,} predictions: {target}", {"output": target, "num": num})


def compare() -> Answer:
    """Writes the page that compares the methods of finished runs."""
    from end2_tf.compare import build

    roots = [Path(part.strip()) for part in FLAGS.compare.split(",") if part.strip()]
    progress = Progress(FLAGS.quiet)
    page = build(roots, Path(FLAGS.output or "zoo/pages"), report=progress)
    progress.end()
    return Answer(f"Page:    {page}", {"page": page})


def serve() -> Answer:
    """Serves published models until it is told to stop."""

    def find() -> list[Model]:
        from end2_tf.zoo import served

        names = [part.strip() for part in (FLAGS.zoo or "").split(",") if part.strip()]
        return served.models(names, FLAGS.zoo_dir)

    return _serve(find)


def serve_models() -> Answer:
    """Serves the models of a folder or of a models.config."""

    def find() -> list[Model]:
        from end2_tf.serving import catalogue

        path = Path(FLAGS.models)
        return catalogue.find(path) if path.is_dir() else catalogue.read(path)

    return _serve(find)


def serve_run() -> Answer:
    """Serves what a run has exported."""

    def find() -> list[Model]:
        from end2_tf.serving import catalogue

        return catalogue.find(_root(_experiment()).path / "export")

    return _serve(find)


def _serve(find: Callable[[], list[Model]]) -> Answer:
    import logging

    from end2_tf.serving import settings

    how = settings.build(FLAGS.port, FLAGS.grpc_port, list(FLAGS["set"].value or []))
    models = find()
    _start_tensorflow(FLAGS.deterministic)
    with missing_extra("serve"):
        from end2_tf.serving import server

    # Absl has made a handler already, by what it logs of flags.
    logging.basicConfig(format="%(message)s", force=True)
    server.LOG.setLevel(logging.WARNING if FLAGS.quiet else logging.INFO)
    server.serve(models, how, say=_say)
    return Answer()


def query() -> Answer:
    """Asks a server for predictions."""
    for name in ("server", "zoo", "input"):
        if FLAGS[name].value is None:
            raise ConfigError(
                f"--{name} is missing. Say --stage=query --server=http://HOST:8501 --zoo=MODEL --input=FILE, MODEL by "
                "the name it has there."
            )
    from end2_tf import predictions

    with missing_extra("serve"):
        from end2_tf.serving import query as queries

    target = predictions.target(Path(FLAGS.input), FLAGS.output)
    if FLAGS.server.startswith("grpc:"):  # whose protos import it
        _start_tensorflow(FLAGS.deterministic)
    return _written(target, queries.query(FLAGS.server, FLAGS.zoo, Path(FLAGS.input)))


@contextlib.contextmanager
def missing_extra(name: str) -> Iterator[None]:
    """Says how to install what an import within needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} isn't installed. It comes with the extra [{name}]: pip install 'end2_tf[{name}]'."
        ) from None


def _start_tensorflow(deterministic: bool) -> None:
    """Imports TensorFlow, keeping the lines its C++ writes at import off the screen unless the import fails."""
    from end2_tf import workers

    if deterministic:
        # Its rewritten input pipelines have an attribute that TensorFlow itself calls an error, and ignores.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name, value in workers.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for GPUs, and complains where there are none
        except BaseException:
            sink.seek(0)
            os.write(saved, sink.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
    tf.get_logger().setLevel("ERROR")  # its warnings on retracing speak of our graphs, not of the user's run
    distribution.prepare(distribution.parse(FLAGS.strategy))
    if deterministic:
        tf.config.experimental.enable_op_determinism()
