"""Publishing a run: what is written, what is replaced, and what is refused."""

import csv
import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest

from end2_tf import config, uncertainty, zoo
from end2_tf.ensemble import Ensemble, StackedEnsemble
from end2_tf.errors import ZooError
from end2_tf.export import savedmodel
from end2_tf.workdir import Workdir
from end2_tf.zoo import manifest, publish

IMAGES, PLANE = (
    [f"{group}_{method}" for method in ("single", "ensemble", "end", "end2_aux")]
    for group in ("fashion_mnist_cnn", "spirals_mlp")
)
STUDENT, ENSEMBLE = IMAGES[3], IMAGES[1]


def _metadata(zoo_dir, entry):
    return json.loads((zoo_dir / entry / "metadata.json").read_text(encoding="utf-8"))


def _rows(zoo_dir):
    with open(zoo_dir / "results.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_digests_reach_every_byte(zoo_dir):
    index = json.loads((zoo_dir / "index.json").read_text())
    assert set(index["entries"]) == {*IMAGES, *PLANE}
    for name, record in index["entries"].items():
        folder = zoo_dir / name
        files = json.loads((folder / "manifest.json").read_text())["files"]
        assert {*files, "manifest.json"} == {str(p.relative_to(folder)) for p in folder.rglob("*")}
        assert record["bytes"] == sum(p.stat().st_size for p in folder.iterdir())
        zoo.check(name, source=zoo_dir)
    names = {p.name for p in zoo_dir.iterdir()}
    assert names == {
        *IMAGES,
        *PLANE,
        "index.json",
        "results.csv",
        "README.md",
        "models.config",
        "pages",
    }  # nothing temporary is left


def test_metadata_say_what_it_is(zoo_dir, image_run):
    meta = _metadata(zoo_dir, STUDENT)
    assert (meta["schema"], meta["entry"], meta["kind"], meta["method"]) == (1, STUDENT, "student", "end2_aux")
    assert (meta["dataset"], meta["num_members"], meta["seed"], meta["num_seeds"]) == ("fashion_mnist", 3, 0, 1)
    assert meta["classes"] == ["shirt", "coat, long", "bag"]
    assert meta["input"] == {"shape": [8, 8, 1], "dtype": "uint8", "range": [0, 255], "unit": "pixel values"}
    assert meta["outputs"]["knowledge_uncertainty"] == {"shape": ["batch"], "axes": ["batch"], "unit": "nats"}
    assert _metadata(zoo_dir, ENSEMBLE)["outputs"] == {
        "logits": {
            "shape": ["batch", 3, 3],
            "axes": ["batch", "members", "classes"],
            "unit": "unnormalised log-probability",
        }
    }
    assert meta["commit"] == "0123456789abcdef0123456789abcdef01234567"  # of the evaluation, not of now
    assert {r["commit"] for r in _rows(zoo_dir)} == {meta["commit"]}
    assert _metadata(zoo_dir, PLANE[3])["num_seeds"] == 3
    assert meta["training_seconds"] == 2.0
    assert _metadata(zoo_dir, IMAGES[0])["training_seconds"] == 2.0  # a third of the ensemble's
    assert meta["weights"]["dtype"] == "float16"
    assert meta["weights"]["parameters"] == zoo.load(STUDENT, source=zoo_dir).count_params()
    assert meta["data"]["fashion_mnist"]["licence"] == "MIT"
    assert {"cifar100", "procedural"} < set(meta["data"])  # its auxiliary inputs
    assert "cifar100" not in _metadata(zoo_dir, IMAGES[2])["data"]
    assert meta["command"] == "python main.py --experiment=fashion_mnist_trial"
    assert "/somewhere" not in (zoo_dir / STUDENT / "metadata.json").read_text()
    found = config.from_dict(json.loads((zoo_dir / STUDENT / "config.json").read_text()))
    assert found == image_run.experiment


def test_golden_inputs_are_half_from_the_test_set_and_no_ood_image(zoo_dir, image_run, plane_run):
    stored = np.load(zoo_dir / STUDENT / "golden.npz")
    inputs, test = stored["inputs"], image_run.data.test.inputs
    assert inputs.shape == (32, 8, 8, 1)
    assert inputs.dtype == np.uint8

    def among(images, others):
        return [any(np.array_equal(i, o) for o in others) for i in images]

    assert all(among(inputs[:16], test))
    assert all(among(255 - inputs[16:24], test))
    for examples in image_run.data.ood.values():
        assert not any(among(inputs, examples.inputs))
    points = np.load(zoo_dir / PLANE[3] / "golden.npz")["inputs"]
    assert all(among(points[16:24], plane_run.data.ood["far"].inputs))
    assert all(among(points[24:], plane_run.data.ood["further"].inputs))


def test_published_weights_predict_what_the_run_predicted(zoo_dir, image_run):
    batch = np.load(zoo_dir / STUDENT / "golden.npz")["inputs"]
    published = zoo.load(STUDENT, source=zoo_dir).predict(batch, verbose=0)
    trained = keras.saving.load_model(image_run.students["end2_aux"]).predict(batch, verbose=0)
    for name in ("probs", "total_uncertainty", "data_uncertainty", "knowledge_uncertainty"):
        np.testing.assert_allclose(published[name], trained[name], atol=1e-3)
    ours = uncertainty.from_members(zoo.load(ENSEMBLE, source=zoo_dir).predict(batch, verbose=0))
    theirs = image_run.ensemble.uncertainty(batch)
    for name in ("probs", "knowledge_uncertainty"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-3)


def test_results_are_the_runs_own(zoo_dir, image_run):
    rows = _rows(zoo_dir)
    assert list(rows[0]) == ["entry", "dataset", "metric", "mean", "sd", "n", "command", "commit"]
    results = json.loads((image_run.evaluation / "results.json").read_text())["rows"]
    ours = {(r["entry"], r["dataset"], r["metric"]): r for r in rows}
    for row in results:
        found = ours[f"fashion_mnist_cnn_{row['model']}", row["dataset"], row["metric"]]
        assert float(found["mean"] or "nan") == pytest.approx(
            row["value"] if row["value"] is not None else np.nan, rel=1e-6, nan_ok=True
        )
        assert int(found["n"]) == row["n"]
    assert len([r for r in rows if r["entry"] in IMAGES]) == len(results)
    single = ours[IMAGES[0], "test", "error"]
    assert single["n"] == "3"
    assert float(single["sd"]) >= 0
    (of_seeds,) = (r for r in rows if (r["entry"], r["dataset"], r["metric"]) == (PLANE[3], "test", "nll"))
    assert of_seeds["n"] == "3"
    assert float(of_seeds["sd"]) > 0


@pytest.fixture
def few(plane_run):
    """A run without students: two entries are published in half the time."""
    return dataclasses.replace(plane_run, students={})


@pytest.fixture
def changed(few, tmp_path):
    """The same run with another error, and without other metrics."""
    folder = shutil.copytree(few.evaluation, tmp_path / "evaluation")
    results = json.loads((folder / "results.json").read_text())
    results["rows"] = [r | {"value": 0.125} for r in results["rows"] if r["metric"] == "error"]
    (folder / "results.json").write_text(json.dumps(results))
    return dataclasses.replace(few, evaluation=folder)


@pytest.fixture
def zoo_copy(zoo_copy):
    """A zoo to damage, without the students of the plane."""
    for name in PLANE[2:]:
        shutil.rmtree(zoo_copy / name)
    publish.refresh(zoo_copy)
    return zoo_copy


def test_what_was_removed_is_gone_from_the_zoos_own_files_too(zoo_copy):
    assert zoo.list(source=zoo_copy) == sorted([*IMAGES, *PLANE[:2]])
    assert {r["entry"] for r in _rows(zoo_copy)} == {*IMAGES, *PLANE[:2]}
    assert PLANE[3] not in (zoo_copy / "README.md").read_text(encoding="utf-8")


def test_a_new_page_is_linked_and_nothing_else_changes(zoo_copy, tmp_path):
    (zoo_copy / STUDENT / "model.keras").write_bytes(b"altered: not vouched for")
    before = _contents(zoo_copy)
    (zoo_copy / "pages").mkdir(exist_ok=True)
    (zoo_copy / "pages" / "new.md").write_text("# What pays\n")
    publish.list_pages(zoo_copy)
    after = _contents(zoo_copy)
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "pages/new.md"}
    assert b"- [What pays](pages/new.md)" in after["README.md"]
    publish.list_pages(tmp_path / "pages alone")
    assert not (tmp_path / "pages alone").exists()


