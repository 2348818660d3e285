from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import end2_tf
from end2_tf import config as configuration
from end2_tf import grid, registry
from end2_tf.config import Data, Source
from end2_tf.data import dataset, sources
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.errors import ConfigError, DataError
from end2_tf.studies import _ood

FASHION = Path(__file__).parents[1] / "fixtures" / "fashion_mnist_30.npz"
SMALL = {"num_per_class": 40, "num_validation_per_class": 10, "num_test_per_class": 30}


def load(config, seed=0):
    return dataset.load(config, data_dir=None, download=False, seed=seed)


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return str(path)


def own(path):
    return Source(name="own_data", options={"path": str(path)})


def fashion(**settings):
    return Data(name="own_data", path=str(FASHION), **{"validation_fraction": 0.5, **settings})


# Examples


def test_take_is_a_seeded_subset_in_order():
    examples = Examples(np.arange(100, dtype=np.float32)[:, None], np.arange(100))
    taken = examples.take(30, 1)
    assert len(taken) == 30
    assert (np.diff(taken.labels) > 0).all()
    assert_array_equal(taken.inputs[:, 0], taken.labels)
    assert_array_equal(examples.take(30, 1).labels, taken.labels)
    assert (examples.take(30, 2).labels != taken.labels).any()
    assert examples.take(100, 0) is examples
    assert examples.take(1000, 0) is examples


# Splitting


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=80),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_hold_out_is_disjoint_complete_and_stratified(labels, fraction, seed):
    labels = np.array(labels)
    examples = Examples(np.arange(len(labels), dtype=np.float32)[:, None], labels)
    try:
        rest, held = dataset.hold_out(examples, fraction, seed)
    except DataError:
        assert (fraction * np.bincount(labels)).max() < 1
        return
    ids = np.concatenate([rest.inputs[:, 0], held.inputs[:, 0]])
    assert_array_equal(np.sort(ids), np.arange(len(labels)))
    counts, taken = np.bincount(labels, minlength=4), np.bincount(held.labels, minlength=4)
    assert (abs(taken - fraction * counts) <= 1 + 1e-9).all()
    assert (taken[counts > 0] < counts[counts > 0]).all()  # each class is still there to learn from
    assert (np.diff(held.inputs[:, 0]) > 0).all()


def test_balanced_classes_stay_balanced():
    labels = np.repeat(np.arange(10), 500)
    rest, held = dataset.hold_out(Examples(np.zeros((5000, 1), np.float32), labels), 0.1, 0)
    assert np.bincount(held.labels).tolist() == [50] * 10
    assert np.bincount(rest.labels).tolist() == [450] * 10


def test_nothing_to_hold_out():
    with pytest.raises(DataError, match=r"a share of 0\.1 of 4 examples holds out none"):
        dataset.hold_out(Examples(np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1])), 0.1, 0)


# Loading


def test_spirals_keep_their_own_validation_split():
    data = load(Data(options=SMALL, validation_fraction=0.5))
    assert (len(data.train), len(data.validation), len(data.test)) == (120, 30, 90)
    assert data.input_shape == (2,)
    assert data.num_classes == 3
    assert_allclose(data.posterior(data.test.inputs).sum(1), 1)


def test_a_sources_own_calibration_split_is_kept():
    data = load(Data(options=SMALL | {"num_calibration_per_class": 7}, calibration_fraction=0.5))
    assert (len(data.train), len(data.calibration)) == (120, 21)


def test_calibration_examples_are_held_out_after_validation(tmp_path):
    train = np.arange(80, dtype=np.float32)[:, None]
    labels = np.arange(80) % 2
    path = npz(tmp_path / "d.npz", x_train=train, y_train=labels, x_test=train[:2], y_test=labels[:2])
    config = Data(name="own_data", path=path, validation_fraction=0.5)
    whole, split = load(config), load(dataclasses.replace(config, calibration_fraction=0.25))
    assert whole.calibration is None
    assert (len(split.train), len(split.calibration)) == (30, 10)
    np.testing.assert_array_equal(split.validation.inputs, whole.validation.inputs)
    inputs = np.concatenate([split.train.inputs, split.validation.inputs, split.calibration.inputs])
    np.testing.assert_array_equal(np.sort(inputs, axis=0), train)
    assert "calibration 10" in split.summary()
    assert len(load(dataclasses.replace(config, calibration_fraction=0.25, max_test=3)).calibration) == 3


