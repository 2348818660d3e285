"""The command line: absl flags in, stages run, one line out for whatever is wrong.

Nothing here imports TensorFlow before a stage needs it, so `--help`, `--list` and wrong flags answer at once.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from end2_tf import config, registry, stages
from end2_tf.errors import ConfigError, End2Error, unknown
from end2_tf.progress import Progress
from end2_tf.workdir import Workdir

EXIT_INTERRUPTED = 130

FLAGS = flags.FlagValues()


def _define() -> None:
    flags.DEFINE_string("experiment", None, "Which experiment to run; --list names them.", flag_values=FLAGS)
    flags.DEFINE_string("stage", "all", f"all, or one of {', '.join(stages.STAGES)}.", flag_values=FLAGS)
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
    flags.DEFINE_string("workdir", None, "Where results are kept; runs/<experiment>/ by default.", flag_values=FLAGS)
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; its own default otherwise.", flag_values=FLAGS)
    flags.DEFINE_boolean("download", False, "Let TFDS fetch data that isn't there.", flag_values=FLAGS)
    flags.DEFINE_boolean("list", False, "List experiments, data sets, backbones and losses.", flag_values=FLAGS)
    flags.DEFINE_boolean(
        "describe", False, "Show the resolved experiment, its cost and what is done; run nothing.", flag_values=FLAGS
    )
    flags.DEFINE_boolean("quiet", False, "No progress.", flag_values=FLAGS)
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=FLAGS)


_define()

HELP_GROUPS = {
    "What to run": ("experiment", "stage", "set", "smoke", "seed", "deterministic"),
    "Where": ("workdir", "data_dir", "download"),
    "Look, don't run": ("list", "describe", "help"),
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
    run = resolve()
    chosen = _stages(FLAGS.stage)
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
    root = Path(FLAGS.workdir) if FLAGS.workdir else Path("runs") / (f"{name}_smoke" if FLAGS.smoke else name)
    return stages.Run(
        name,
        experiment,
        Workdir(root),
        data_dir=FLAGS.data_dir,
        download=FLAGS.download,
        deterministic=FLAGS.deterministic,
        progress=Progress(FLAGS.quiet),
        say=lambda line: print(line, flush=True),
        prepare=lambda: _start_tensorflow(FLAGS.deterministic),
        command=shlex.join(["python", "main.py", *sys.argv[1:]]),
    )


def _stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return stages.STAGES
    if name not in stages.STAGES:
        raise ConfigError(unknown("--stage", name, "a stage", ("all", *stages.STAGES)))
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
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
