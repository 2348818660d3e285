"""The whole pipeline on spirals, small."""

import csv
import functools
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import keras
import numpy as np
import pytest

from end2_tf import cli, config, registry, stages, uncertainty
from end2_tf.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "ensemble.num_members=4",
    "ensemble.epochs=3",
    "student.epochs=4",
    "student.methods=single_matched,end,end2_nll_aux,end2",
    "data.max_test=300",
    "data.max_train=600",
    "ensemble.options.hidden=[16,16]",
)


def _args(workdir, *more, changes=SMALL):
    sets = [part for change in changes for part in ("--set", change)]
    # Networks this small are trained before a second process has started.
    return ["main.py", "--experiment=spirals_mlp_end2", f"--workdir={workdir}", "--jobs=1", *sets, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    assert cli.main(_args(workdir)) == 0
    return workdir


def _rows(workdir):
    with open(workdir / "results.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_results_have_the_promised_columns_models_and_metrics(finished):
    rows = _rows(finished)
    assert list(rows[0]) == ["model", "dataset", "metric", "value", "sd", "n"]
    assert {r["model"] for r in rows} == {
        "single",
        "single_matched",
        "ensemble",
        "end",
        "end2_nll_aux",
        "end2",
        "bayes",
    }
    metrics = {(r["model"], r["metric"]) for r in rows}
    for metric in ("error", "nll", "brier", "ece", "prr", "misclassification_auroc", "misclassification_aupr"):
        assert ("end2", metric) in metrics
    for metric in (
        "knowledge_rank_correlation",
        "ood_auroc_total",
        "ood_auroc_knowledge",
        "ood_aupr_mkl",
        "ood_fpr95_epkl",
    ):
        assert ("end2", metric) in metrics
    assert ("end", "ood_auroc_knowledge") not in metrics  # trained for the mean alone
    ensemble = {r["metric"]: float(r["value"]) for r in rows if r["model"] == "ensemble" and r["dataset"] == "test"}
    assert "knowledge_rank_correlation" not in ensemble  # with itself it would say nothing
    single = next(r for r in rows if r["model"] == "single" and r["metric"] == "error")
    assert single["n"] == "4"
    assert float(single["sd"]) > 0
    assert 0 < float(single["value"]) < 1
    assert json.loads((finished / "results.json").read_text())["severities"] == {}  # no set comes in several


def test_rows_agree_with_the_models_on_disk(finished):
    manifest = next(
        path for path in finished.glob("student/*/manifest.json") if json.loads(path.read_text())["method"] == "end2"
    )
    model = keras.saving.load_model(manifest.parent / "model.keras")
    from end2_tf import config, registry
    from end2_tf.data import dataset

    experiment = config.override(registry.experiments()["spirals_mlp_end2"], list(SMALL))
    data = dataset.load(experiment.data, data_dir=None, download=False, seed=0)
    result = model.evaluate(data.test.inputs, data.test.labels, verbose=0, return_dict=True)
    values = {r["metric"]: float(r["value"]) for r in _rows(finished) if (r["model"], r["dataset"]) == ("end2", "test")}
    assert result["error"] == pytest.approx(values["error"], abs=1e-6)
    assert result["nll"] == pytest.approx(values["nll"], rel=1e-4)


def test_report_is_there(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "spirals_mlp_end2" in page
    assert list((finished / "report").glob("*.png"))


def test_again_is_up_to_date_and_quick(finished, capsys):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    started = time.monotonic()
    assert cli.main(_args(finished)) == 0
    assert time.monotonic() - started < 5
    out = capsys.readouterr().out
    assert out.count("up to date") == 5
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_change_redoes_only_what_it_touches_and_back_is_free(finished, capsys):
    rows = _rows(finished)
    changed = (*SMALL, "student.methods=single_matched,end2", "methods.end2.loss_options.weight=0.2")
    assert cli.main(_args(finished, changes=changed)) == 0
    states = [
        line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith(("ensemble ", "transfer "))
    ]
    assert states[:2] == ["up", "up"]
    assert {r["model"] for r in _rows(finished)} == {"single", "single_matched", "ensemble", "end2", "bayes"}
    assert cli.main(_args(finished)) == 0
    assert "student   up to date" in capsys.readouterr().out
    assert _rows(finished) == rows


def test_recordings_of_members_that_are_gone_are_told(finished, capsys):
    recording = next(finished.glob("transfer/*/manifest.json"))
    before = recording.read_bytes()
    try:
        recording.write_text(json.dumps(json.loads(before) | {"members": ["of another ensemble"]}))
        assert cli.main(_args(finished, "--stage=transfer")) == 0
        assert "the ensemble was trained anew since its predictions were recorded" in capsys.readouterr().out
    finally:
        recording.write_bytes(before)
    assert cli.main(_args(finished, "--stage=transfer")) == 0
    assert "trained anew" not in capsys.readouterr().out


def test_an_altered_member_is_trained_again(tmp_path, capsys):
    changes = (*SMALL, "ensemble.num_members=2", "student.methods=single_matched", "student.epochs=1")
    assert cli.main(_args(tmp_path, "--stage=ensemble", changes=changes)) == 0
    member = next(tmp_path.glob("ensemble/*/member_001.keras"))
    weights = keras.saving.load_model(member).get_weights()
    member.write_bytes(member.read_bytes()[:-50])
    capsys.readouterr()
    assert cli.main(_args(tmp_path, "--stage=ensemble", changes=changes)) == 0
    assert "ensemble  up to date" not in capsys.readouterr().out
    for again, first in zip(keras.saving.load_model(member).get_weights(), weights, strict=True):
        np.testing.assert_allclose(again, first, atol=1e-5)


def test_describe_runs_nothing(tmp_path, capsys):
    workdir = tmp_path / "w"
    assert cli.main(_args(workdir, "--describe")) == 0
    out = capsys.readouterr().out
    assert "FLOPs" in out
    assert "to do" in out
    assert not workdir.exists()


def test_a_stage_alone_tells_what_it_needed(tmp_path, capsys):
    changes = (*SMALL, "ensemble.num_members=1", "student.methods=end2", "student.epochs=1")
    started = time.monotonic()
    assert cli.main(_args(tmp_path, "--stage=report", changes=changes)) == 0
    elapsed, out = time.monotonic() - started, capsys.readouterr().out
    found = re.findall(r"^(ensemble|transfer|student|evaluate|report) +(\d+) s", out, re.MULTILINE)
    assert [stage for stage, _ in found] == ["ensemble", "transfer", "student", "evaluate", "report"]
    assert sum(int(seconds) for _, seconds in found) < elapsed + 5 / 2  # each rounded; none counts another's time


def test_a_report_shows_its_own_numbers_after_another_evaluation(finished):
    first = (finished / "results.json").read_bytes()
    assert cli.main(_args(finished, "--stage=evaluate", "--set", "evaluation.num_bins=7")) == 0
    assert (finished / "results.json").read_bytes() != first
    assert cli.main(_args(finished, "--stage=report")) == 0
    assert (finished / "results.json").read_bytes() == first


@pytest.mark.parametrize(
    "more",
    [
        ("transfer.mode=online", "student.mixed_precision=true"),
        (
            *("transfer.mode=clean", "transfer.dtype=float16", "student.backbone=mlp", "student.options.hidden=[8]"),
            *("ensemble.held_out_fraction=0.3", "transfer.inputs=held_out"),
        ),
        ("methods.end2.loss=proxy_reverse_kl", "methods.end2.offset=1", "methods.end2.loss_options={}"),
        ("transfer.mode=views", "transfer.augmentation.jitter=0", "student.optimizer.schedule=one_cycle"),
        ("transfer.mode=views", "transfer.keep=statistics", "transfer.num_members=1"),
        ("methods.end2_aux.loss=prior_network", "methods.end2_aux.loss_options={}", "methods.end2_aux.offset=0.1"),
        ("ensemble.kind=dropout", "ensemble.options.dropout=0.2", "student.methods=end2,end2_aux,hydra_aux"),
        ("ensemble.kind=snapshots", "student.methods=end2,end2_aux,logit_gaussian,self_distribution"),
        (
            "transfer.keep=statistics",
            "transfer.num_members=1",
            "student.methods=end2,end2_aux,hydra,logit_gaussian_aux",
        ),
    ],
)
def test_other_ways_through_the_pipeline(tmp_path, more):
    changes = (
        *SMALL,
        "ensemble.num_members=2",
        "ensemble.epochs=1",
        "student.methods=end2,end2_aux",
        "student.epochs=2",
        *more,
    )
    assert cli.main(_args(tmp_path, "--stage=evaluate", changes=changes)) == 0
    rows = _rows(tmp_path)
    assert {"end2", "end2_aux"} < {r["model"] for r in rows}
    splits = {r["model"] for r in rows if r["metric"] == "knowledge_rank_correlation"}
    assert splits - {"teacher"} == {r["model"] for r in rows} - {"single", "ensemble", "teacher", "bayes"}


def test_snapshots_go_on_from_one_another_and_a_rerun_from_what_is_there(tmp_path, capsys):
    changes = (*SMALL, "ensemble.kind=snapshots", "ensemble.num_members=3", "ensemble.epochs=4")
    assert cli.main(_args(tmp_path, "--stage=ensemble", changes=changes)) == 0
    (folder,) = (tmp_path / "ensemble").iterdir()
    weights = [keras.saving.load_model(path).get_weights() for path in sorted(folder.glob("*.keras"))]
    histories = [json.loads(path.read_text())["history"] for path in sorted(folder.glob("member_*.json"))]
    assert len(weights) == 3
    first, last = histories[0][0]["loss"], histories[0][-1]["loss"]
    assert histories[1][0]["loss"] < (first + last) / 2  # the second round begins where the first ended
    moved = [np.linalg.norm(a[4] - b[4]) / np.linalg.norm(a[4]) for a, b in itertools.pairwise(weights)]
    assert all(0.001 < share < 0.7 for share in moved)
    (folder / "member_002.keras").unlink()
    (folder / "manifest.json").unlink()
    assert cli.main(_args(tmp_path, "--stage=ensemble", changes=changes)) == 0
    again = keras.saving.load_model(folder / "member_002.keras").get_weights()
    np.testing.assert_allclose(again[4], weights[2][4], atol=1e-4)


def test_recorded_predictions_of_any_framework_are_distilled(tmp_path, capsys):
    """What --write_inputs gives, predicted on by anything and shuffled, is all that a run needs; grid included."""
    given = tmp_path / "inputs.npz"
    assert cli.main(_args(tmp_path / "run", f"--write_inputs={given}")) == 0
    assert "inputs and their digests" in capsys.readouterr().out
    with np.load(given) as file:
        inputs, digests = file["inputs"], file["digests"]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(inputs))
    angle = np.arctan2(inputs[:, 1], inputs[:, 0])[:, None, None]
    classes = 2 * np.pi * np.arange(3) / 3
    logits = 3 * np.cos(angle + classes + rng.normal(size=(4, 1)))
    np.savez(tmp_path / "p.npz", digests=digests[order], logits=logits[order].astype(np.float32))
    changes = (
        *SMALL,
        "transfer.mode=clean",
        f"ensemble.predictions={tmp_path / 'p.npz'}",
        "student.methods=end2,hydra_aux",
    )
    assert cli.main(_args(tmp_path / "run", "--stage=evaluate", changes=changes)) == 0
    models = {r["model"] for r in _rows(tmp_path / "run")}
    assert models == {"bayes", "single", "ensemble", "end2", "hydra_aux"}
    (map_file,) = (tmp_path / "run").glob("evaluation/*/map.npz")
    assert map_file.is_file()
    assert cli.main(_args(tmp_path / "run", "--describe", changes=changes)) == 0
    assert "4 recorded predictions" in capsys.readouterr().out
    assert cli.main(_args(tmp_path / "run", "--stage=publish", f"--zoo_dir={tmp_path / 'zoo'}", changes=changes)) == 2
    assert "there is no ensemble to publish" in capsys.readouterr().err
    assert not (tmp_path / "run" / "export").exists()
    np.savez(tmp_path / "p.npz", digests=digests[order[:-50]], logits=logits[order[:-50]].astype(np.float32))
    assert cli.main(_args(tmp_path / "other", changes=changes)) == 2
    assert "has no predictions for" in capsys.readouterr().err
    assert cli.main(_args(tmp_path / "run", f"--write_inputs={given}")) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student.backbone=cnn", "can't be built for inputs of shape (2,)"),
        ("ensemble.options.hidden=[0]", "ensemble.options.hidden.0 is 0"),
        ("ensemble.options.hidden=64", "a list, such as [64,64]"),
        ("ensemble.options.dropout=2", "ensemble.options.dropout is 2"),
        ("student.options.hiden=[3]", "Did you mean 'hidden'"),
        ("methods.end2.loss_options.weight=abc", "methods.end2.loss_options.weight is 'abc'"),
        ("methods.end2.loss_options.wieght=1", "Did you mean 'weight'"),
        ("methods.end2.loss_options.temperature=2", "Set methods.end2.temperature instead"),
        ("methods.end2.temperature=10", "temperature_schedule=anneal"),
        ("methods.single_matched.offset=1", "its loss 'cross_entropy' has no alphas"),
        ("transfer.augmentation.flip=true", "the inputs aren't images"),
        ("data.max_train=2", "at least one example a class"),
        ("ensemble.engine=stacked --set ensemble.options.dropout=0.5", "set ensemble.engine=sequential"),
    ],
)
def test_what_later_stages_would_refuse_stops_before_training(tmp_path, capsys, change, message):
    assert cli.main(_args(tmp_path, changes=(*SMALL, *change.split(" --set ")))) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("ensemble/*/*.keras"))


