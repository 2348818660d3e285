from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from end2_tf.config import Data, Source
from end2_tf.data import corruptions, dataset, sources
from end2_tf.data.sources import corrupted, own_data
from end2_tf.errors import ConfigError, DataError

FASHION = Path(__file__).parents[2] / "fixtures" / "fashion_mnist_30.npz"
OWN = {"name": "own_data", "options": {"path": str(FASHION)}}
REAL = os.environ.get("END2_TEST_DATA_DIR")


def find(**options):
    return sources.find("corrupted", field="data.shifted.x", options={"of": OWN, "kind": "fog"} | options)


def load(**options):
    return find(**options).load(data_dir=None, download=False, seed=0)


def source(**options):
    return Source("corrupted", {"of": OWN} | options)


def test_only_the_test_split_with_its_labels():
    splits, clean = load(severity=3), own_data.load(path=str(FASHION), seed=0)
    assert list(splits.named()) == ["test"]
    assert_array_equal(splits.test.labels, clean.test.labels)
    assert_array_equal(splits.test.inputs, corruptions.corrupt(clean.test.inputs, "fog", 3, 0))
    assert splits.class_names == clean.class_names
    assert (load(severity=3, corruption_seed=1).test.inputs != splits.test.inputs).any()
    assert_array_equal(load(kind="all", severity=2).test.labels, clean.test.labels)


def test_the_experiments_seed_changes_nothing():
    other = find(severity=3).load(data_dir=None, download=False, seed=5)
    assert_array_equal(other.test.inputs, load(severity=3).test.inputs)


def test_severity_is_of_a_set_and_a_kind():
    assert find(severity=3).severity() == ("own_data, fog", 3)
    assert find(of="cifar10", kind="all", severity=5).severity() == ("cifar10, all kinds of corruption", 5)
    assert find(severity=1, corruption_seed=7).severity() == ("own_data, fog, seed 7", 1)
    assert find(kind="jpeg", quality=75).severity() is None


def test_jpeg_by_quality():
    clean = own_data.load(path=str(FASHION), seed=0).test.inputs
    assert_array_equal(load(kind="jpeg", quality=30).test.inputs, corruptions.compress(clean, 30))
    assert_array_equal(load(kind="jpeg", severity=1).test.inputs, corruptions.compress(clean, 80))


def test_the_clean_set_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    reads = []
    original = own_data.load

    @functools.wraps(original)
    def counted(**given):
        reads.append(given["path"])
        return original(**given)

    monkeypatch.setattr(own_data, "load", counted)
    corrupted._LAST.clear()
    path = tmp_path / "images.npz"
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    of = {"name": "own_data", "options": {"path": str(path)}}
    np.savez(path, x_test=x, y_test=np.arange(4))
    first = load(of=of, kind="contrast", severity=1)
    load(of=of, kind="fog", severity=1)
    assert len(reads) == 1
    np.savez(path, x_test=255 - x, y_test=np.arange(4))
    assert (load(of=of, kind="contrast", severity=1).test.inputs != first.test.inputs).any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, r"data\.shifted\.x\.options has no severity\. Set one: a severity of 1 to 5\."),
        ({"kind": "jpeg"}, ConfigError, r"Set one: a severity of 1 to 5, or a quality of 1 to 100"),
        ({"kind": "jpeg", "severity": 1, "quality": 9}, ConfigError, r"has severity 1 and quality 9\. Set one"),
        ({"quality": 9}, ConfigError, r"data\.shifted\.x\.options\.quality is 9, but kind is 'fog'\. Set kind=jpeg"),
        ({"severity": 6}, ConfigError, r"data\.shifted\.x\.options\.severity is 6\. Allowed: less than or equal to 5"),
        (
            {"kind": "frost", "severity": 1},
            ConfigError,
            r"data\.shifted\.x\.options\.kind is 'frost'\. Allowed: 'gaus.*'jpeg' or 'all'",
        ),
        ({"of": 3, "severity": 1}, ConfigError, r"data\.shifted\.x\.options\.of is 3\. Allowed: a source's name"),
        ({"of": {"options": {}}, "severity": 1}, ConfigError, r"data\.shifted\.x\.options\.of\.name is missing"),
        ({"kind": "saturate", "severity": 1}, DataError, r"saturate was asked for of grey images"),
        (
            {"of": "spirals", "severity": 1},
            DataError,
            r"data\.shifted\.x\.options\.of has .* \(2,\), which aren't images",
        ),
        (
            {"of": {"name": "spirals", "options": {"nois": 1}}, "severity": 1},
            ConfigError,
            r"data\.shifted\.x\.options\.of\.options is 'nois', .*Did you mean 'noise'",
        ),
        ({"of": "cifar_10", "severity": 1}, DataError, r"'cifar_10' is no data source: .*Did you mean 'cifar10'"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message) as caught:
        load(**options)
    assert "\n" not in str(caught.value)