def test_publishing_again_gives_the_same_bytes(zoo_copy, few):
    before = _contents(zoo_copy)
    (zoo_copy / ".publishing-dead" / "x").mkdir(parents=True)  # left by a publisher that was killed
    assert publish.publish(few, zoo_copy) == publish.Published(PLANE[:2], [])
    assert _contents(zoo_copy) == before
    assert not list(zoo_copy.glob(".*"))


def test_students_that_a_run_no_longer_has_are_removed(zoo_dir, few, tmp_path):
    """They would link to an ensemble that didn't teach them."""
    target = shutil.copytree(zoo_dir, tmp_path / "zoo")
    assert publish.publish(few, target) == publish.Published(PLANE[:2], sorted(PLANE[2:]))
    assert zoo.list(source=target) == sorted([*IMAGES, *PLANE[:2]])
    assert {path.name for path in target.iterdir() if path.is_dir()} == {*IMAGES, *PLANE[:2], "pages"}
    assert {r["entry"] for r in _rows(target)} == {*IMAGES, *PLANE[:2]}


@pytest.mark.parametrize("resealed", [False, True])
def test_other_entries_that_were_altered_are_refused_by_name(zoo_copy, few, resealed):
    path = zoo_copy / STUDENT / "metadata.json"
    path.write_text(path.read_text(encoding="utf-8").replace("a student of 3 networks", "the best"), encoding="utf-8")
    if resealed:
        manifest.seal(zoo_copy / STUDENT, STUDENT)
    before = _contents(zoo_copy)
    altered = f"{STUDENT}/{'manifest' if resealed else 'metadata'}.json"
    with pytest.raises(ZooError, match=rf"{altered} (was altered|has [\d,]+ bytes).*zoo\.publish\.refresh\(.* first"):
        publish.publish(few, zoo_copy)
    assert _contents(zoo_copy) == before
    if resealed:
        publish.refresh(zoo_copy)  # that it is meant is said so
        publish.publish(few, zoo_copy)
        assert "the best" in zoo.table(source=zoo_copy)
    else:
        with pytest.raises(ZooError, match=f"{STUDENT}/metadata.json has"):
            publish.refresh(zoo_copy)


