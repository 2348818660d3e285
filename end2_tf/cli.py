"""The command line: absl flags in, stages run, one line out for whatever is wrong.

Nothing here imports TensorFlow before a stage needs it, so `--help`, `--list` and wrong flags answer at once: what is
imported above is what `--help` needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import flags

from end2_tf import interrupts, registry
from end2_tf.errors import ConfigError, End2Error, unknown
from end2_tf.flags import FLAGS, QUERY, SERVE, SERVING, help_text
from end2_tf.interrupts import Terminated

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


def start() -> NoReturn:
    """Runs the process's own command line, and ends it."""
    interrupts.install()
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code, which `help_text` explains."""
    try:
        return _main(argv)
    except End2Error as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted. Run the same command again: it goes on from here.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        print("\nterminated. Run the same command again: it goes on from here.", file=sys.stderr)
        return EXIT_TERMINATED
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
    _check_used()
    from end2_tf import commands

    if FLAGS.compare is not None:
        return commands.compare()
    if FLAGS.study is not None:
        return commands.study()
    if FLAGS.stage == SERVE:
        return commands.serve()
    if FLAGS.stage == QUERY:
        return commands.query()
    if FLAGS.zoo is not None:
        return commands.predict()
    return commands.run(_stages(FLAGS.stage))


def _check_used() -> None:
    """Raises ConfigError for flags that what is asked for has no use for."""
    stage = FLAGS.stage
    if stage not in SERVING and FLAGS.zoo is None:
        if FLAGS.input is not None:
            raise ConfigError("--input is given without --zoo=NAME, the model to predict with. See --zoo=list.")
        if FLAGS.output is not None and FLAGS.compare is None:
            raise ConfigError("--output is given without --zoo=NAME, the model to predict with. See --zoo=list.")
    for name in ("models", "port", "grpc_port"):
        if FLAGS[name].value is not None and stage != SERVE:
            raise ConfigError(f"--{name} is given without --stage={SERVE}. Add it, or leave --{name} out.")
    if FLAGS.server is not None and stage != QUERY:
        raise ConfigError(f"--server is given without --stage={QUERY}. Add it, or leave --server out.")


def _stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return registry.STAGES
    if name not in (*registry.STAGES, *registry.ASKED_FOR):
        raise ConfigError(unknown("--stage", name, "a stage", ("all", *registry.STAGES, *registry.ASKED_FOR, *SERVING)))
    return (name,)


def listing() -> str:
    """Returns the names that flags and fields take."""
    from end2_tf import config, grid

    experiments = registry.experiments()
    lines = ["Experiments (--experiment):", *(f"  {name}" for name in sorted(experiments))]
    lines += ["", "Studies (--study):"]
    for name, study in sorted(registry.studies().items()):
        lines.append(f"  {name}" + (f" {grid.ANY_EXPERIMENT}" if isinstance(study, grid.Template) else ""))
    sources = [n for n in registry.names("data source") if n != "tfds"]
    lines += ["", "Data (data.name, data.auxiliary, data.ood):", *(f"  {name}" for name in sources)]
    lines += [
        "  any image classification set of TFDS by name: mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, …"
    ]
    lines += ["", "Backbones (ensemble.backbone, student.backbone):", *(f"  {n}" for n in registry.names("backbone"))]
    lines += ["", "Losses (methods.<name>.loss):", *(f"  {n}" for n in registry.names("loss"))]
    lines += ["", "Methods (student.methods):", f"  {', '.join(config.default_methods())}"]
    return "\n".join(lines)
