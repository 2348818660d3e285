"""The flags of the command line, and which of them each command has a use for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from absl import flags

from end2_tf.errors import ConfigError, suggestion
from end2_tf.registry import ASKED_FOR, STAGES

SERVE, QUERY = "serve", "query"
SERVING = (SERVE, QUERY)  # stages of exported models, which need no experiment

FLAGS = flags.FlagValues()


def _define() -> None:
    flags.DEFINE_string("experiment", None, "Which experiment to run; --list names them.", flag_values=FLAGS)
    flags.DEFINE_string(
        "study",
        None,
        "Which study to run, on validation data; 'list' names them, those of any experiment too.",
        flag_values=FLAGS,
    )
    flags.DEFINE_string(
        "stage", "all", f"all, or one of {', '.join((*STAGES, *ASKED_FOR, *SERVING))}.", flag_values=FLAGS
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
        "jobs", 0, "Members or students trained side by side; 0: a core or a GPU each.", flag_values=FLAGS
    )
    flags.DEFINE_string(
        "strategy",
        "auto",
        "Devices of a training: auto, one_device, mirrored, mirrored:N, or workers:N, so many processes.",
        flag_values=FLAGS,
    )
    flags.DEFINE_string(
        "launcher", "local", "Where members and students train: local, or ray, on a cluster.", flag_values=FLAGS
    )
    flags.DEFINE_string("ray_address", None, "The Ray cluster; the one of this machine by default.", flag_values=FLAGS)
    flags.DEFINE_string(
        "members", None, "first:end trains these alone, so that an array of jobs makes an ensemble.", flag_values=FLAGS
    )
    flags.DEFINE_string(
        "workdir", None, "Where results are kept; runs/<experiment or family>/ by default.", flag_values=FLAGS
    )
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data; its own default otherwise.", flag_values=FLAGS)
    flags.DEFINE_boolean("download", False, "Let TFDS fetch data that isn't there.", flag_values=FLAGS)
    flags.DEFINE_boolean(
        "list", False, "List experiments, studies, data sets, backbones and losses.", flag_values=FLAGS
    )
    flags.DEFINE_boolean(
        "describe", False, "Show the resolved experiment, its cost and what is done; run nothing.", flag_values=FLAGS
    )
    flags.DEFINE_string(
        "compare",
        None,
        "EnD against EnD²: a page from the finished runs in these workdirs, and from an earlier page's .json.",
        flag_values=FLAGS,
    )
    flags.DEFINE_string(
        "write_inputs",
        None,
        "Write all inputs of the experiment to this .npz, for ensemble.predictions; run nothing.",
        flag_values=FLAGS,
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
    flags.DEFINE_string(
        "models", None, "Serve these: a models.config, or a folder of exported models.", flag_values=FLAGS
    )
    flags.DEFINE_integer("port", None, "Port of the page and REST; 8501 by default, 0 for any.", flag_values=FLAGS)
    flags.DEFINE_integer("grpc_port", None, "Port of gRPC; 8500 by default, 0 for any.", flag_values=FLAGS)
    flags.DEFINE_string(
        "server",
        None,
        "Ask this server: http://host:8501, or grpc://host:8500; --zoo names its model.",
        flag_values=FLAGS,
    )
    flags.DEFINE_boolean("quiet", False, "No progress.", flag_values=FLAGS)
    flags.DEFINE_boolean("json", False, "The result as one JSON object, alone on standard output.", flag_values=FLAGS)
    flags.DEFINE_boolean("help", False, "Show this help.", short_name="h", flag_values=FLAGS)


_define()

GROUPS = {
    "What to run": ("experiment", "study", "stage", "set", "smoke", "seed", "deterministic"),
    "Where and how": (
        "workdir",
        "data_dir",
        "download",
        "jobs",
        "strategy",
        "launcher",
        "ray_address",
        "members",
        "quiet",
        "json",
    ),
    "Look, don't run": ("list", "describe", "compare", "write_inputs", "help"),
    "Published models": ("zoo", "input", "output", "zoo_dir"),
    "Serving (--stage=serve, --stage=query)": ("models", "port", "grpc_port", "server"),
}

_RUNS = {"experiment", "set", "smoke", "seed", "deterministic", "workdir", "data_dir", "download"}
_TRAINS = {"jobs", "strategy", "launcher", "ray_address", "zoo_dir", "describe"}
_PREDICTS = {"zoo", "input", "output", "deterministic"}
_SERVES = {"stage", "set", "port", "grpc_port", "deterministic"}

COMMANDS: dict[str, tuple[str, set[str]]] = {  # by name: how it is asked for, and the flags that it has a use for
    "list": ("--list", {"list"}),
    "compare": ("--compare", {"compare", "output"}),
    "study": ("--study", {"study", "stage", *_RUNS, *_TRAINS}),
    "serve": (f"--stage={SERVE}", {"zoo", "zoo_dir", *_SERVES}),
    "serve_models": (f"--stage={SERVE} --models", {"models", *_SERVES}),
    "serve_run": (f"--stage={SERVE} --experiment", {"experiment", "workdir", "smoke", *_SERVES}),
    "query": (f"--stage={QUERY}", {"stage", "server", *_PREDICTS}),
    "predict": ("--zoo", {"zoo_dir", *_PREDICTS}),
    "write_inputs": ("--write_inputs", {"write_inputs", *_RUNS, *_TRAINS} - {"describe"}),
    "run": ("--experiment", {"stage", "members", *_RUNS, *_TRAINS}),
}
_given: list[str] = []  # the command line that FLAGS were read from
_EVERYWHERE = {"quiet", "json", "help"}


def read(argv: Sequence[str]) -> str:
    """Reads a command line into FLAGS; returns the command that it asks for, a name of COMMANDS.

    Raises:
        ConfigError: a flag that there isn't, a value that it can't have, or one that the command has no use for.
    """
    _given[:] = argv[1:]
    FLAGS.unparse_flags()
    for name in FLAGS:
        FLAGS[name].unparse()
    try:
        rest = FLAGS(list(argv), known_only=False)[1:]
    except flags.UnrecognizedFlagError as error:
        there = suggestion(f"--{error.flagname}", [f"--{name}" for name in FLAGS])
        raise ConfigError(f"--{error.flagname} is no flag. {there}See --help.") from None
    except flags.Error as error:
        raise ConfigError(_refused(" ".join(str(error).split()))) from None
    if rest:
        raise ConfigError(f"{rest[0]!r} is no flag. Flags start with --; see --help.")
    names = {FLAGS[name].name for name in FLAGS}  # without short ones
    for name in sorted(names):
        if FLAGS[name].value in ("", [""]):
            raise ConfigError(f"--{name} is empty. Give it a value, or leave it out.")
    command = _command()
    asked, used = COMMANDS[command]
    for name in sorted(names - used - _EVERYWHERE):
        if FLAGS[name].present:
            others = [how for how, other in COMMANDS.values() if name in other]
            raise ConfigError(
                f"--{name} is given, but {asked} has no use for it. Leave it out; it is for {', '.join(others)}."
            )
    return command


def given() -> list[str]:
    """Returns the arguments that FLAGS were read from."""
    return list(_given)


def _command() -> str:
    if FLAGS.list:
        return "list"
    if FLAGS.compare is not None:
        return "compare"
    if FLAGS.study is not None:
        return "study"
    if FLAGS.stage == SERVE and FLAGS.models is not None:
        return "serve_models"
    if FLAGS.stage == SERVE and FLAGS.experiment is not None:
        return "serve_run"
    if FLAGS.stage in SERVING:
        return str(FLAGS.stage)
    if FLAGS.zoo is not None:
        return "predict"
    return "run" if FLAGS.write_inputs is None else "write_inputs"


def _refused(why: str) -> str:
    """Says in our words why absl refused a value."""
    found = re.match(r"flag --(\w+)=(.*?): ", why)
    allowed = {"bool": "true or false, and --no before its name", "int": "a whole number"}
    kind = allowed.get(FLAGS[found[1]].flag_type()) if found else None
    if found and kind:
        return f"--{found[1]} is {found[2]!r}. Allowed: {kind}. See --help."
    return f"{why.rstrip('.')}. See --help."


def help_text() -> str:
    """Returns the help: one screen, grouped."""
    lines = [
        "Train an ensemble, distil its distribution into one network, evaluate, report, serve.",
        "  python main.py --experiment=spirals_mlp_end2",
        "  python main.py --stage=serve --zoo=spirals_mlp_end2_aux",
    ]
    for title, names in GROUPS.items():
        lines.append(f"{title}:")
        for name in names:
            flag = FLAGS[name]
            value = "" if flag.boolean else "=…"
            lines.append(f"  --{name + value:<16} {flag.help.splitlines()[0].rstrip(';')}")
    lines += [
        "",
        "Exit codes: 0 done, 2 wrong input, 3 workdir, 4 training failed, 5 server, 130 interrupted, 143 terminated.",
    ]
    return "\n".join(lines)