def test_entries_that_the_index_does_not_know_are_refused_by_name(zoo_copy, few):
    shutil.copytree(zoo_copy / STUDENT, zoo_copy / "stray")
    with pytest.raises(ZooError, match=r"stray isn't in the zoo's index.json. Remove it"):
        publish.publish(few, zoo_copy)


def test_an_evaluation_that_knows_no_commit(zoo_copy, changed):
    results = json.loads((changed.evaluation / "results.json").read_text())
    del results["commit"]
    (changed.evaluation / "results.json").write_text(json.dumps(results))
    publish.publish(changed, zoo_copy)
    assert _metadata(zoo_copy, PLANE[0])["commit"] is None
    assert {r["commit"] for r in _rows(zoo_copy) if r["entry"] in PLANE} == {"unknown"}


def test_publishing_replaces_its_own_entries_and_no_others(zoo_copy, changed):
    (zoo_copy / PLANE[0] / "1").mkdir()
    (zoo_copy / PLANE[0] / "1" / "saved_model.pb").write_bytes(b"of the old weights")
    old = _rows(zoo_copy)
    publish.publish(changed, zoo_copy)
    new = _rows(zoo_copy)
    assert [r for r in new if r["entry"] not in PLANE[:2]] == [r for r in old if r["entry"] not in PLANE[:2]]
    assert {(r["metric"], r["mean"]) for r in new if r["entry"] in PLANE[:2]} == {("error", "0.125")}
    assert len({(r["entry"], r["dataset"], r["metric"]) for r in new}) == len(new)
    assert not (zoo_copy / PLANE[0] / "1").exists()
    for name in zoo.list(source=zoo_copy):
        zoo.check(name, source=zoo_copy)


def test_files_added_later_are_sealed_too(zoo_copy):
    """As a SavedModel is: the manifest covers folders below the entry."""
    folder = zoo_copy / STUDENT
    (folder / "1" / "variables").mkdir(parents=True)
    (folder / "1" / "variables" / "v").write_bytes(b"weights")
    with pytest.raises(ZooError, match="isn't in the manifest"):
        zoo.check(STUDENT, source=zoo_copy)
    manifest.seal(folder, STUDENT)
    with pytest.raises(ZooError, match=r"manifest.json was altered"):
        zoo.check(STUDENT, source=zoo_copy)
    publish.refresh(zoo_copy)
    zoo.check(STUDENT, source=zoo_copy)
    (folder / "1" / "variables" / "v").write_bytes(b"heights")
    with pytest.raises(ZooError, match="1/variables/v was altered"):
        zoo.load(STUDENT, source=zoo_copy)


