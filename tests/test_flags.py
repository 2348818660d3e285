"""Every flag with every command: what can't be is refused by name, before any work."""

import pytest

from end2_tf import cli, flags
from end2_tf.flags import COMMANDS, FLAGS

NAMES = sorted({FLAGS[name].name for name in FLAGS})
_OF = {  # a value that each flag could have
    "compare": "runs/a",
    "experiment": "spirals_mlp_end2",
    "grpc_port": "0",
    "jobs": "1",
    "launcher": "local",
    "members": "0:1",
    "models": "folder",
    "output": "x.csv",
    "port": "0",
    "seed": "1",
    "server": "http://localhost:1",
    "set": "seed=1",
    "stage": "ensemble",
    "strategy": "auto",
    "study": "temperature",
    "write_inputs": "inputs.npz",
    "zoo": "spirals_mlp_end2",
}
_ASKED = {
    "run": ["--experiment=spirals_mlp_end2"],
    "list": ["--list"],
    "compare": ["--compare=runs/a"],
    "study": ["--study=temperature"],
    "serve": ["--stage=serve"],
    "serve_models": ["--stage=serve", "--models=folder"],
    "serve_run": ["--stage=serve", "--experiment=spirals_mlp_end2"],
    "query": ["--stage=query"],
    "predict": ["--zoo=spirals_mlp_end2"],
    "write_inputs": ["--experiment=spirals_mlp_end2", "--write_inputs=inputs.npz"],
}


def _given(name):
    return f"--{name}" if FLAGS[name].boolean else f"--{name}={_OF.get(name, 'x')}"


def _refusal(capsys, args):
    assert cli.main(["main.py", *args]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", [name for name in NAMES if FLAGS[name].flag_type() in ("int", "bool")])
@pytest.mark.parametrize("value", ["two", "1.5", "1e400", "\x1b[2J", "yes\nno"])
def test_values_of_another_type_are_refused(capsys, name, value):
    err = _refusal(capsys, [f"--{name}={value}"])
    assert f"--{name} is " in err
    assert "Allowed: " in err
    assert "\x1b" not in err


@pytest.mark.parametrize("name", [name for name in NAMES if "string" in FLAGS[name].flag_type()])
def test_empty_values_are_refused(capsys, name):
    assert f"--{name} is empty. Give it a value" in _refusal(capsys, [f"--{name}="])


@pytest.mark.parametrize("name", [name for name in NAMES if not FLAGS[name].boolean])
def test_a_flag_at_the_end_without_its_value_is_refused(capsys, name):
    assert f"--{name}" in _refusal(capsys, [f"--{name}"])


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) > 3])
def test_a_misspelt_flag_is_told_the_right_one(capsys, name):
    wrong = f"{name[0]}{name[2]}{name[1]}{name[3:]}x"
    assert f"Did you mean '--{name}'?" in _refusal(capsys, [f"--{wrong}"])


_ASK = {"compare", "list", "stage", "study", "write_inputs", "zoo"}  # flags that ask for another command
_SERVE = {"models", "experiment"}  # flags that ask --stage=serve for models from elsewhere


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command, (_, used) in COMMANDS.items()
        for name in NAMES
        if name not in {*used, *_ASK, *(_SERVE if command.startswith("serve") else ()), "quiet", "json", "help"}
    ],
)
def test_a_flag_without_use_is_refused_by_name(capsys, command, name):
    err = _refusal(capsys, [*_ASKED[command], _given(name)])
    asked = COMMANDS[command][0]
    assert f"error: --{name} is given, but {asked} has no use for it. Leave it out; it is for " in err
    told = err.partition("it is for ")[2].rstrip(".\n").split(", ")
    assert told == [how for how, used in COMMANDS.values() if name in used]


@pytest.mark.parametrize(
    ("command", "name"),
    [(command, name) for command, (_, used) in COMMANDS.items() for name in sorted(used - _ASK)],
)
def test_a_flag_of_use_is_taken(command, name):
    given = [] if any(part.startswith(f"--{name}") for part in _ASKED[command]) else [_given(name)]
    assert flags.read(["main.py", *_ASKED[command], *given]) == command


def test_every_flag_is_of_some_use():
    assert set().union(*(used for _, used in COMMANDS.values()), {"quiet", "json", "help"}) == set(NAMES)


def test_every_flag_is_in_the_help():
    assert {name for group in flags.GROUPS.values() for name in group} == set(NAMES)