def test_validation_is_split_off_train_and_test_stays():
    with np.load(FASHION) as arrays:
        train, test = arrays["x_train"], arrays["x_test"]
    data = load(fashion())
    assert (len(data.train), len(data.validation)) == (10, 10)
    assert np.bincount(data.validation.labels).tolist() == [1] * 10
    both = np.concatenate([data.train.inputs, data.validation.inputs])[..., 0]
    assert {image.tobytes() for image in both} == {image.tobytes() for image in train}
    assert_array_equal(data.test.inputs[..., 0], test)
    assert data.test.labels.dtype == np.int64
    assert_array_equal(load(fashion()).validation.inputs, data.validation.inputs)
    assert (load(fashion(), seed=1).validation.inputs != data.validation.inputs).any()


def test_limits():
    config = Data(
        options=SMALL, auxiliary=Source(name="ring"), ood={"far": Source(name="ring", options={"radius": 800.0})}
    )
    data = load(dataclasses.replace(config, max_train=25, max_test=12), seed=4)
    assert (len(data.train), len(data.auxiliary)) == (25, 25)
    assert (len(data.validation), len(data.test), len(data.ood["far"])) == (12, 12, 12)
    everything = load(config)
    assert np.isin(data.test.inputs[:, 0], everything.test.inputs[:, 0]).all()


def test_normalisation_is_of_train():
    data = load(Data(options=SMALL))
    mean, std = data.normalisation()
    assert_allclose(mean, data.train.inputs.astype(float).mean(0), rtol=1e-12)
    assert_allclose(std, data.train.inputs.astype(float).std(0), rtol=1e-12)
    inputs = np.array([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]], np.float32)
    examples = Examples(inputs, np.array([0, 1, 0]))
    mean, std = DataSet(examples, examples, examples, None).normalisation()
    assert mean.dtype == std.dtype == np.float64
    assert std[1] == 1  # never changes


def test_normalisation_of_images_is_per_channel():
    data = load(fashion())
    mean, std = data.normalisation()
    assert_allclose(mean, [data.train.inputs.mean()])
    assert_allclose(std, [data.train.inputs.std()])


# Auxiliary and OOD sets


def test_auxiliary_is_the_train_split_without_labels(tmp_path):
    path = npz(tmp_path / "aux.npz", x_train=np.full((3, 5, 5, 3), 9, np.uint8), y_train=[0, 1, 0])
    data = load(fashion(auxiliary=own(path)))
    assert data.auxiliary.inputs.shape == (3, 28, 28, 1)
    assert (data.auxiliary.inputs == 9).all()
    assert data.auxiliary.labels is None