def _contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_too_large_a_zoo_is_refused_and_nothing_changes(zoo_copy, few, monkeypatch):
    before = _contents(zoo_copy)
    monkeypatch.setattr(manifest, "MAX_BYTES", sum(map(len, before.values())) - 5000)
    with pytest.raises(ZooError, match=r"would have \d+\.\d MB, more than \d+ MB") as error:
        publish.publish(few, zoo_copy)
    assert "\n" not in str(error.value)
    assert _contents(zoo_copy) == before


def test_a_failure_halfway_changes_nothing(zoo_copy, few, monkeypatch):
    before = _contents(zoo_copy)

    def fail(*args):
        raise RuntimeError("as the last card is written")

    monkeypatch.setattr(publish, "_write_card", fail)
    with pytest.raises(RuntimeError):
        publish.publish(few, zoo_copy)
    assert _contents(zoo_copy) == before
    assert not list(zoo_copy.glob(".*"))


def test_a_failure_at_the_last_moment_changes_nothing(zoo_copy, changed, monkeypatch):
    before, replace = _contents(zoo_copy), os.replace

    def fail(source, target):
        if target == zoo_copy / "index.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(publish.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        publish.publish(changed, zoo_copy)
    assert _contents(zoo_copy) == before
    assert not list(zoo_copy.glob(".*"))


def _small_zoo(folder):
    """A zoo of two entries, and beside it a publisher's folder: `a` is replaced, `b` removed, `c` added."""
    old, staging = folder / "zoo", folder / "zoo" / ".publishing-x"
    for place, names in ((old, ("a/1", "b/1", "results.csv", "index.json")), (staging, ("a/2", "c/2"))):
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text("old" if place == old else "new")
    for name in ("results.csv", "README.md", "index.json"):
        (staging / name).write_text("new")
    return old, staging


NEW = {"a/2": b"new", "c/2": b"new", "results.csv": b"new", "README.md": b"new", "index.json": b"new"}


@pytest.mark.parametrize("step", range(8))
def test_a_publisher_killed_at_any_step_leaves_the_old_zoo_or_the_new(tmp_path, monkeypatch, step):
    zoo_dir, staging = _small_zoo(tmp_path)
    before = {name: content for name, content in _contents(zoo_dir).items() if not name.startswith(".")}
    replace, done = os.replace, []

    def kill(source, target):
        if len(done) == step:
            raise SystemExit
        replace(source, target)
        done.append(target)

    monkeypatch.setattr(publish.os, "replace", kill)
    with pytest.raises(SystemExit):
        publish._swap(zoo_dir, staging, ["b"], ["a", "c", "results.csv", "README.md"])
    monkeypatch.undo()
    with publish._staging(zoo_dir):  # the next publisher
        pass
    assert _contents(zoo_dir) == before


def test_a_publisher_killed_after_the_swap_leaves_the_new_zoo(tmp_path):
    zoo_dir, staging = _small_zoo(tmp_path)
    publish._swap(zoo_dir, staging, ["b"], ["a", "c", "results.csv", "README.md"])
    with publish._staging(zoo_dir):
        pass
    assert _contents(zoo_dir) == NEW


def test_two_publishers_at_once(zoo_copy, plane_run):
    with Workdir(zoo_copy).lock(), pytest.raises(ZooError, match="another process writes the zoo"):
        publish.publish(plane_run, zoo_copy)


def test_a_zoo_that_cannot_be_written(tmp_path, plane_run):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="choose another with --zoo_dir"):
        publish.publish(plane_run, tmp_path / "file" / "zoo")


def test_results_with_other_columns_are_left_alone(zoo_copy, plane_run):
    (zoo_copy / "results.csv").write_text("model,value\na,1\n")
    with pytest.raises(ZooError, match="has the columns model, value"):
        publish.publish(plane_run, zoo_copy)
    (zoo_copy / "results.csv").write_bytes(b"\xff")
    with pytest.raises(ZooError, match=r"results.csv is no text in UTF-8"):  # and not that it can't be written
        publish.publish(plane_run, zoo_copy)


