"""The command line as a user meets it: processes of their own, exit codes and one-line messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from end2_tf import cli, commands, config, flags, registry

ROOT = Path(__file__).resolve().parents[1]


def _run(capsys, *args):
    code = cli.main(["main.py", *args])
    return code, *capsys.readouterr()


def _process(*args, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
    )


def test_help_is_one_screen_and_exits_0():
    done = _process("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 40
    assert done.stderr == ""


def test_help_list_and_wrong_flags_import_no_tensorflow():
    code = (
        "import sys; from end2_tf import cli\n"
        "for args in (['--help'], ['--list'], ['--study=list'], ['--study=x'],\n"
        "             ['--experiment=x'], ['--experiment=spirals_mlp_end2', '--set=a.b=3']):\n"
        "    cli.main(['main.py', *args])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_list_names_everything(capsys):
    code, out, _ = _run(capsys, "--list")
    assert code == 0
    for name in (
        "spirals_mlp_end2",
        "fashion_mnist_mlp_inputs",
        "temperature of any experiment, with --experiment=NAME",
        "own_data_end2",
        "ring",
        "vgg16",
        "dirichlet_nll",
        "mean_precision",
        "end2_nll_aux",
    ):
        assert name in out


def test_studies_are_listed_with_their_questions(capsys):
    code, out, _ = _run(capsys, "--study=list")
    assert code == 0
    lines = out.splitlines()
    asked = lines.index("num_members of any experiment, with --experiment=NAME")
    assert lines[asked + 1].endswith("does a student need to learn from?")
    assert "fashion_mnist_mlp_inputs of fashion_mnist_mlp_end2" in lines


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--experiment=spiral_mlp_end2"], "Did you mean 'spirals_mlp_end2'"),
        ([], "--experiment is missing"),
        (["--experiment=spirals_mlp_end2", "--set", "student.epoch=3"], "Did you mean 'epochs'"),
        (["--experiment=spirals_mlp_end2", "--set=student.epochs=-1"], "student.epochs is -1"),
        (["--experiment=spirals_mlp_end2", "--stage=studnt"], "Did you mean 'student'"),
        (["--experiment=spirals_mlp_end2", "--seed=-4"], "seed is -4"),
        (["--experiment=spirals_mlp_end2", "--jobs=-1"], "--jobs is -1. Allowed: 1 or more, or 0"),
        (["--experiment=spirals_mlp_end2", "--jobs=two"], "--jobs is 'two'. Allowed: a whole number. See --help."),
        (["--study=fashion_mnist_mlp_input"], "Did you mean 'fashion_mnist_mlp_inputs'"),
        (["--study=fashion_mnist_mlp_inputs", "--experiment=x"], "--study and --experiment were both given"),
        (["--study=temperature"], "--study=temperature can be asked of any experiment, but --experiment is missing"),
        (["--study=temperature", "--experiment=spiral"], "--experiment is 'spiral', which isn't an experiment. Did"),
        (["--study=aux_share", "--experiment=own_data_end2"], "there is no share of auxiliary inputs to vary"),
        (["--study=fashion_mnist_mlp_inputs", "--stage=student"], "a study runs whole. Leave --stage out."),
        (["--study=fashion_mnist_mlp_inputs", "--set=evaluation.split=test"], "Set evaluation.split=validation."),
        (["--study=fashion_mnist_mlp_inputs", "--set=data.ood=mnist"], "'mnist', a test set of the experiment"),
        (["--study=fashion_mnist_mlp_inputs", "--zoo_dir=http://x"], "a URL can't be written to"),
        (["--experimnt=x"], "--experimnt is no flag. Did you mean '--experiment'? See --help."),
        (["spirals_mlp_end2"], "is no flag"),
    ],
)
def test_wrong_flags_are_one_line(capsys, args, message):
    code, out, err = _run(capsys, *args)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def _npz(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.normal(size=(60, 2)).astype(np.float32),
        "y_train": np.arange(60) % 3,
        "x_test": rng.normal(size=(30, 2)).astype(np.float32),
        "y_test": np.arange(30) % 3,
    }
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


NAN = np.full((60, 2), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": np.zeros((30, 5), np.float32)}, "test inputs have shape (5,)"),
        ({"x_train": NAN}, "nan"),
        ({"y_train": np.arange(60) - 5}, "-5"),
        ({"y_train": np.arange(59) % 3}, "59"),
        ({"y_test": None}, "test has no labels"),
    ],
)
def test_bad_own_data_stops_before_training(capsys, tmp_path, changes, message):
    path = _npz(tmp_path / "my.npz", **changes)
    workdir = tmp_path / "run"
    args = [f"--workdir={workdir}", "--set", f"data.path={path}"]
    code, _, err = _run(capsys, "--experiment=own_data_end2", *args)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(workdir.glob("ensemble/*/*.keras"))


def test_missing_own_data(capsys, tmp_path):
    code, _, err = _run(capsys, "--experiment=own_data_end2", f"--workdir={tmp_path}")
    assert code == 2
    assert "data.path" in err
    code, _, err = _run(capsys, "--experiment=own_data_end2", f"--workdir={tmp_path}", "--set", "data.path=nothing.npz")
    assert code == 2
    assert "nothing.npz" in err


def test_tfds_set_that_is_not_there(capsys, tmp_path):
    args = [f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"]
    code, _, err = _run(capsys, "--experiment=cifar10_cnn_end2", *args)
    assert code == 2
    assert "cifar10" in err
    assert "--download" in err
    assert err.count("\n") == 1


def test_a_study_whose_data_are_not_there(capsys, tmp_path):
    args = [f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"]
    code, _, err = _run(capsys, "--study=fashion_mnist_mlp_inputs", *args)
    assert code == 2
    assert "fashion_mnist" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_workdir_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = _run(capsys, "--experiment=spirals_mlp_end2", f"--workdir={tmp_path / 'file' / 'run'}")
    assert code == 3
    assert "--workdir" in err
    assert err.count("\n") == 1


def test_json_is_the_answer_alone(tmp_path):
    sets = [f"--set={each}" for each in ("student.epochs=2", "ensemble.epochs=2", "student.methods=end2")]
    args = ["--experiment=spirals_mlp_end2", "--smoke", f"--workdir={tmp_path / 'run'}", "--json", *sets]
    done = _process(*args)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [stage["stage"] for stage in answer["stages"]] == ["ensemble", "transfer", "student", "evaluate", "report"]
    assert all(stage["seconds"] >= 0 and not stage["was_ready"] for stage in answer["stages"])
    assert {"model", "dataset", "metric", "value", "sd", "n"} <= set(answer["results"][0])
    assert Path(answer["report"]).is_file()
    assert answer["next"].startswith("python main.py --stage=export --experiment=spirals_mlp_end2 --smoke")
    assert "spirals_mlp_end2 in" in done.stderr
    described = json.loads(_process(*args, "--describe").stdout)
    assert set(described["states"].values()) == {"up to date"}
    assert described["config"]["student"]["epochs"] == 2


def test_json_of_an_error_has_its_kind_and_exit_code(capsys):
    code, out, err = _run(capsys, "--zoo=nothing", "--input=x.npz", "--json")
    assert json.loads(out) == {"error": {"kind": "ZooError", "message": err[len("error: ") : -1], "exit_code": code}}
    code, out, _ = _run(capsys, "--jobs=two", "--json")
    assert json.loads(out)["error"]["exit_code"] == code == 2


@pytest.mark.parametrize("part", [["--stage=transfer"], ["--stage", "transfer"], ["-stage=transfer", "--json"]])
def test_the_next_command_is_this_one_with_another_stage(part):
    flags.read(["main.py", *part, "--experiment=spirals_mlp_end2", "--set", "data.name=a b"])
    expected = "python main.py --stage=student --experiment=spirals_mlp_end2 --set 'data.name=a b'"
    experiment = config.Experiment()
    assert commands._next("student", experiment) == expected


@pytest.mark.parametrize(
    ("methods", "more"),
    [
        (("end2_aux",), []),
        (("end", "end2"), ["--set=export.models=end2"]),
        (("end2_nll", "end"), ["--set=export.models=end"]),
        ((), ["--set=export.models=ensemble"]),
    ],
)
def test_what_is_exported_next_is_there(methods, more):
    flags.read(["main.py", "--experiment=spirals_mlp_end2"])
    experiment = config.override(registry.experiments()["spirals_mlp_end2"], {"student.methods": methods})
    expected = ["python", "main.py", "--stage=export", "--experiment=spirals_mlp_end2", *more]
    assert commands._next("export", experiment).split() == expected
    config.check_exported(config.override(experiment, [part.partition("=")[2] for part in more]))


def test_what_is_served_next_takes_settings_of_the_server_alone():
    given = ["--set", "student.epochs=2", "--smoke", "--set=serving.port=0", "--quiet", "--set=export.coverage=0.8"]
    given += ["--seed", "3", "--jobs=2", "--nodownload", "--data_dir=x"]
    flags.read(["main.py", "--stage=export", "--experiment=spirals_mlp_end2", *given])
    expected = "python main.py --stage=serve --experiment=spirals_mlp_end2 --smoke --set=serving.port=0"
    assert commands._next("serve", config.Experiment()) == expected
    assert flags.read(expected.split()[1:]) == "serve_run"


@pytest.mark.parametrize("strategy", [["--strategy=workers:2"], ["--strategy", "workers:2"]])
def test_what_comes_after_students_is_for_one_process(strategy):
    flags.read(["main.py", "--stage=student", "--experiment=spirals_mlp_end2", *strategy, "--smoke"])
    expected = "python main.py --stage=evaluate --experiment=spirals_mlp_end2 --smoke"
    assert commands._next("evaluate", config.Experiment()) == expected
