"""Listing and loading what is published, and refusing what was altered."""

import json
import subprocess
import sys

import numpy as np
import pytest

import end2_tf
from end2_tf import zoo
from end2_tf.ensemble import StackedEnsemble
from end2_tf.errors import ZooError
from end2_tf.models import EnsembleModel, UncertaintyClassifier

STUDENT, ENSEMBLE, SINGLE = (f"fashion_mnist_cnn_{m}" for m in ("end2_aux", "ensemble", "single"))
FILES = (
    "README.md",
    "config.json",
    "confidently_wrong.png",
    "golden.npz",
    "manifest.json",
    "metadata.json",
    "model.keras",
    "most_uncertain.png",
)


def _images(n=5):
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)


def test_names_and_summaries(zoo_dir):
    names = zoo.list(source=zoo_dir)
    assert names == sorted(names)
    assert set(names) == {
        f"{group}_{method}"
        for group in ("fashion_mnist_cnn", "spirals_mlp")
        for method in ("single", "ensemble", "end", "end2_aux")
    }
    kinds = {entry.name: entry.kind for entry in zoo.entries(source=zoo_dir)}
    assert (kinds[STUDENT], kinds[ENSEMBLE], kinds[SINGLE]) == ("student", "ensemble", "member")
    text = zoo.table(source=zoo_dir)
    assert all(name in text for name in names)
    assert "student of 3 networks" in text


def test_listing_imports_no_tensorflow(zoo_dir):
    code = (
        "import sys, end2_tf\n"
        f"assert len(end2_tf.zoo.list(source={str(zoo_dir)!r})) == 8\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules or 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_student_predicts_evaluates_and_is_fine_tuned(zoo_dir, image_run):
    model = zoo.load(STUDENT, source=zoo_dir)
    assert isinstance(model, UncertaintyClassifier)
    assert set(model.predict(_images(), verbose=0)) >= {"probs", "alphas", "knowledge_uncertainty"}
    test = image_run.data.test
    before = model.evaluate(test.inputs, test.labels, verbose=0, return_dict=True)
    assert {"error", "nll"} <= set(before)
    model.fit(test.inputs, test.labels, epochs=3, verbose=0)
    assert model.evaluate(test.inputs, test.labels, verbose=0, return_dict=True)["nll"] < before["nll"]


def test_an_ensemble_is_one_model_and_an_object(zoo_dir, image_run):
    x = _images()
    model = zoo.load(ENSEMBLE, source=zoo_dir)
    assert isinstance(model, EnsembleModel)
    logits = model.predict(x, verbose=0)
    assert logits.shape == (5, 3, 3)
    ensemble = zoo.load_ensemble(ENSEMBLE, source=zoo_dir)
    assert isinstance(ensemble, StackedEnsemble)
    np.testing.assert_allclose(ensemble.predict_logits(x), logits, atol=1e-6)
    np.testing.assert_allclose(logits, image_run.ensemble.predict_logits(x), atol=2e-2)  # float16 on disk
    assert "knowledge_uncertainty" in ensemble.uncertainty(x)
    np.testing.assert_allclose(ensemble.member(1).predict(x, verbose=0), logits[:, 1], atol=1e-5)


def test_single_is_the_first_member(zoo_dir):
    x = _images()
    single = zoo.load(SINGLE, source=zoo_dir).predict(x, verbose=0)
    logits = zoo.load_ensemble(ENSEMBLE, source=zoo_dir).predict_logits(x)
    np.testing.assert_allclose(single["logits"], logits[:, 0], atol=1e-2)
    assert "alphas" not in single


def test_a_student_is_no_ensemble_and_its_own_is_named(zoo_dir):
    with pytest.raises(ZooError, match=f"is a student, not an ensemble. Its ensemble is '{ENSEMBLE}'"):
        zoo.load_ensemble(STUDENT, source=zoo_dir)


def test_an_unknown_name_gets_a_suggestion(zoo_dir):
    with pytest.raises(ZooError, match="Did you mean 'fashion_mnist_cnn_end2_aux'") as error:
        zoo.load("fashion_mnist_cnn_end2_axu", source=zoo_dir)
    assert "\n" not in str(error.value)


def test_the_files_of_an_entry(zoo_dir):
    assert sorted(p.name for p in (zoo_dir / STUDENT).iterdir()) == sorted(FILES)
    assert {p.name for p in (zoo_dir / "spirals_mlp_end2_aux").iterdir()} >= {"failures.png", "model.keras"}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("open_entry", [zoo.load, zoo.check])
def test_one_altered_byte_of_any_file_is_refused_by_name(zoo_copy, file, open_entry):
    path = zoo_copy / STUDENT / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"{STUDENT}/{file} was altered") as error:
        open_entry(STUDENT, source=zoo_copy)
    assert "git checkout" in str(error.value)
    assert "\n" not in str(error.value)
    zoo.check(ENSEMBLE, source=zoo_copy)  # the others are as they were


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "bytes"),
        (lambda p: p.write_bytes(b""), "has 0 bytes"),
    ],
)
@pytest.mark.parametrize("file", ["model.keras", "golden.npz"])
def test_missing_and_truncated_files_are_refused_by_name(zoo_copy, damage, message, file):
    damage(zoo_copy / STUDENT / file)
    with pytest.raises(ZooError, match=message) as error:
        zoo.load(STUDENT, source=zoo_copy)
    assert f"{STUDENT}/{file}" in str(error.value)