def test_own_members_of_one_architecture_are_published(tmp_path, image_run):
    members = Ensemble([image_run.ensemble.member(i) for i in range(3)])
    assert not isinstance(members, StackedEnsemble)
    own = {
        "data.name": "own_data",
        "data.path": "/home/ann/Some Clothes.npz",
        "ensemble.models": "/home/ann/members/*.keras",
    }
    experiment = config.override(image_run.experiment, own)
    names = publish.publish(
        dataclasses.replace(image_run, ensemble=members, experiment=experiment, students={}), tmp_path
    ).entries
    assert names == ["own_data_some_clothes_own_single", "own_data_some_clothes_own_ensemble"]
    found = config.from_dict(json.loads((tmp_path / names[1] / "config.json").read_text(encoding="utf-8")))
    assert (found.data.path, found.ensemble.models) == ("Some Clothes.npz", "*.keras")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"/home/ann" not in path.read_bytes()
    for name in names:
        text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
        assert "brought as a Keras file, not trained here" in text
        assert " s. [config.json]" not in text
    batch = image_run.data.test.inputs[:4]
    found = zoo.load_ensemble(names[1], source=tmp_path).predict_logits(batch)
    np.testing.assert_allclose(found, members.predict_logits(batch), atol=2e-2)


def test_members_that_cannot_be_one_model_are_refused(tmp_path, image_run):
    def build(units, activation):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Dense(units)(keras.layers.Flatten()(inputs))
        return keras.Model(inputs, keras.layers.Dense(3, activation)(x))

    for members, message in (
        ([build(2, None), build(3, None)], "different architectures"),
        ([build(2, "softmax"), build(2, "softmax")], "return probabilities"),
    ):
        with pytest.raises(ZooError, match=message):
            publish.publish(dataclasses.replace(image_run, ensemble=Ensemble(members)), tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def _export(folder, digest):
    """What exporting leaves, as far as publishing looks at it."""
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(digest.encode())
    found = {
        "digest": digest,
        "signatures": ["decide", "serve_bytes", "serving_default"],
        "thresholds": {
            "uncertain": 0.51234,
            "unfamiliar": None,
            "rule": "coverage",
            "target": 0.9,
            "delta": 0.0,
            "num_calibration": 5000,
        },
        "calibration_split": "calibration",
        "decisions": {
            "test": {"n": 60, "abstained": 0.104, "error": 0.05, "error_of_all": 0.081},
            "far": {"n": 40, "abstained": 0.97},
        },
        "parity": {"saved_model": 1e-7, "lite": 2e-6},
    }
    (folder / savedmodel.METADATA).write_text(json.dumps(found), encoding="utf-8")
    return folder


def test_a_saved_model_is_published_with_its_entry_and_a_changed_one_gets_the_next_version(
    image_run, zoo_copy, tmp_path
):
    for number, (digest, version) in enumerate([("a", "1"), ("a", "1"), ("b", "2")]):
        exported = _export(tmp_path / str(number) / "1", digest)
        publish.publish(dataclasses.replace(image_run, exports={"end2_aux": exported}), zoo_copy)
        entry = zoo_copy / STUDENT
        assert [p.name for p in entry.iterdir() if p.is_dir()] == [version]
        assert (entry / version / "saved_model.pb").read_text() == digest
        zoo.check(STUDENT, source=zoo_copy)
        assert _metadata(zoo_copy, STUDENT)["export"]["version"] == int(version)
        assert f"{version}/saved_model.pb" in json.loads((entry / "manifest.json").read_text())["files"]
    card = (entry / "README.md").read_text(encoding="utf-8")
    serving = card[card.index("## Serving") : card.index("## Intended use")]
    for text in ("[2/](2)", "total uncertainty above 0.5123 nats", "90 % of inputs", "answers 89.6 %", "5.00 % error",
                 "8.10 %", "97 % of far.", "5,000 calibration examples that nothing else used"):  # fmt: skip
        assert text in serving
    assert "unfamiliar" not in serving  # there is no such threshold
    assert "## Serving" not in (zoo_copy / IMAGES[2] / "README.md").read_text(encoding="utf-8")


def test_a_saved_model_that_was_altered_is_refused(image_run, zoo_copy, tmp_path):
    exported = _export(tmp_path / "1", "a")
    publish.publish(dataclasses.replace(image_run, exports={"end2_aux": exported}), zoo_copy)
    (zoo_copy / STUDENT / "1" / "saved_model.pb").write_text("b")
    with pytest.raises(ZooError, match=rf"{STUDENT}/1/saved_model\.pb was altered"):
        zoo.check(STUDENT, source=zoo_copy)