def test_auxiliary_without_train_split(tmp_path):
    path = npz(tmp_path / "aux.npz", x_test=np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(
        DataError, match=r"data\.auxiliary 'own_data' has no train split \(there: test\).*Use it under data\.ood"
    ):
        load(fashion(auxiliary=own(path)))


def test_ood_is_the_test_split_or_else_train(tmp_path):
    both = npz(tmp_path / "b.npz", x_train=np.zeros((2, 28, 28), np.uint8), x_test=np.ones((5, 28, 28), np.uint8))
    train = npz(tmp_path / "t.npz", x_train=np.full((4, 28, 28), 7, np.uint8))
    data = load(fashion(ood={"both": own(both), "only": own(train)}))
    assert (data.ood["both"].inputs == 1).all()
    assert (data.ood["only"].inputs == 7).all()
    assert data.ood["both"].labels is None


def test_features_of_another_width(tmp_path):
    path = npz(tmp_path / "wide.npz", x_train=np.zeros((3, 5)), x_test=np.zeros((3, 5)))
    with pytest.raises(
        DataError, match=r"data\.ood\.wide 'own_data' test inputs have shape \(5,\) each, the in-domain data \(2,\)"
    ):
        load(Data(options=SMALL, ood={"wide": own(path)}))
    with pytest.raises(DataError, match=r"data\.auxiliary 'own_data' train inputs have shape \(28, 28, 1\) each"):
        load(Data(options=SMALL, auxiliary=own(FASHION)))
    with pytest.raises(DataError, match=r"data\.ood\.ring 'ring' test inputs have shape \(2,\) each, .* \(28, 28, 1\)"):
        load(fashion(ood={"ring": Source(name="ring")}))


def test_images_that_dont_convert_are_named(tmp_path):
    path = npz(tmp_path / "four.npz", x_test=np.zeros((3, 28, 28, 4), np.uint8))
    with pytest.raises(DataError, match=r"data\.ood\.four 'own_data' test images have 4 channels where 1 are needed"):
        load(fashion(ood={"four": own(path)}))


def test_in_domain_set_is_no_ood_set(tmp_path):
    with pytest.raises(
        ConfigError, match=r"data\.ood\.near 'spirals' is the in-domain set itself, so it can't be an OOD set"
    ):
        load(Data(options=SMALL, ood={"near": Source(name="spirals", options=SMALL)}))
    with pytest.raises(ConfigError, match=r"data\.auxiliary 'own_data' is .* so it can't be the auxiliary data"):
        load(fashion(auxiliary=own(FASHION)))
    mixed = Source("several", {"of": ["procedural", {"name": "own_data", "options": {"path": str(FASHION)}}]})
    with pytest.raises(ConfigError, match=r"data\.auxiliary 'several' has in it the in-domain set itself"):
        load(fashion(auxiliary=mixed))
    copy = shutil.copy(FASHION, tmp_path / "copy.npz")
    with pytest.raises(ConfigError, match=r"data\.ood\.copy 'own_data' is the in-domain set itself"):
        load(fashion(ood={"copy": own(copy)}))
    load(Data(options=SMALL, ood={"noisier": Source(name="spirals", options={"noise": 1.0})}))


@pytest.mark.parametrize("field", ["auxiliary", "ood", "shifted"])
def test_in_domain_set_is_known_whatever_its_options(tmp_path, field):
    def refused(other):
        with pytest.raises(ConfigError, match=rf"data\.{field}.* is the in-domain set itself"):
            load(fashion(**{field: other if field == "auxiliary" else {"same": other}}))

    (tmp_path / "link.npz").symlink_to(FASHION)
    for path in (FASHION, f"{FASHION.parent}/../{FASHION.parent.name}/{FASHION.name}", tmp_path / "link.npz"):
        refused(Source("own_data", {"path": str(path), "pixel_scale": 1.0}))
    copy = shutil.copy(FASHION, tmp_path / "copy.npz")
    refused(Source("own_data", {"path": str(copy), "test_fraction": 0.5}))
    refused(Source("images", {"path": str(FASHION)}))  # whichever source reads the files


def pictures(folder, num=6):
    folder.mkdir(parents=True)
    for number, image in enumerate(np.random.default_rng(num).integers(0, 256, (num, 8, 8), np.uint8)):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("options", [{"num": 3}, {"size": 8}, {"channels": 3}])
def test_auxiliary_images_are_no_ood_images_in_another_shape(tmp_path, options):
    folder = str(pictures(tmp_path / "flat"))
    auxiliary = Source("images", {"path": folder})
    for path in (folder, shutil.copytree(folder, tmp_path / "copy")):
        with pytest.raises(ConfigError, match=r"data\.ood\.x 'images' would be tested on its train split"):
            load(fashion(auxiliary=auxiliary, ood={"x": Source("images", {"path": str(path), **options})}))
    other = str(pictures(tmp_path / "other", 5))
    assert load(fashion(auxiliary=auxiliary, ood={"x": Source("images", {"path": other, **options})})).ood
    for split in ("train", "test"):
        pictures(tmp_path / "both" / split, 4)
    both = {"path": str(tmp_path / "both")}
    with pytest.warns(UserWarning, match="is also the auxiliary set: its test split is unseen"):
        load(fashion(auxiliary=Source("images", both), ood={"x": Source("images", {**both, **options})}))


@pytest.mark.parametrize("field", ["ood", "shifted"])
def test_a_set_is_not_divided_twice(tmp_path, field):
    for name, num in (("a", 6), ("b", 4)):
        pictures(tmp_path / "classes" / name, num)
    path = {"path": str(tmp_path / "classes")}
    auxiliary = Source("own_data", {**path, "test_fraction": 0.5})
    with pytest.warns(UserWarning, match="its test split is unseen"):
        data = load(fashion(auxiliary=auxiliary, ood={"x": auxiliary}))
    shown, unseen = ({image.tobytes() for image in part.inputs} for part in (data.auxiliary, data.ood["x"]))
    assert not shown & unseen
    for other in (Source("own_data", {**path, "test_fraction": 0.6}), Source("images", path)):
        with pytest.raises(
            ConfigError, match=rf"data\.{field}\.x '{other.name}' has the files of data\.auxiliary 'own_d"
        ):
            load(fashion(auxiliary=auxiliary, **{field: {"x": other}}))


def test_published_experiments_and_studies_keep_their_sets_apart(tmp_path, monkeypatch):
    published = list(registry.experiments().values())
    published += [configuration.override(each, each.smoke) for each in published]
    published += [
        configuration.override(each, _ood.of(each)) for each in published
    ]  # as studies of any experiment see it
    studies = [grid.find(name) for name in registry.studies()]
    for study in studies:
        published += grid.experiments(study).values() if isinstance(study, grid.Study) else []
    sets = {configuration.digest(each.data): each.data for each in published}

    class ReadError(Exception):
        pass

    def read(*args, **kwargs):
        raise ReadError

    monkeypatch.setattr(sources.Reader, "load", read)
    assert len(sets) > 15
    for data in sets.values():
        with pytest.raises(ReadError):  # they passed
            dataset.load(data, data_dir=str(tmp_path), download=False, seed=0)


def test_auxiliary_set_as_ood_set(tmp_path):
    ring = Source(name="ring")
    with pytest.warns(UserWarning, match=r"data\.ood\.ring 'ring' is also the auxiliary set: its test split is unseen"):
        load(Data(options=SMALL, auxiliary=ring, ood={"ring": ring}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(Data(options=SMALL, auxiliary=ring, ood={"ring": Source(name="ring", options={"radius": 800.0})}))
    only_train = own(npz(tmp_path / "t.npz", x_train=np.zeros((4, 28, 28), np.uint8)))
    with pytest.raises(ConfigError, match=r"data\.ood\.t 'own_data' would be tested on its train split"):
        load(fashion(auxiliary=only_train, ood={"t": only_train}))


# Shifted sets


def noisy(noise=0.6, num=30):
    return Source(name="spirals", options=SMALL | {"noise": noise, "num_test_per_class": num})


def test_shifted_set_keeps_its_labels():
    config = Data(options=SMALL, shifted={"noisy": noisy()})
    data = load(config)
    assert_array_equal(data.shifted["noisy"].labels, np.repeat([0, 1, 2], 30))
    assert data.shifted["noisy"].labels.dtype == np.int64
    assert data.ood == {}
    assert "noisy 90" in data.summary()


def test_shifted_copy_is_limited_to_the_same_examples():
    data = load(Data(options=SMALL, shifted={"noisy": noisy()}, max_test=20), seed=3)
    assert_array_equal(data.shifted["noisy"].labels, data.test.labels)
    pairs = zip(data.shifted["noisy"].inputs, data.test.inputs, strict=True)
    assert np.median([np.linalg.norm(a - b) for a, b in pairs]) < 40  # noise moves a point, but not to another's place


def test_severities_are_those_of_sets_that_come_in_several():
    fog = {f"fog_{i}": Source("corrupted", {"of": "mnist", "kind": "fog", "severity": i}) for i in (1, 2)}
    config = Data(name="mnist", shifted={"noisy": noisy(), **fog, "blur": Source("mnist_corrupted/motion_blur")})
    assert dataset.severities(config) == {"fog_1": ("mnist, fog", 1), "fog_2": ("mnist, fog", 2)}
    assert dataset.severities(Data(name="mnist")) == {}


def test_one_set_both_shifted_and_ood():
    data = load(Data(options=SMALL, shifted={"noisy": noisy()}, ood={"noisy": noisy()}, max_test=20))
    assert_array_equal(data.ood["noisy"].inputs, data.shifted["noisy"].inputs)
    assert data.ood["noisy"].labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((4, 2))}, r"data\.shifted\.s 'own_data' has no test split \(there: train\)"),
        ({"x_test": np.zeros((4, 2))}, r"data\.shifted\.s 'own_data' test has no labels, which a shifted set needs"),
        (
            {"x_test": np.zeros((4, 2)), "y_test": [0, 1, 2, 3]},
            r"data\.shifted\.s 'own_data' test labels\[3\] is 3\. Allowed: 0 to 2",
        ),
        (
            {"x_test": np.zeros((4, 2)), "y_test": [0, 1, 2, 0], "class_names": ["a", "b", "c"]},
            r"has the classes a, b, c \(3\); the in-domain data have arm 1, arm 2, arm 3 \(3\)\. .* under data\.ood",
        ),
        (
            {"x_test": np.zeros((4, 3)), "y_test": [0, 1, 2, 0]},
            r"data\.shifted\.s 'own_data' test inputs have shape \(3,\) each, the in-domain data \(2,\)",
        ),
    ],
)
def test_unusable_shifted_sets(tmp_path, arrays, message):
    path = npz(tmp_path / "s.npz", **{name: np.asarray(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match=message) as error:
        load(Data(options=SMALL, shifted={"s": own(path)}))
    assert "\n" not in str(error.value)


def test_in_domain_set_is_no_shifted_set():
    with pytest.raises(ConfigError, match=r"data\.shifted\.same 'spirals' is the in-domain set itself"):
        load(Data(options=SMALL, shifted={"same": Source(name="spirals", options=SMALL)}))


# In-domain faults


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((4, 2)), "y_train": [0, 1, 0, 1]}, r"data 'own_data' has no test split \(there: train\)"),
        ({"x_test": np.zeros((4, 2)), "y_test": [0, 1, 0, 1]}, r"data 'own_data' has no train split \(there: test\)"),
        (
            {"x_train": np.zeros((4, 2)), "x_test": np.zeros((1, 2)), "y_test": [0]},
            r"data 'own_data' train has no labels, which in-domain data need",
        ),
        (
            {"x_train": np.zeros((4, 2)), "y_train": [0, 1, 3, 1], "x_test": np.zeros((1, 2)), "y_test": [0]},
            r"data 'own_data' train labels have no example of class 2 \('2'\)",
        ),
        (
            {"x_train": np.zeros((4, 2)), "y_train": [0, 1, 0, 10**12], "x_test": np.zeros((1, 2)), "y_test": [0]},
            r"data 'own_data' train labels\[3\] is 1000000000000\. Allowed: 0 to 3",
        ),
        (
            {"x_train": np.zeros((4, 2)), "y_train": [0, 1, 0, 1], "x_test": np.zeros((1, 2)), "y_test": [2]},
            r"data 'own_data' test labels\[0\] is 2\. Allowed: 0 to 1",
        ),
        (
            {"x_train": np.zeros((4, 2)), "y_train": [0, 1, 0, 1], "x_test": np.zeros((1, 3)), "y_test": [1]},
            r"data 'own_data' test inputs have shape \(3,\) each, those of train \(2,\)",
        ),
        (
            {"x_train": np.zeros((0, 2)), "y_train": np.zeros(0, int), "x_test": np.zeros((1, 2)), "y_test": [1]},
            r"data 'own_data' train inputs have no example|data 'own_data' train labels",
        ),
        (
            {"x_train": np.zeros((4, 2)), "y_train": [0, 1, 0], "x_test": np.zeros((1, 2)), "y_test": [1]},
            r"data 'own_data' train labels are 3, but there are 4 inputs",
        ),
    ],
)
def test_unusable_in_domain_data(tmp_path, arrays, message):
    path = npz(tmp_path / "d.npz", **{name: np.asarray(value) for name, value in arrays.items()})
    with pytest.raises(DataError, match=message) as error:
        load(Data(name="own_data", path=path))
    assert "\n" not in str(error.value)


