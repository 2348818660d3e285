"""The command line: absl flags in, stages run, one line out for whatever is wrong.

Nothing here imports TensorFlow before a stage needs it, so `--help`, `--list` and wrong flags answer at once: what is
imported above is what `--help` needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from end2_tf import console, flags, interrupts, registry
from end2_tf.console import Answer
from end2_tf.errors import ConfigError, End2Error, unknown
from end2_tf.flags import FLAGS, GROUPS, SERVE, SERVING, help_text
from end2_tf.interrupts import Terminated

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
_GOES_ON = "Run the same command again: it goes on from here."


def start() -> NoReturn:
    """Runs the process's own command line, and ends it."""
    interrupts.install()
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code, which `help_text` explains."""
    try:
        answer = _main(argv)
        answer.show(as_json=FLAGS.json)
        return answer.exit_code
    except End2Error as error:
        return _failed(argv, type(error).__name__, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed(argv, "Interrupted", f"interrupted. {_GOES_ON}", EXIT_INTERRUPTED)
    except Terminated:
        return _failed(argv, "Terminated", f"terminated. {_GOES_ON}", EXIT_TERMINATED)
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _failed(argv: Sequence[str], kind: str, message: str, code: int) -> int:
    """Tells people on standard error, and a program that asked for JSON on standard output; returns the code."""
    is_stopped = code in (EXIT_INTERRUPTED, EXIT_TERMINATED)  # in the middle of a line of progress
    start = "\n" if is_stopped else f"{console.paint('error:', 'red', sys.stderr)} "
    print(f"{start}{message}", file=sys.stderr)
    error = {"kind": kind, "message": message, "exit_code": code}
    # Wrong flags leave them unparsed.
    Answer(data={"error": error}).show(as_json=FLAGS.json if FLAGS.is_parsed() else "--json" in argv)
    return code


def _main(argv: Sequence[str]) -> Answer:
    command = flags.read(argv)
    if FLAGS.help:
        return Answer(help_text(), {"flags": {name: FLAGS[name].help for group in GROUPS.values() for name in group}})
    if command == "list":
        return listing()
    if FLAGS.json and FLAGS.stage == SERVE:
        raise ConfigError(f"--json is given, but --stage={SERVE} serves until it is stopped. Leave --json out.")
    from end2_tf import commands

    if command == "run":
        return commands.run(_stages(FLAGS.stage))
    done: Answer = getattr(commands, command)()
    return done


def _stages(name: str) -> tuple[str, ...]:
    if name == "all":
        return registry.STAGES
    if name not in (*registry.STAGES, *registry.ASKED_FOR):
        raise ConfigError(unknown("--stage", name, "a stage", ("all", *registry.STAGES, *registry.ASKED_FOR, *SERVING)))
    return (name,)


def listing() -> Answer:
    """Returns the names that flags and fields take."""
    from end2_tf import config, grid

    studies = registry.studies()
    names = {
        "experiments": sorted(registry.experiments()),
        "studies": sorted(studies),
        "data": [n for n in registry.names("data source") if n != "tfds"],
        "backbones": registry.names("backbone"),
        "losses": registry.names("loss"),
        "methods": list(config.default_methods()),
    }
    lines = ["Experiments (--experiment):", *(f"  {name}" for name in names["experiments"])]
    lines += ["", "Studies (--study):"]
    for name in names["studies"]:
        lines.append(f"  {name}" + (f" {grid.ANY_EXPERIMENT}" if isinstance(studies[name], grid.Template) else ""))
    lines += ["", "Data (data.name, data.auxiliary, data.ood):", *(f"  {name}" for name in names["data"])]
    lines += [
        "  any image classification set of TFDS by name: mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, …"
    ]
    lines += ["", "Backbones (ensemble.backbone, student.backbone):", *(f"  {name}" for name in names["backbones"])]
    lines += ["", "Losses (methods.<name>.loss):", *(f"  {name}" for name in names["losses"])]
    lines += ["", "Methods (student.methods):", f"  {', '.join(names['methods'])}"]
    return Answer("\n".join(lines), names)
