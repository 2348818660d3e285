"""The command line: absl flags in, stages run, one line out for whatever is wrong.

Nothing here imports TensorFlow before a stage needs it, so `--help`, `--list` and wrong flags answer at once.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from end2_tf import config, registry, stages, workers
from end2_tf.errors import ConfigError, End2Error, WorkdirError, unknown
from end2_tf.progress import Progress
from end2_tf.workdir import Workdir

EXIT_INTERRUPTED = 130

FLAGS = flags.FlagValues()


def _define() -> None:
    flags.DEFINE_string("experiment", None, "Which experiment to run; --list names them.", flag_values=FLAGS)
    flags.DEFINE_string("study", None, "Which study to run, on validation data; 'list' names them.", flag_values=FLAGS)
    flags.DEFINE_string(
        "stage", "all", f"all, or one of {', '.join((*stages.STAGES, *stages.ASKED_FOR))}.", flag_values=FLAGS
    )
    flags.DEFINE_multi_string(
        "set", [], "path.to.field=value changes one field; give it as often as needed.", flag_values=FLAGS
    )
    flags.DEFINE_boolean(
        "smoke", False, "The same experiment in about a minute, in its own workdir.", flag_values=FLAGS
    )
    flags.DEFINE_integer("seed", None, "Seed of everything random; the experiment's own by default.", flag_values=FLAGS)
    flags.DEFINE_boolean(
        "deterministic", False, "Bit-equal results on the same machine, a little slower.", flag_values=FLAGS
    )
    flags.DEFINE_integer(
        "jobs", 0, "Members or students trained side by side, a core each; 0: all cores.", flag_values=FLAGS
    )
    flags.DEFINE_string("workdir", None, "Where results are kept; runs/<experiment>/ by default.", flag_values=FLAGS)
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; its own default otherwise.", flag_values=FLAGS)
    flags.DEFINE_boolean("download", False, "Let TFDS fetch data that isn't there.", flag_values=FLAGS)
    flags.DEFINE_boolean(
        "list", False, "List experiments, studies, data sets, backbones and losses.", flag_values=FLAGS
    )
    flags.DEFINE_boolean(
        "describe", False, "Show the resolved experiment, its cost and what is done; run nothing.", flag_values=FLAGS
    )
    flags.DEFINE_string(
        "compare", None, "EnD against EnD²: a page from the finished runs in these workdirs.", flag_values=FLAGS
    )
    flags.DEFINE_string("zoo", None, "Predict with this published model; 'list' names them.", flag_values=FLAGS)
    flags.DEFINE_string("input", None, "What to predict: an .npz file, an image or a folder.", flag_values=FLAGS)
    flags.DEFINE_string(
        "output",
        None,
        "Where predictions go, a .csv file or -, beside the input by default; or --compare's page, a folder.",
        flag_values=FLAGS,
    )
    flags.DEFINE_string(
        "zoo_dir", None, "The zoo: a folder to publish to; a folder or URL to predict from.", flag_values=FLAGS
    )
    flags.DEFINE_boolean("quiet", False, "No progress.", flag_values=FLAGS)
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=FLAGS)


_define()

HELP_GROUPS = {
    "What to run": ("experiment", "study", "stage", "set", "smoke", "seed", "deterministic"),
    "Where": ("workdir", "data_dir", "download", "jobs"),
    "Look, don't run": ("list", "describe", "compare", "help"),
    "Published models": ("zoo", "input", "output", "zoo_dir"),
    "Output": ("quiet",),
}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code (0 done, 2 wrong input, 3 workdir, 4 training, 130 interrupted)."""
    try:
        return _main(argv)
    except End2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted. Run the same command again: it goes on from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(argv: Sequence[str]) -> int:
    FLAGS.unparse_flags()
    for name in FLAGS:
        FLAGS[name].unparse()
    try:
        rest = FLAGS(list(argv), known_only=False)[1:]
    except flags.Error as error:
        raise ConfigError(f"{' '.join(str(error).split())} See --help.") from None
    if rest:
        raise ConfigError(f"{rest[0]!r} is no flag. Flags start with --; see --help.")
    if FLAGS.help:
        print(help_text())
        return 0
    if FLAGS.list:
        print(listing())
        return 0
    if FLAGS.compare is not None:
        return _compare()
    if FLAGS.study is not None:
        return _study()
    if FLAGS.zoo is not None:
        return _predict()
    for name in ("input", "output"):
        if FLAGS[name].value is not None:
            raise ConfigError(f"--{name} is given without --zoo=NAME, the model to predict with. See --zoo=list.")
    run = resolve()
    chosen = _stages(FLAGS.stage)
    if chosen == (stages.PUBLISH,):
        _check_publishing()
    if FLAGS.describe:
        from end2_tf import describe

        print(describe.resolved(run), flush=True)
        print(describe.cost(run))
        return 0
    print(f"{run.name} in {run.root.path}" + (" (smoke: a small version)" if FLAGS.smoke else ""))
    run.run(chosen)
    if chosen[-1] in ("evaluate", "report"):
        from end2_tf import tables, workdir

        results = workdir.read_json(run.root.path / "results.json")
        print(f"\n{tables.summary(results)}\n")
        print(f"Numbers: {run.root.path / 'results.csv'}")
        if chosen[-1] == "report":
            print(f"Report:  {run.root.path / 'report.html'}")
    return 0