def test_a_diverged_student_is_not_published(tmp_path, capsys):
    changes = (*SMALL, "student.methods=end2", "student.optimizer.learning_rate=1e30", "student.epochs=2")
    assert cli.main(_args(tmp_path, changes=changes)) == 4
    assert "Try a smaller learning rate" in capsys.readouterr().err
    assert not list(tmp_path.glob("student/*/model.keras"))


# A run that is killed goes on, and ends where it would have ended.


def _start(arguments):
    command = [sys.executable, str(ROOT / "main.py"), *arguments[1:]]
    environment = {**os.environ, "END2_TF_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def _kill_when(process, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.005)
    raise AssertionError(f"never came to the point of the kill:\n{process.communicate()[0]}")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_killed_runs_end_in_the_same_numbers(tmp_path, engine):
    changes = (
        *SMALL,
        f"ensemble.engine={engine}",
        "ensemble.epochs=12",
        "student.epochs=40",
        "ensemble.options.dropout=0.0",
    )
    if engine == "sequential":
        changes = (
            *changes,
            "ensemble.options.dropout=0.1",
            "ensemble.num_members=2",
            "student.methods=single_matched,end2",
        )
    to_the_numbers = ("--deterministic", "--stage=evaluate")
    whole = _start(_args(tmp_path / "whole", *to_the_numbers, changes=changes))
    output = whole.communicate()[0]
    assert whole.returncode == 0, output
    workdir = tmp_path / "killed"
    arguments = _args(workdir, *to_the_numbers, changes=changes)
    pattern = "ensemble/*/.stack_*.npz" if engine == "stacked" else "ensemble/*/.member_*.npz"
    _kill_when(_start(arguments), lambda: list(workdir.glob(pattern)))
    assert not list(workdir.glob("ensemble/*/manifest.json"))
    _kill_when(_start(arguments), lambda: list(workdir.glob("student/*/.checkpoint.npz")))
    again = _start(arguments)
    output = again.communicate()[0]
    assert again.returncode == 0, output
    expected, got = _rows(tmp_path / "whole"), _rows(workdir)
    assert len(expected) == len(got) > 50
    for a, b in zip(expected, got, strict=True):
        assert {**a, "value": 0, "sd": 0} == {**b, "value": 0, "sd": 0}
        assert float(a["value"] or 0) == pytest.approx(float(b["value"] or 0), abs=1e-6)


def test_what_was_measured_on_validation_is_not_published(tmp_path, capsys):
    arguments = _args(tmp_path, "--stage=publish", changes=(*SMALL, "evaluation.split=validation"))
    assert cli.main(arguments) == 2
    assert "evaluation.split is 'validation', but the zoo's numbers are the test set's" in capsys.readouterr().err
    assert not list(tmp_path.glob("ensemble/*"))


def test_two_methods_of_the_same_settings_are_one_student(tmp_path, capsys):
    twin = "methods.twin.loss=cross_entropy"
    changes = (*SMALL, "ensemble.num_members=1", "student.epochs=1", twin, "student.methods=single_matched,twin")
    assert cli.main(_args(tmp_path, "--stage=student", changes=changes)) == 0
    assert len(list(tmp_path.glob("student/*/model.keras"))) == 1


def test_the_transfer_stage_tells_how_much_members_disagree_on_its_inputs(finished, capsys):
    assert cli.main(_args(finished, "--stage=transfer")) == 0
    (folder,) = {path.parent for path in (finished / "transfer").glob("*/manifest.json") if "knowledge" in _json(path)}
    knowledge = _json(folder / "manifest.json")["knowledge"]
    measured = uncertainty.from_members(np.load(folder / "view_000.npy"))["knowledge_uncertainty"]
    assert knowledge["transfer"] == pytest.approx(float(np.mean(measured)), rel=1e-5)
    told = f"{knowledge['transfer']:.2g} nats there, {knowledge['validation']:.2g} on validation inputs"
    assert told in capsys.readouterr().out


def test_the_transfer_stage_tells_where_members_agree_too_much_to_teach(tmp_path, capsys):
    learnt_by_heart = ("data.max_train=60", "ensemble.epochs=300", "transfer.mode=clean")
    changes = (*SMALL, *learnt_by_heart, "transfer.augmentation.jitter=0")
    assert cli.main(_args(tmp_path, "--stage=transfer", changes=changes)) == 0
    told = capsys.readouterr().out
    assert "members agree more there than on new inputs" in told
    assert "--set transfer.mode=views" in told


def test_an_ensemble_alone_is_evaluated_and_reported(tmp_path):
    assert cli.main(_args(tmp_path, changes=(*SMALL, "student.methods=", "ensemble.epochs=1"))) == 0
    assert {r["model"] for r in _rows(tmp_path)} == {"single", "ensemble", "bayes"}
    assert "ensemble" in (tmp_path / "report.html").read_text(encoding="utf-8")


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_exports_what_is_asked_for_once(finished, capsys):
    wanted = ("--stage=export", "--set", "export.models=end2,ensemble")
    assert cli.main(_args(finished, *wanted)) == 0
    told = capsys.readouterr().out
    assert "spirals_mlp_end2/1: answers" in told
    found = {p.parent.relative_to(finished / "export").as_posix() for p in finished.glob("export/*/*/saved_model.pb")}
    assert found == {"spirals_mlp_end2/1", "spirals_mlp_ensemble/1"}
    assert cli.main(_args(finished, *wanted)) == 0
    assert "up to date" in capsys.readouterr().out
    assert cli.main(_args(finished, *wanted, "--set", "export.coverage=0.8", "--set", "export.models=end2")) == 0
    assert (finished / "export" / "spirals_mlp_end2" / "2" / "saved_model.pb").is_file()


def test_only_a_runs_own_models_are_exported(finished, capsys):
    assert cli.main(_args(finished, "--stage=export", "--set", "export.models=end2_auxx")) == 2
    assert "export.models" in capsys.readouterr().err
    assert cli.main(_args(finished, "--stage=export")) == 2  # end2_aux, which this run doesn't train
    assert "'end2_aux'" in capsys.readouterr().err


# An ensemble by an array of jobs.

ARRAY = (*SMALL, "ensemble.num_members=3", "ensemble.epochs=2", 'ensemble.options={"hidden": [8], "dropout": 0.1}')


def test_members_by_an_array_of_jobs_are_those_of_one_run(tmp_path, capsys):
    array, whole = tmp_path / "array", tmp_path / "whole"
    for members, told in (
        ("2:3", "members 2 to 2; 2 of 3 are missing"),
        ("0:2", "all 3 members are there; --stage=ensemble without --members puts them together"),
    ):
        arguments = _args(array, "--stage=ensemble", f"--members={members}", "--deterministic", changes=ARRAY)
        assert cli.main(arguments) == 0
        assert told in capsys.readouterr().out
        assert not list(array.glob("ensemble/*/manifest.json"))
    trained = {path: path.stat().st_mtime_ns for path in array.glob("ensemble/*/member_*.keras")}
    for folder in array, whole:
        assert cli.main(_args(folder, "--stage=ensemble", "--deterministic", changes=ARRAY)) == 0
    assert trained == {path: path.stat().st_mtime_ns for path in array.glob("ensemble/*/member_*.keras")}
    (one,), (other,) = (folder.glob("ensemble/*/manifest.json") for folder in (array, whole))
    assert _json(one)["weights"] == _json(other)["weights"]
    assert not list(array.glob("ensemble/*/.member_*"))


def test_a_member_that_another_job_trains_is_left_to_it(tmp_path, capsys):
    arguments = _args(tmp_path, "--stage=ensemble", "--members=0:2", changes=ARRAY)
    assert cli.main(_args(tmp_path, "--stage=ensemble", "--members=2:3", changes=ARRAY)) == 0
    (folder,) = tmp_path.glob("ensemble/*")
    with filelock.FileLock(folder / ".member_001.lock"):
        assert cli.main(arguments) == 3
    said = capsys.readouterr().err
    assert ".member_001.lock. Wait for it, or leave out what it does." in said
    assert not (folder / "member_000.keras").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--members=3"], "--members is '3'. Allowed: first:end, for instance 0:3 for all of ensemble.num_members."),
        (["--members=2:2"], "--members is '2:2'. Allowed: first:end"),
        (["--members=0:4"], "--members is '0:4'. Allowed: first:end"),
        (["--members=0:1", "--stage=all"], "--members is for training members. Add --stage=ensemble"),
        (["--members=0:1", "--set", "ensemble.models=x.keras"], "--members is for training members."),
        (["--launcher=slurm"], "--launcher is 'slurm', which isn't a launcher."),
        (["--ray_address=x:1"], "--ray_address is given, but --launcher is 'local'. Add --launcher=ray."),
        (["--launcher=ray", "--strategy=mirrored:2"], "but Ray gives each task a device. Leave one out."),
        (["--strategy=mirror"], "--strategy is 'mirror'. Allowed: auto, one_device, mirrored"),
        (["--strategy=workers:2"], "--strategy is 'workers:2', which is for students. Say --stage=student"),
        (["--members=0:1", "--deterministic", "--set", "ensemble.options.dropout=0"], "Set ensemble.engine=sequential"),
    ],
)
def test_what_cant_be_launched(tmp_path, capsys, more, message):
    assert cli.main([*_args(tmp_path, "--stage=ensemble", changes=ARRAY), *more]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("ensemble/*/*.keras"))