def test_no_validation_at_all():
    with pytest.raises(
        ConfigError, match=r"data\.validation_fraction is 0, but data 'own_data' has no validation split"
    ):
        load(fashion(validation_fraction=0.0))


def test_too_few_for_a_validation_split():
    with pytest.raises(DataError, match=r"a share of 0\.01 of 20 examples holds out none"):
        load(fashion(validation_fraction=0.01))


def test_unlabelled_source_is_not_in_domain():
    with pytest.raises(
        DataError, match=r"data 'ring' train has no labels, which in-domain data need\. It can be an auxiliary or OOD"
    ):
        load(Data(name="ring"))


# Fingerprints


def test_fingerprint_covers_every_setting(tmp_path):
    base = Data(options=SMALL, auxiliary=Source(name="ring"))
    variants = [
        base,
        Data(options=SMALL | {"noise": 0.3}, auxiliary=Source(name="ring")),
        dataclasses.replace(base, auxiliary=None),
        dataclasses.replace(base, auxiliary=Source(name="ring", options={"radius": 800.0})),
        dataclasses.replace(base, ood={"far": Source(name="ring", options={"radius": 800.0})}),
        dataclasses.replace(base, shifted={"far": Source(name="ring", options={"radius": 800.0})}),
        dataclasses.replace(base, validation_fraction=0.2),
        dataclasses.replace(base, calibration_fraction=0.2),
        dataclasses.replace(base, max_train=10),
        dataclasses.replace(base, max_test=10),
        fashion(),
    ]
    prints = [dataset.fingerprint(config, data_dir=None) for config in variants]
    assert len(set(prints)) == len(prints)
    assert all(len(p) == 64 and int(p, 16) >= 0 for p in prints)
    assert dataset.fingerprint(base, data_dir=str(tmp_path)) == prints[0]
    assert dataset.fingerprint(dataclasses.replace(base, options=SMALL | {"noise": 0.4}), data_dir=None) == prints[0]