def resolve() -> stages.Run:
    """Builds the run that the flags ask for; raises ConfigError for anything that can't be."""
    experiments = registry.experiments()
    name = FLAGS.experiment
    if name is None:
        raise ConfigError(f"--experiment is missing. Experiments: {', '.join(sorted(experiments))}. See --help.")
    if name not in experiments:
        raise ConfigError(unknown("--experiment", name, "an experiment", experiments, "See --list."))
    experiment = experiments[name]
    if not isinstance(experiment, config.Experiment):
        raise ConfigError(f"experiment {name!r} is no end2_tf.config.Experiment. Change its file.")
    if FLAGS.smoke:
        experiment = config.override(experiment, experiment.smoke)
    experiment = config.override(experiment, list(FLAGS["set"].value or []))
    if FLAGS.seed is not None:
        experiment = config.override(experiment, {"seed": FLAGS.seed})
    return _run(name, experiment, _root(name), shlex.join(["python", "main.py", *sys.argv[1:]]))


def _root(experiment: str) -> Workdir:
    default = Path("runs") / (f"{experiment}_smoke" if FLAGS.smoke else experiment)
    return Workdir(FLAGS.workdir or default)


def _run(
    name: str, experiment: config.Experiment, root: Workdir, command: str, say: Callable[[str], None] | None = None
) -> stages.Run:
    if FLAGS.jobs < 0:
        raise ConfigError(f"--jobs is {FLAGS.jobs}. Allowed: 1 or more, or 0 for as many as there are cores.")
    return stages.Run(
        name,
        experiment,
        root,
        data_dir=FLAGS.data_dir,
        download=FLAGS.download,
        deterministic=FLAGS.deterministic,
        jobs=FLAGS.jobs,
        progress=Progress(FLAGS.quiet),
        say=say or (lambda line: print(line, flush=True)),
        prepare=lambda: _start_tensorflow(FLAGS.deterministic),
        command=command,
        zoo_dir=Path(FLAGS.zoo_dir) if FLAGS.zoo_dir else None,
    )


def _study() -> int:
    """Lists the studies, runs one, or describes it."""
    from end2_tf import grid

    if FLAGS.study == "list":
        for name in sorted(registry.studies()):
            print(f"{name}\n  {grid.find(name).question}")
        return 0
    for name in ("experiment", "zoo", "input", "output"):
        if FLAGS[name].value is not None:
            raise ConfigError(f"--study and --{name} were both given. Leave one out.")
    if FLAGS.stage != "all":
        raise ConfigError(f"--stage is {FLAGS.stage!r}, but a study runs whole. Leave --stage out.")
    if "://" in (FLAGS.zoo_dir or ""):
        raise ConfigError(f"--zoo_dir is {FLAGS.zoo_dir!r}, but a URL can't be written to. Name a folder.")
    study = grid.find(FLAGS.study)
    from end2_tf.study import StudyRun

    changes = [*(FLAGS["set"].value or []), *([] if FLAGS.seed is None else [f"seed={FLAGS.seed}"])]
    given = [part for change in changes for part in ("--set", change)]
    command = shlex.join(["python", "main.py", f"--study={FLAGS.study}", *["--smoke"][: FLAGS.smoke], *given])
    root, said = _root(study.experiment), set()

    def say(line: str) -> None:  # variants that share a stage say the same of it
        if line not in said:
            said.add(line)
            print(line, flush=True)

    experiments = grid.experiments(study, smoke=FLAGS.smoke, changes=changes)
    run = StudyRun(
        FLAGS.study,
        study,
        {label: _run(study.experiment, each, root, command, say) for label, each in experiments.items()},
        command=command,
        zoo_dir=Path(FLAGS.zoo_dir) if FLAGS.zoo_dir else None,
        is_small=FLAGS.smoke,
        say=say,
    )
    if FLAGS.describe:
        print(run.describe())
        return 0
    say(f"{FLAGS.study} in {root.path}" + (" (smoke: a small version)" if FLAGS.smoke else ""))
    page = run.run()
    print(f"\n{run.page()}\nNumbers: {page.with_suffix('.csv')}\nPage:    {page}")
    return 0