def test_a_source_without_a_test_split(tmp_path):
    np.savez(tmp_path / "train.npz", x_train=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"data\.shifted\.x\.options\.of has no test split to corrupt"):
        load(of={"name": "own_data", "options": {"path": str(tmp_path / "train.npz")}}, severity=1)


def test_fingerprint_covers_the_options_and_the_clean_set(tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(FASHION.read_bytes())
    other = tmp_path / "other.npz"
    np.savez(other, x_test=np.zeros((2, 8, 8), np.uint8), y_test=np.arange(2))
    first = find(severity=3).fingerprint(data_dir=None)
    same = find(severity=3, of={"name": "own_data", "options": {"path": str(copy)}})
    assert same.fingerprint(data_dir=None) == first
    variants = [
        {"severity": 2},
        {"severity": 3, "kind": "all"},
        {"severity": 3, "corruption_seed": 1},
        {"severity": 3, "of": {"name": "own_data", "options": {"path": str(other)}}},
        {"kind": "jpeg", "quality": 75},
        {"kind": "jpeg", "quality": 76},
    ]
    prints = {first, *(find(**options).fingerprint(data_dir=None) for options in variants)}
    assert len(prints) == 1 + len(variants)
    with pytest.raises(ConfigError, match="has no severity"):
        find().fingerprint(data_dir=None)


def test_corrupted_in_domain_images_are_shifted_or_ood_but_nothing_to_train_on():
    noise, control = source(kind="gaussian_noise", severity=5), source(kind="jpeg", quality=75)
    base = {"name": "own_data", "path": str(FASHION), "validation_fraction": 0.5}
    data = dataset.load(
        Data(**base, shifted={"noise": noise}, ood={"noise": noise, "control": control}, max_test=6),
        data_dir=None,
        download=False,
        seed=2,
    )
    assert_array_equal(data.shifted["noise"].labels, data.test.labels)
    assert_array_equal(data.ood["control"].inputs, corruptions.compress(data.test.inputs, 75))
    for wrong in (Data(**base, auxiliary=noise), Data(name="corrupted", options=noise.options)):
        with pytest.raises(DataError, match="has no train split"):
            dataset.load(wrong, data_dir=None, download=False, seed=0)


def test_the_validation_split_is_the_experiments_own():
    noise = source(kind="gaussian_noise", severity=5, split="validation")
    config = Data(name="own_data", path=str(FASHION), validation_fraction=0.5, shifted={"noise": noise}, max_test=8)
    data = dataset.load(config, data_dir=None, download=False, seed=2)
    assert_array_equal(data.shifted["noise"].labels, data.validation.labels)
    whole = dataset.load(
        Data(name="own_data", path=str(FASHION), validation_fraction=0.5), data_dir=None, download=False, seed=2
    )
    clean = whole.validation.inputs
    changed = corruptions.corrupt(clean, "gaussian_noise", 5, 0)
    ids = [np.flatnonzero((clean == x).all((1, 2, 3)))[0] for x in data.validation.inputs]
    assert_array_equal(data.shifted["noise"].inputs, changed[ids])
    test, validation = (find(severity=3, split=split).fingerprint(data_dir=None) for split in ("test", "validation"))
    assert test != validation


def test_a_source_without_a_validation_split():
    with pytest.raises(DataError, match=r"data\.shifted\.x\.options\.of has no validation split to corrupt"):
        load(severity=3, split="validation")  # nothing is held out where no fraction is given


def test_download_reaches_the_clean_set(monkeypatch):
    from end2_tf.data.sources import tfds

    asked = []
    monkeypatch.setattr(tfds, "download", lambda *, name, data_dir: asked.append((name, data_dir)))
    find(of="cifar10").download(data_dir="d")
    find(of={"name": "own_data", "options": {"path": "x.npz"}}).download(data_dir="d")
    assert asked == [("cifar10", "d")]


def test_needs_no_tensorflow():
    script = (
        "import sys\n"
        "from end2_tf.data import sources\n"
        f"reader = sources.find('corrupted', field='f', options={{'of': {OWN!r}, 'kind': 'all', 'severity': 1}})\n"
        "reader.load(data_dir=None, download=False, seed=0)\n"
        "print('tensorflow' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not REAL or not Path(REAL, "cifar10").is_dir(), reason="no cifar10 in END2_TEST_DATA_DIR")
def test_cifar10_under_noise_and_after_jpeg():
    sets = {
        "noise": Source("corrupted", {"of": "cifar10", "kind": "gaussian_noise", "severity": 5}),
        "all": Source("corrupted", {"of": "cifar10", "kind": "all", "severity": 3}),
    }
    config = Data(name="cifar10", shifted=sets, max_train=1000)
    data = dataset.load(config, data_dir=REAL, download=False, seed=0)
    for examples in data.shifted.values():
        assert_array_equal(examples.labels, data.test.labels)
        assert examples.inputs.shape == (10000, 32, 32, 3)