def test_a_link_is_refused(zoo_copy, tmp_path):
    path = zoo_copy / STUDENT / "model.keras"
    path.rename(tmp_path / "elsewhere.keras")
    path.symlink_to(tmp_path / "elsewhere.keras")
    with pytest.raises(ZooError, match="is a link"):
        zoo.load(STUDENT, source=zoo_copy)


def test_a_file_that_is_not_listed_is_noticed_by_check(zoo_copy):
    (zoo_copy / STUDENT / "extra.txt").write_text("x")
    (zoo_copy / STUDENT / ".hidden").write_text("left by an editor")
    with pytest.raises(ZooError, match=r"extra.txt isn't in the manifest"):
        zoo.check(STUDENT, source=zoo_copy)
    zoo.load(STUDENT, source=zoo_copy)


@pytest.mark.parametrize("file", ["model.keras", "golden.npz"])
def test_an_entry_without_a_file_that_is_needed_is_named(zoo_copy, file):
    from end2_tf.zoo import manifest, publish

    (zoo_copy / STUDENT / file).unlink()
    manifest.seal(zoo_copy / STUDENT, STUDENT)
    publish.refresh(zoo_copy)
    with pytest.raises(ZooError, match=f"the entry {STUDENT} at .* has no {file}. Publish it again"):
        zoo.check(STUDENT, reproduce=True, source=zoo_copy)


def test_a_file_that_cannot_be_read(zoo_copy, monkeypatch):
    from end2_tf import workdir

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(workdir, "sha256", refuse)
    with pytest.raises(ZooError, match=r"manifest.json can't be read at .*Permission denied. Make it readable"):
        zoo.load(STUDENT, source=zoo_copy)


def test_predictions_that_differ_are_noticed(zoo_copy):
    """As on a machine whose Keras computes something else."""
    from end2_tf.zoo import manifest, publish

    folder = zoo_copy / STUDENT
    arrays = dict(np.load(folder / "golden.npz"))
    arrays["probs"][3, 0] += 1e-2
    np.savez(folder / "golden.npz", **arrays)
    manifest.seal(folder, STUDENT)
    publish.refresh(zoo_copy)
    zoo.check(STUDENT, source=zoo_copy)
    with pytest.raises(ZooError, match=r"predicts probs with a deviation of 0.01"):
        zoo.check(STUDENT, reproduce=True, source=zoo_copy)


def test_places_in_their_order(zoo_dir, tmp_path, monkeypatch):
    from end2_tf import registry

    monkeypatch.setattr(registry, "PACKAGE", tmp_path / "site-packages" / "end2_tf")
    with pytest.raises(ZooError, match="Set END2_TF_ZOO"):
        zoo.list()
    monkeypatch.setattr(registry, "PACKAGE", zoo_dir.parent / "end2_tf")
    assert STUDENT in zoo.list()  # beside the package
    monkeypatch.setenv("END2_TF_ZOO", str(tmp_path))
    with pytest.raises(ZooError, match=r"has no index.json"):
        zoo.list()
    assert STUDENT in zoo.list(source=zoo_dir)
    with pytest.raises(ZooError, match="begins with http"):
        zoo.list(source="ftp://example.org/zoo")


def test_the_index_of_a_later_format_asks_for_an_upgrade(zoo_copy):
    index = json.loads((zoo_copy / "index.json").read_text())
    (zoo_copy / "index.json").write_text(json.dumps({"format": 2, "what": index}))
    with pytest.raises(ZooError, match=r"has format 2, but this end2_tf reads 1. Upgrade"):
        zoo.list(source=zoo_copy)


@pytest.mark.slow
def test_plain_keras_in_a_fresh_process_reproduces_the_golden_outputs(zoo_dir):
    code = (
        "import end2_tf, keras, sys, pathlib\nimport numpy as np\n"
        "for folder in pathlib.Path(sys.argv[1]).glob('*_*_*'):\n"
        "    stored = dict(np.load(folder / 'golden.npz'))\n"
        "    found = keras.saving.load_model(folder / 'model.keras').predict(stored.pop('inputs'), verbose=0)\n"
        "    found = found if isinstance(found, dict) else {'logits': found}\n"
        "    assert set(found) == set(stored), folder\n"
        "    for name, wanted in stored.items():\n"
        "        assert wanted.dtype == np.float32\n"
        "        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4)\n"
        "    print(folder.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(zoo_dir)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == zoo.list(source=zoo_dir)


def test_it_is_a_public_name():
    assert end2_tf.zoo is zoo
    assert "zoo" in dir(end2_tf)