def _check_publishing() -> None:
    if FLAGS.smoke and FLAGS.zoo_dir is None:
        raise ConfigError("--smoke is no run to publish. Leave it out, or name a zoo for trying with --zoo_dir.")
    if "://" in (FLAGS.zoo_dir or ""):
        raise ConfigError(f"--zoo_dir is {FLAGS.zoo_dir!r}, but a URL can't be published to. Name a folder.")


def _predict() -> int:
    """Lists the published models, or predicts with one."""
    if FLAGS.experiment is not None:
        raise ConfigError("--zoo and --experiment were both given. Predict with one, or run the other.")
    if FLAGS.zoo == "list":
        from end2_tf import zoo

        print(zoo.table(source=FLAGS.zoo_dir))
        return 0
    if FLAGS.input is None:
        raise ConfigError(f"--input is missing: what should {FLAGS.zoo} predict? Give an .npz file or a folder.")
    from end2_tf import workdir
    from end2_tf.zoo import catalogue, predict

    catalogue.find(FLAGS.zoo, FLAGS.zoo_dir, None)  # a wrong name is told before TensorFlow is imported
    target = predict.target(Path(FLAGS.input), FLAGS.output)
    _start_tensorflow(FLAGS.deterministic)
    text, num = predict.predict(FLAGS.zoo, Path(FLAGS.input), FLAGS.zoo_dir)
    if target is None:
        print(text, end="")
    else:
        try:
            workdir.write_text(target, text)
        except WorkdirError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise WorkdirError(f"can't write {target}: {reason}. Name another file with --output.") from error
        print(f"{num:,} predictions: {target}")
    return 0


def _compare() -> int:
    """Writes the page that compares the methods of finished runs."""
    for name in ("experiment", "zoo", "input"):
        if FLAGS[name].value is not None:
            raise ConfigError(f"--compare and --{name} were both given. Leave one out.")
    from end2_tf import compare

    roots = [Path(part.strip()) for part in FLAGS.compare.split(",") if part.strip()]
    progress = Progress(FLAGS.quiet)
    page = compare.build(roots, Path(FLAGS.output or "zoo/pages"), report=progress)
    progress.end()
    print(f"Page:    {page}")
    return 0


def _stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return stages.STAGES
    if name not in (*stages.STAGES, *stages.ASKED_FOR):
        raise ConfigError(unknown("--stage", name, "a stage", ("all", *stages.STAGES, *stages.ASKED_FOR)))
    return (name,)


def help_text() -> str:
    """Returns the help: one screen, grouped."""
    lines = [
        "Train an ensemble, distil its distribution into one network, evaluate, report.",
        "",
        "  python main.py --experiment=spirals_mlp_end2",
        "  python main.py --experiment=own_data_end2 --set data.path=my.npz --describe",
    ]
    for title, names in HELP_GROUPS.items():
        lines += ["", f"{title}:"]
        for name in names:
            flag = FLAGS[name]
            value = "" if flag.boolean else "=…"
            lines.append(f"  --{name + value:<16} {flag.help.splitlines()[0].rstrip(';')}")
    lines += ["", "Exit codes: 0 done, 2 wrong input, 3 workdir, 4 training failed, 130 interrupted."]
    return "\n".join(lines)


def listing() -> str:
    """Returns the names that flags and fields take."""
    experiments = registry.experiments()
    lines = ["Experiments (--experiment):", *(f"  {name}" for name in sorted(experiments))]
    lines += ["", "Studies (--study):", *(f"  {name}" for name in sorted(registry.studies()))]
    sources = [n for n in registry.names("data source") if n != "tfds"]
    lines += ["", "Data (data.name, data.auxiliary, data.ood):", *(f"  {name}" for name in sources)]
    lines += [
        "  any image classification set of TFDS by name: mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, …"
    ]
    lines += ["", "Backbones (ensemble.backbone, student.backbone):", *(f"  {n}" for n in registry.names("backbone"))]
    lines += ["", "Losses (methods.<name>.loss):", *(f"  {n}" for n in registry.names("loss"))]
    lines += ["", "Methods (student.methods):", f"  {', '.join(config.default_methods())}"]
    return "\n".join(lines)


def _start_tensorflow(deterministic: bool) -> None:
    """Imports TensorFlow, keeping the lines its C++ writes at import off the screen unless the import fails."""
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
    if deterministic:
        tf.config.experimental.enable_op_determinism()