def test_workers_train_students_and_nothing_else(tmp_path, capsys, monkeypatch):
    cluster = {"worker": ["a:1", "b:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}}))
    assert cli.main(_args(tmp_path, "--stage=ensemble")) == 2
    assert "Run --stage=transfer first, without TF_CONFIG, then --stage=student." in capsys.readouterr().err


def test_space_is_asked_for_what_is_still_to_be_written(tmp_path, monkeypatch):
    experiment = config.override(registry.experiments()["spirals_mlp_end2"], [*SMALL, "student.methods=end2"])
    asked = []
    monkeypatch.setattr(Workdir, "check_writable", lambda self, needed=0: asked.append(needed))
    run = stages.Run("x", experiment, Workdir(tmp_path), say=lambda line: None)
    run.run(("transfer",))
    *_, members, said = asked
    for path in [*tmp_path.glob("transfer/*/manifest.json"), *tmp_path.glob("ensemble/*/manifest.json")]:
        path.unlink()
    next(tmp_path.glob("ensemble/*/member_000.json")).unlink()
    asked.clear()
    stages.Run("x", experiment, Workdir(tmp_path), say=lambda line: None).run(("transfer",))
    num = experiment.ensemble.num_members
    assert asked[-2] == pytest.approx(members / num, abs=1)
    assert asked[-1] < 0.3 * said


def test_recordings_by_tasks_are_those_of_one_process(tmp_path):
    experiment = config.override(
        registry.experiments()["spirals_mlp_end2"], [*SMALL, "transfer.mode=views", "student.methods=end2,end2_aux"]
    )

    def launch(tasks, run, report):
        kinds.append([(task.kind, task.method) for task in tasks])
        for task in reversed(tasks):  # whatever the order
            run.train(task, functools.partial(report, task))

    kinds, found = [], []
    for name, how in (("here", None), ("elsewhere", launch)):
        run = stages.Run("x", experiment, Workdir(tmp_path / name), launch=how, say=lambda line: None)
        run.run(("transfer",))
        manifests = sorted((tmp_path / name).glob("transfer/*/manifest.json"))
        found.append([_json(path)["files"] for path in manifests])
    assert found[0] == found[1]
    assert kinds == [[("recording", "")] * 10 + [("recording", "auxiliary")]]  # views, and auxiliary inputs as they are


def test_a_finished_run_answers_without_tensorflow(finished):
    """So that a look at what is there takes a second, and prints nothing of TensorFlow's."""
    code = f"import sys; from end2_tf import cli; cli.main({_args(finished)!r}); sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
