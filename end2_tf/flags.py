"""The flags of the command line."""

from __future__ import annotations

from absl import flags

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
        "jobs", 0, "Members or students trained side by side, a core each; 0: all cores.", flag_values=FLAGS
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
        "compare", None, "EnD against EnD²: a page from the finished runs in these workdirs.", flag_values=FLAGS
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
    ),
    "Look, don't run": ("list", "describe", "compare", "write_inputs", "help"),
    "Published models": ("zoo", "input", "output", "zoo_dir"),
    "Serving (--stage=serve, --stage=query)": ("models", "port", "grpc_port", "server"),
}


def help_text() -> str:
    """Returns the help: one screen, grouped."""
    lines = [
        "Train an ensemble, distil its distribution into one network, evaluate, report, serve.",
        "  python main.py --experiment=spirals_mlp_end2",
        "  python main.py --stage=serve --zoo=spirals_mlp_end2_aux",
        "",
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
