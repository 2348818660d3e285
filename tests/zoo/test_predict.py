"""Predictions from the command line: what is read, what is written, and each way to be wrong."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from end2_tf import cli, predictions, zoo
from end2_tf.zoo import metadata

STUDENT, MEAN, ENSEMBLE, PLANE = (
    "fashion_mnist_cnn_end2_aux",
    "fashion_mnist_cnn_end",
    "fashion_mnist_cnn_ensemble",
    "spirals_mlp_end2_aux",
)
UNCERTAINTIES = ["total_uncertainty", "data_uncertainty", "knowledge_uncertainty"]
PROBS = ["prob_shirt", "prob_coat, long", "prob_bag"]


def _run(capsys, zoo_dir, *args):
    code = cli.main(["main.py", f"--zoo_dir={zoo_dir}", *map(str, args)])
    return code, *capsys.readouterr()


def _read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def images(tmp_path):
    return np.random.default_rng(3).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    ("entry", "columns"), [(STUDENT, UNCERTAINTIES), (ENSEMBLE, UNCERTAINTIES), (MEAN, UNCERTAINTIES[:1])]
)
def test_arrays_to_csv(capsys, zoo_dir, tmp_path, images, entry, columns):
    np.savez(tmp_path / "mine.npz", x=images, y=np.zeros(4))
    code, out, err = _run(capsys, zoo_dir, f"--zoo={entry}", f"--input={tmp_path / 'mine.npz'}")
    assert (code, err) == (0, "")
    target = tmp_path / "mine_predictions.csv"
    assert out == f"4 predictions: {target}\n"
    rows = _read(target.read_text(encoding="utf-8"))
    assert list(rows[0]) == ["input", "predicted_class", "confidence", *columns, *PROBS]
    assert [r["input"] for r in rows] == ["0", "1", "2", "3"]
    if entry == ENSEMBLE:
        wanted = zoo.load_ensemble(entry, source=zoo_dir).uncertainty(images)
    else:
        wanted = zoo.load(entry, source=zoo_dir).predict(images, verbose=0)
    for name in columns:
        np.testing.assert_allclose([float(r[name]) for r in rows], wanted[name], rtol=1e-4, atol=1e-9)
    probs = np.array([[float(r[c]) for c in PROBS] for r in rows])
    np.testing.assert_allclose(probs, wanted["probs"], rtol=1e-4)
    classes = [c.removeprefix("prob_") for c in PROBS]
    assert [r["predicted_class"] for r in rows] == [classes[i] for i in probs.argmax(1)]
    np.testing.assert_allclose([float(r["confidence"]) for r in rows], probs.max(1), rtol=1e-5)


def test_a_folder_of_images_of_any_size(capsys, zoo_dir, tmp_path, images):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(images[0, ..., 0]).save(folder / "b.png")
    Image.fromarray(np.repeat(images[1], 3, axis=2)).resize((30, 20)).save(folder / "deep" / "a.jpg")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"not one either")
    code, out, _ = _run(capsys, zoo_dir, f"--zoo={STUDENT}", f"--input={folder}", "--output=-")
    assert code == 0
    rows = _read(out)
    assert [r["input"] for r in rows] == ["b.png", "deep/a.jpg"]
    wanted = zoo.load(STUDENT, source=zoo_dir).predict(images[:1], verbose=0)["probs"][0]
    np.testing.assert_allclose([float(rows[0][c]) for c in PROBS], wanted, rtol=1e-4)


def test_a_single_image_and_a_named_output(capsys, zoo_dir, tmp_path, images):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "one.png")
    target = tmp_path / "new" / "out.csv"
    for _ in range(2):  # again replaces it
        code, out, _ = _run(
            capsys, zoo_dir, f"--zoo={STUDENT}", f"--input={tmp_path / 'one.png'}", f"--output={target}"
        )
        assert code == 0
        assert str(target) in out
    assert [r["input"] for r in _read(target.read_text())] == ["one.png"]


def test_json_has_names_as_they_are(capsys, zoo_dir, tmp_path, images):
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "@2x.png")
    args = (f"--zoo={STUDENT}", f"--input={tmp_path / '@2x.png'}", "--output=-")
    _, out, _ = _run(capsys, zoo_dir, *args)
    (row,) = _read(out)
    assert row["input"] == "'@2x.png"  # a spreadsheet would compute it
    _, out, _ = _run(capsys, zoo_dir, *args, "--json")
    (record,) = json.loads(out)["predictions"]
    assert record == {k: v if k == "predicted_class" else float(v) for k, v in row.items() if k != "input"} | {
        "input": "@2x.png"
    }


def test_json_tells_classes_as_they_are_and_decisions_as_such():
    found = {"probs": np.array([[0.75, 0.25], [0.25, 0.75]]), "abstain": np.array([True, False])}
    table = predictions.table(["=a", "b\x1b"], found, ["-x", "+3"])
    assert table.records()[0] == {
        "input": "=a", "predicted_class": "-x", "confidence": 0.75, "prob_-x": 0.75, "prob_+3": 0.25, "abstain": True,
    }  # fmt: skip
    assert table.csv().splitlines() == [
        "input,predicted_class,confidence,prob_-x,prob_+3,abstain",
        "'=a,'-x,0.75,0.75,0.25,true",
        "b\\x1b,+3,0.75,0.25,0.75,false",
    ]


@pytest.mark.parametrize("key", ["x", "x_test", "anything"])
def test_features_under_any_name_that_is_clear(capsys, zoo_dir, tmp_path, key):
    np.savez(tmp_path / "p.npz", **{key: np.ones((3, 2))})
    code, out, _ = _run(capsys, zoo_dir, f"--zoo={PLANE}", f"--input={tmp_path / 'p.npz'}", "--output=-")
    assert code == 0
    assert len(_read(out)) == 3


def test_images_of_other_channels_and_sizes_in_an_array(capsys, zoo_dir, tmp_path):
    np.savez(tmp_path / "p.npz", x=np.zeros((2, 16, 12, 3), np.int64))
    code, out, _ = _run(capsys, zoo_dir, f"--zoo={STUDENT}", f"--input={tmp_path / 'p.npz'}", "--output=-")
    assert code == 0
    assert len(_read(out)) == 2


@pytest.mark.parametrize(
    ("entry", "arrays", "message"),
    [
        (PLANE, {"a": np.ones((3, 2)), "b": np.ones(3)}, "has no array x or x_test (arrays: a, b)"),
        (PLANE, {"x": np.ones((3, 5))}, "has shape (3, 5), but the model takes (n, 2)"),
        (PLANE, {"x": np.array([[1.0, np.nan]])}, "is nan"),
        (PLANE, {"x": np.ones((0, 2))}, "no example"),
        (PLANE, {"x": np.zeros((3, 8, 8), np.uint8)}, "but the model takes (n, 2)"),
        (PLANE, {"x": np.array(["a", "b"])}, "Allowed: whole numbers or floats"),
        (STUDENT, {"x": np.ones((3, 64))}, "but the model takes (n, 8, 8, 1)"),
        (STUDENT, {"x": np.full((3, 8, 8), 0.5)}, "pixels go from 0 to 255. Multiply by 255"),
        (STUDENT, {"x": np.full((3, 8, 8), 127.5)}, "has 127.5, but pixels are whole numbers from 0 to 255. Scale and"),
        (STUDENT, {"x": np.linspace(0, 2, 192).reshape(3, 8, 8)}, "but pixels are whole numbers from 0 to 255"),
        (PLANE, {"x": np.full((3, 8, 8), 0.5)}, "but the model takes (n, 2)"),
        (STUDENT, {"x": np.full((3, 8, 8), 300)}, "whole numbers from 0 to 255"),
        (STUDENT, {"x": np.zeros((3, 8, 8, 2), np.uint8)}, "2 channels where 1 are needed"),
        (STUDENT, {"x": np.array([object()])}, "Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(capsys, zoo_dir, tmp_path, entry, arrays, message):
    np.savez(tmp_path / "p.npz", **arrays)
    code, out, err = _run(capsys, zoo_dir, f"--zoo={entry}", f"--input={tmp_path / 'p.npz'}")
    assert (code, out) == (2, "")
    assert message in err
    assert "pixel_scale" not in err  # an option that only experiments have
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))


def test_inputs_that_are_not_there_or_cannot_be_read(capsys, zoo_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("1,2")
    (tmp_path / "broken.png").write_bytes(b"no png")
    (tmp_path / "broken.npz").write_bytes(b"no npz")
    np.savez(tmp_path / "mine.npz", x=np.zeros((1, 8, 8), np.uint8))
    for entry, name, message in (
        (STUDENT, "min.npz", "Did you mean 'mine.npz'"),
        (STUDENT, "empty", "has no image"),
        (STUDENT, "table.csv", "Allowed: an .npz file, an image, or a folder"),
        (STUDENT, "broken.png", "can't be read as an image"),
        (STUDENT, "broken.npz", "isn't an .npz file"),
        (PLANE, "broken.png", "takes 2 features. Give an .npz file"),
    ):
        code, _, err = _run(capsys, zoo_dir, f"--zoo={entry}", f"--input={tmp_path / name}")
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("output", ["out.txt", "/dev/stdout", "."])
def test_outputs_that_are_no_csv_file(capsys, zoo_dir, tmp_path, output):
    np.savez(tmp_path / "p.npz", x=np.zeros((1, 8, 8), np.uint8))
    args = (f"--zoo={STUDENT}", f"--input={tmp_path / 'p.npz'}", f"--output={output}")
    code, _, err = _run(capsys, zoo_dir, *args)
    assert code == 2
    assert "a file name that ends in .csv, or - for the terminal" in err


def test_an_output_that_cannot_be_written(capsys, zoo_dir, tmp_path):
    np.savez(tmp_path / "p.npz", x=np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out.csv"
    code, _, err = _run(capsys, zoo_dir, f"--zoo={STUDENT}", f"--input={tmp_path / 'p.npz'}", f"--output={target}")
    assert code == 3
    assert "Name another file with --output" in err
    assert err.count("\n") == 1


def test_list(capsys, zoo_dir):
    code, out, _ = _run(capsys, zoo_dir, "--zoo=list")
    assert code == 0
    assert all(name in out for name in zoo.list(source=zoo_dir))


def test_the_environment_names_the_zoo(capsys, zoo_dir, monkeypatch):
    monkeypatch.setenv("END2_TF_ZOO", str(zoo_dir))
    assert cli.main(["main.py", "--zoo=list"]) == 0
    assert STUDENT in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--zoo=fashion_mnist_cnn_end2_axu", "--input=x.npz"], "Did you mean 'fashion_mnist_cnn_end2_aux'"),
        (["--zoo=fashion_mnist_cnn_end"], "--input is missing"),
        (
            ["--input=x.npz"],
            "--input is given, but --experiment has no use for it. Leave it out",
        ),
        (["--output=x.csv"], "--output is given, but --experiment has no use for it."),
        (["--zoo=list", "--experiment=spirals_mlp_end2"], "--experiment is given, but --zoo has no use for it."),
    ],
)
def test_wrong_flags(capsys, zoo_dir, args, message):
    code, out, err = _run(capsys, zoo_dir, *args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--smoke"], "--smoke is no run to publish"),
        (["--zoo_dir=https://example.org/zoo"], "a URL can't be published to"),
    ],
)
def test_runs_that_are_not_published(capsys, tmp_path, args, message):
    workdir = tmp_path / "w"
    code = cli.main(["main.py", "--experiment=spirals_mlp_end2", "--stage=publish", f"--workdir={workdir}", *args])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()


@pytest.mark.slow
def test_publish_as_a_stage_runs_what_is_missing(capsys, tmp_path):
    small = ("ensemble.num_members=2", "ensemble.epochs=1", "student.epochs=1", "student.methods=end2")
    small += ("data.max_test=200", "data.max_train=300", "ensemble.options.hidden=[8,8]")
    sets = [part for change in small for part in ("--set", change)]
    args = ["main.py", "--experiment=spirals_mlp_end2", f"--workdir={tmp_path / 'w'}", f"--zoo_dir={tmp_path / 'zoo'}"]
    assert cli.main([*args, "--stage=publish", *sets]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{stage}" in out for stage in ("ensemble", "transfer", "student", "evaluate", "publish"))
    assert zoo.list(source=tmp_path / "zoo") == [f"spirals_mlp_{m}" for m in ("end2", "ensemble", "single")]
    for name in zoo.list(source=tmp_path / "zoo"):
        zoo.check(name, reproduce=True, source=tmp_path / "zoo")
    commit = json.loads((tmp_path / "w" / "results.json").read_text(encoding="utf-8"))["commit"]
    assert commit == metadata.commit()
    meta = json.loads((tmp_path / "zoo" / "spirals_mlp_end2" / "metadata.json").read_text(encoding="utf-8"))
    assert meta["commit"] == (commit or None)
    assert cli.main([*args, "--stage=publish", *sets, "--set", "student.methods=end"]) == 0
    assert "removed, as this run has no such method: spirals_mlp_end2\n" in capsys.readouterr().out

    models = ("--set", f"ensemble.models={tmp_path / 'zoo' / 'spirals_mlp_ensemble' / 'model.keras'}")
    args = [*args[:2], f"--workdir={tmp_path / 'later'}", args[3], "--stage=publish", *sets, *models]
    assert cli.main(args) == 0
    assert "1 entry, spirals_mlp_end2, beside those of the ensemble that taught them\n" in capsys.readouterr().out
    assert zoo.list(source=tmp_path / "zoo") == [f"spirals_mlp_{m}" for m in ("end", "end2", "ensemble", "single")]
    assert cli.main([*args, "--set", "student.methods=[]"]) == 2
    assert "model.keras is published already, and the run has no students. Name some" in capsys.readouterr().err