def test_fingerprint_follows_own_files(tmp_path):
    path = npz(tmp_path / "d.npz", x_train=np.zeros((4, 2)), y_train=np.array([0, 1, 0, 1]))
    before = dataset.fingerprint(Data(name="own_data", path=path), data_dir=None)
    npz(path, x_train=np.ones((4, 2)), y_train=np.array([0, 1, 0, 1]))
    assert dataset.fingerprint(Data(name="own_data", path=path), data_dir=None) != before


def test_download_leaves_made_up_data_alone():
    dataset.download(Data(options=SMALL, auxiliary=Source(name="ring")), data_dir=None)


# A new source is one file

NEW_SOURCE = """
import numpy as np
from end2_tf.data.examples import Examples, Splits

def load(*, size: int = 8):
    def part(num):
        return Examples(np.full((num, size, size, 1), 5, np.uint8), np.arange(num) % 2)
    return Splits(train=part(20), test=part(4))

def fingerprint(**options):
    return str(options)
"""


def test_a_new_file_is_a_new_source_without_tensorflow(tmp_path):
    # In a copy of the package, so that a test that is killed leaves nothing behind.
    shutil.copytree(Path(end2_tf.__file__).parent, tmp_path / "end2_tf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "end2_tf" / "data" / "sources" / "squares.py").write_text(NEW_SOURCE)
    script = (
        "import sys\n"
        "from end2_tf.config import Data\n"
        "from end2_tf.data import dataset\n"
        "data = dataset.load(Data(name='squares', options={'size': 6}), data_dir=None, download=False, seed=0)\n"
        "dataset.load(Data(), data_dir=None, download=False, seed=0)\n"
        "print(data.input_shape, len(data.validation), len(dataset.fingerprint(Data(name='squares'), data_dir=None)))\n"
        "print('tensorflow' in sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["(6, 6, 1) 2 64", "False"], done.stderr


def test_an_ood_set_among_several_auxiliary_ones_is_not_tested_on_its_train_split(tmp_path):
    path = npz(tmp_path / "other.npz", x_train=np.zeros((4, 28, 28, 1), np.uint8))
    both = Source("several", {"of": [{"name": "own_data", "options": {"path": str(path)}}], "size": 28, "channels": 1})
    with pytest.raises(ConfigError, match=r"on which data\.auxiliary trains"):
        load(fashion(auxiliary=both, ood={"other": own(path)}))
