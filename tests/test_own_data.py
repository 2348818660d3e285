"""Own data and own Keras files, from the command line."""

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from end2_tf import cli

FIXTURE = Path(__file__).parent / "fixtures" / "fashion_mnist_30.npz"
SMALL = (
    "student.epochs=2",
    "student.methods=single_matched,end,end2_nll,end2",
    "ensemble.num_members=2",
    "ensemble.epochs=1",
    "methods.end2_nll.temperature=1",  # nothing can be annealed in two epochs
)


def _run(workdir, *changes, stage="all"):
    sets = [part for change in changes for part in ("--set", change)]
    how = [f"--workdir={workdir}", f"--stage={stage}", "--jobs=1"]
    return cli.main(["main.py", "--experiment=own_data_end2", *how, *sets])


def _models(workdir):
    with open(workdir / "results.csv", encoding="utf-8") as file:
        return {row["model"] for row in csv.DictReader(file)}


def _features(path, num=90):
    rng = np.random.default_rng(0)
    labels = np.arange(num) % 3
    inputs = (rng.normal(size=(num, 4)) + 2 * labels[:, None]).astype(np.float32)
    np.savez(path, x_train=inputs, y_train=labels, x_test=inputs[:30] + 0.1, y_test=labels[:30])
    return path


def test_images_of_ones_own(tmp_path):
    with np.load(FIXTURE) as file:
        arrays = {key: file[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    many = {k: np.repeat(v, 4, axis=0) for k, v in arrays.items()}
    np.savez(tmp_path / "my.npz", **many)
    assert _run(tmp_path / "run", f"data.path={tmp_path / 'my.npz'}", *SMALL) == 0
    assert _models(tmp_path / "run") == {"single", "single_matched", "ensemble", "end", "end2_nll", "end2"}


@pytest.mark.parametrize("closing", [None, "softmax"])
def test_own_keras_members_are_distilled(tmp_path, capsys, closing):
    path = _features(tmp_path / "my.npz")
    with np.load(path) as file:
        x, y = file["x_train"], file["y_train"]
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, closing)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=closing is None))
        model.optimizer.learning_rate = 0.05
        model.fit(x, y, epochs=10, verbose=0)
        model.save(tmp_path / f"member_{seed}.keras")
    changes = (f"data.path={path}", f"ensemble.models={tmp_path}", *SMALL)  # the folder
    assert _run(tmp_path / "run", *changes, stage="evaluate") == 0
    out = capsys.readouterr().out
    assert "your 3 members" in out
    assert "81 inputs, 3 members" in out  # and no auxiliary ones: a tenth of 90 is held out
    assert "near chance" not in out
    student = keras.saving.load_model(next((tmp_path / "run").glob("student/*/model.keras")))
    assert [layer.units for layer in student.backbone.layers if isinstance(layer, keras.layers.Dense)] == [8, 3]
    assert not list((tmp_path / "run").glob("ensemble/*/*.keras"))  # yours stay where they are


def test_members_of_other_classes_are_refused_before_training(tmp_path, capsys):
    path = _features(tmp_path / "my.npz")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]).save(tmp_path / "m.keras")
    assert _run(tmp_path / "run", f"data.path={path}", f"ensemble.models={tmp_path}/m.keras", *SMALL) == 2
    assert "know 5 classes, but the data has 3" in capsys.readouterr().err


def test_images_in_shards_go_all_the_way(tmp_path, capsys):
    with np.load(FIXTURE) as file:
        arrays = {key: np.repeat(file[key], 4, axis=0) for key in ("x_train", "y_train", "x_test", "y_test")}
    order = np.random.default_rng(0).permutation(len(arrays["y_train"]))
    arrays |= {key: arrays[key][order] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "my.npz", **arrays)
    np.savez(tmp_path / "extra.npz", x_train=255 - arrays["x_train"], x_test=arrays["x_test"])
    changes = (
        f"data.path={tmp_path / 'my.npz'}",
        "data.shard_rows=16",
        f'data.auxiliary={{"name": "own_data", "options": {{"path": "{tmp_path / "extra.npz"}"}}}}',
        *SMALL[2:],
        "student.epochs=2",
        "student.methods=single_matched,end2,end2_aux",
        "transfer.mode=views",
        "transfer.num_views=2",
        "transfer.keep_inputs=true",
        'transfer.augmentation={"flip": true, "mixup": 0.5}',
        'transfer.auxiliary_augmentation={"mixup": 0.5}',
    )
    sets = [part for change in changes for part in ("--set", change)]
    plan = ["main.py", "--experiment=own_data_end2", f"--workdir={tmp_path / 'run'}", "--describe", *sets]
    assert cli.main(plan) == 0
    said = capsys.readouterr().out
    assert "Planned for data that aren't in shards yet" in said
    assert "data in shards 0.1 MB" in said
    assert not (tmp_path / "run").exists()
    assert _run(tmp_path / "run", *changes) == 0
    assert _models(tmp_path / "run") == {"single", "single_matched", "ensemble", "end2", "end2_aux"}
    shards = {path.parent.name for path in (tmp_path / "run" / "data").rglob("00001.npy")}
    assert shards == {"train", "auxiliary"}
    # What members were shown is what the student is shown: each view in the inputs' own shards.
    kept = {path.parent.name for path in (tmp_path / "run" / "transfer").glob("*/*/00001.npy")}
    assert kept == {"view_000", "view_001", "inputs_000", "inputs_001"}
    capsys.readouterr()
    assert _run(tmp_path / "run", *changes) == 0
    assert capsys.readouterr().out.count("up to date") == 5
    assert cli.main(plan) == 0
    assert "to do" not in capsys.readouterr().out


def test_inputs_in_shards_arent_stacked(tmp_path, capsys):
    path = _features(tmp_path / "my.npz")
    changes = (f"data.path={path}", "data.shard_rows=16", "ensemble.backbone=mlp", "ensemble.engine=stacked")
    assert _run(tmp_path / "run", *changes) == 2
    assert "ensemble.engine is 'stacked', which has all inputs in memory" in capsys.readouterr().err
