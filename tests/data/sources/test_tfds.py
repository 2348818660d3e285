from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import urllib.request

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from end2_tf.config import Data, Source
from end2_tf.data import dataset, sources
from end2_tf.data.sources import tfds as source
from end2_tf.errors import ConfigError, DataError
from end2_tf.reading import memory

PIXELS = np.random.default_rng(0)
REAL = os.environ.get("END2_TEST_DATA_DIR")


def needs_real_data(*names):
    """Skips a test unless the real sets are there."""
    missing = [name for name in names if not REAL or not os.path.isdir(os.path.join(REAL, name))]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} in END2_TEST_DATA_DIR={REAL}")


def write(root, set_name, splits, features, supervised=("image", "label"), version="1.0.0"):
    """Prepares a set of TFDS's own format: {split: list of examples}."""
    tfds = source._tfds()

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = set_name
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised
            )

        def _split_generators(self, dl_manager):
            return {split: iter(enumerate(examples)) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    tfds.disable_progress_bar()
    Toy(data_dir=root).download_and_prepare()


def image(*shape):
    return PIXELS.integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    tfds = source._tfds()
    root = tmp_path_factory.mktemp("tfds")
    label, fixed = tfds.features.ClassLabel(names=["cat", "dog"]), tfds.features.Image(shape=(6, 5, 3))

    def some(num, *shape):
        return [{"image": image(*shape), "label": i % 2} for i in range(num)]

    both = {"image": fixed, "label": label}
    write(root, "toy_pets", {"train": some(20, 6, 5, 3), "test": some(4, 6, 5, 3)}, both)
    write(root, "toy_val", {"train": some(6, 6, 5, 3), "validation": some(4, 6, 5, 3)}, both)
    write(root, "toy_train", {"train": some(20, 6, 5, 3)}, both, version="2.0.0")
    write(root, "toy_test", {"test": some(8, 6, 5, 3)}, both)
    write(root, "toy_named", {"other": some(2, 6, 5, 3)}, both)
    sizes = [{"image": image(8 + i, 9, 3), "label": i % 2} for i in range(4)]
    write(root, "toy_sizes", {"train": sizes, "test": sizes}, {"image": tfds.features.Image(), "label": label})
    boxes = [{"image": image(6, 5, 3), "label": i, "boxes": [1] * i} for i in range(2)]
    ragged = tfds.features.Sequence(tfds.features.Scalar(np.int64))
    write(root, "toy_boxes", {"test": boxes}, both | {"boxes": ragged})
    plain = [{"image": image(6, 5, 3)} for _ in range(3)]
    write(root, "toy_plain", {"test": plain}, {"image": fixed}, supervised=None)
    texts = [{"text": "a", "label": 0}]
    write(root, "toy_text", {"train": texts}, {"text": tfds.features.Text(), "label": label}, ("text", "label"))
    deep = [{"image": np.zeros((6, 5, 1), np.uint16), "label": 0}]
    write(
        root,
        "toy_deep",
        {"train": deep},
        {"image": tfds.features.Image(shape=(6, 5, 1), dtype=np.uint16), "label": label},
    )
    return root


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)


def load(name, root, *, download=False, **options):
    return source.load(name=name, data_dir=str(root), download=download, seed=0, **options)


def test_splits_as_arrays(root):
    splits = load("toy_pets", root)
    assert splits.train.inputs.shape == (20, 6, 5, 3)
    assert splits.train.inputs.dtype == np.uint8
    assert np.bincount(splits.train.labels).tolist() == [10, 10]
    assert splits.validation is None
    assert splits.class_names == ("cat", "dog")
    again = load("toy_pets", root)
    assert_array_equal(again.train.inputs, splits.train.inputs)
    assert_array_equal(load("toy_pets:1.0.0", root).test.inputs, splits.test.inputs)


def test_validation_serves_as_test(root):
    splits = load("toy_val", root)
    assert (len(splits.train), len(splits.test)) == (6, 4)
    assert splits.validation is None


@pytest.fixture
def decoded(monkeypatch):
    """Names of the splits whose images are read."""
    names, original = [], source._Split.at_once

    def counted(self):
        names.append(self._split)
        return original(self)

    monkeypatch.setattr(source._Split, "at_once", counted)
    return names


@pytest.mark.parametrize(
    ("name", "wanted", "read", "given"),
    [
        ("toy_pets", ["test", "train", "validation"], ["test"], "test"),
        ("toy_pets", ["train"], ["train"], "train"),
        ("toy_pets", ["validation", "train"], ["train"], "train"),
        ("toy_val", ["test", "train"], ["validation"], "test"),  # whose place it takes
        ("toy_val", ["validation", "train"], ["train"], "train"),
        ("toy_train", ["test", "train"], ["train"], "train"),
    ],
)
def test_a_wanted_split_is_read_alone(root, decoded, name, wanted, read, given):
    whole = load(name, root).named()
    decoded.clear()
    ((split, examples),) = load(name, root, wanted=wanted).named().items()
    assert decoded == read
    assert split == given
    assert_array_equal(examples.inputs, whole[given].inputs)
    assert_array_equal(examples.labels, whole[given].labels)
    lazy = load(name, root, wanted=wanted, lazily=True).named()
    assert list(lazy) == [given]
    assert_array_equal(lazy[given].inputs.array(), examples.inputs)


def test_a_set_is_divided_whichever_split_is_wanted(root):
    for name in ("toy_train", "toy_test"):
        whole = load(name, root, test_fraction=0.25)
        for wanted in (["test"], ["train"]):
            again = load(name, root, test_fraction=0.25, wanted=wanted)
            assert_array_equal(again.train.inputs, whole.train.inputs)
            assert_array_equal(again.test.inputs, whole.test.inputs)


def test_what_is_tested_on_needs_no_memory_for_train(root, decoded):
    fog = {"of": "toy_pets", "kind": "jpeg", "quality": 50}
    several = {"of": ["toy_pets"], "size": 8}
    for name, options in (("toy_pets", {}), ("corrupted", fog), ("several", several)):
        reader = sources.find(name, field="data.ood.x", options=options)
        reader.load(data_dir=str(root), download=False, seed=0, wanted=["test", "train", "validation"])
    assert decoded == ["test"] * 3
    held_out = sources.find("corrupted", field="data.ood.x", options={**fog, "split": "validation"})
    held_out.load(data_dir=str(root), download=False, seed=0, validation_fraction=0.2)
    assert decoded[3:] == ["train"]


def test_test_split_on_request(root):
    assert load("toy_train", root).test is None
    splits = load("toy_train", root, test_fraction=0.2)
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert np.bincount(splits.test.labels).tolist() == [2, 2]
    with pytest.raises(DataError, match=r"data 'toy_train' has no test split \(there: train\).*option test_fraction"):
        dataset.load(Data(name="toy_train"), data_dir=str(root), download=False, seed=0)


def test_any_lone_split_is_divided_on_request(root):
    whole = load("toy_test", root)
    assert whole.train is None
    divided = load("toy_test", root, test_fraction=0.25)
    assert (len(divided.train), len(divided.test)) == (6, 2)
    assert np.bincount(divided.train.labels).tolist() == [3, 3]
    both = np.concatenate([divided.train.inputs, divided.test.inputs])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in whole.test.inputs}
    assert_array_equal(load("toy_pets", root, test_fraction=0.25).test.inputs, load("toy_pets", root).test.inputs)


def test_different_sizes_need_image_size(root):
    with pytest.raises(DataError, match=r"'toy_sizes' has images of different sizes\. Set the option image_size=NN"):
        load("toy_sizes", root)
    assert load("toy_sizes", root, image_size=7).test.inputs.shape == (4, 7, 7, 3)
    assert load("toy_pets", root, image_size=12).test.inputs.shape == (4, 12, 12, 3)


def test_other_features_dont_matter(root):
    assert load("toy_boxes", root).test.labels.tolist() in ([0, 1], [1, 0])


def test_images_without_classes_are_ood_only(root):
    splits = load("toy_plain", root)
    assert splits.test.labels is None
    assert splits.train is None
    data = dataset.load(
        Data(name="toy_pets", ood={"plain": Source(name="toy_plain")}), data_dir=str(root), download=False, seed=0
    )
    assert len(data.ood["plain"]) == 3
    config = Data(name="toy_pets", auxiliary=Source(name="toy_plain"))
    with pytest.raises(DataError, match=r"data\.auxiliary 'toy_plain' has no train split \(there: test\)"):
        dataset.load(config, data_dir=str(root), download=False, seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "toy_text",
            r"'toy_text' is no image classification set: it has no image feature 'text' \(features: label, text\)",
        ),
        ("toy_deep", r"'toy_deep' has uint16 images\. Allowed: uint8"),
        ("toy_named", r"'toy_named' has no split called train, validation or test \(there: other\)"),
    ],
)
def test_sets_of_another_kind(root, name, message):
    with pytest.raises(DataError, match=message):
        load(name, root)


def test_known_set_that_isnt_there(root):
    with pytest.raises(DataError) as error:
        load("cifar10", root)
    message = str(error.value)
    assert message.startswith(f"TFDS set 'cifar10' isn't in {root} (there: toy_boxes, toy_deep, toy_named, toy_pets,")
    assert "Give --download to fetch it, or --data_dir=DIR" in message
    assert "\n" not in message
    with pytest.raises(DataError, match=r"isn't in .*nowhere \(no set there\)"):
        load("cifar10", root / "nowhere")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("cifar_10", "cifar10"), ("toy_pet", "toy_pets"), ("spiral", "spirals"), ("own-data", "own_data")],
)
def test_unknown_name_gets_the_nearest(root, name, nearest):
    for download in (False, True):
        with pytest.raises(DataError, match=rf"^'{name}' is no data source: .*Did you mean '{nearest}'\?"):
            load(name, root, download=download)


def test_sets_of_the_published_experiments_say_what_to_take_instead(root):
    for name, instead in (("not_mnist", "images"), ("tiny_imagenet32", "tiny_imagenet")):
        with pytest.raises(DataError, match=rf"^'{name}' isn't in .*instead.*\"name\": \"{instead}\""):
            load(name, root)


def test_name_of_another_form(root):
    with pytest.raises(
        DataError, match=r"'/data/x\.npz' is no name of a data source\. .*own_data: data\.name=own_data and data\.path"
    ):
        load("/data/x.npz", root)


def test_version_that_isnt_there(root):
    with pytest.raises(DataError, match=r"'toy_train:1\.0\.0' is no data source"):
        load("toy_train:1.0.0", root)


def test_configs(root, tmp_path):
    for config in ("blur", "fog"):
        shutil.copytree(root / "toy_pets", tmp_path / "toy_pets" / config)
    assert len(load("toy_pets/fog", tmp_path).test) == 4
    with pytest.raises(DataError, match=r"'toy_pets' has several configs in .*: blur, fog\. Write toy_pets/blur"):
        load("toy_pets", tmp_path)
    shutil.rmtree(tmp_path / "toy_pets" / "blur")
    assert len(load("toy_pets", tmp_path).test) == 4


def test_newest_version_is_taken(root, tmp_path):
    shutil.copytree(root / "toy_pets" / "1.0.0", tmp_path / "toy_pets" / "9.0.0")
    shutil.copytree(root / "toy_pets" / "1.0.0", tmp_path / "toy_pets" / "10.0.0")
    (tmp_path / "toy_pets" / "11.0.0.incompleteABC").mkdir()
    assert source._folder("toy_pets", str(tmp_path)).name == "10.0.0"


def test_default_directory(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert len(source.load(name="toy_pets", data_dir=None, download=False, seed=0).test) == 4


def test_download_without_network_fails_at_once(root, offline):
    with pytest.raises(DataError, match=r"'cifar10' can't be fetched: www\.cs\.toronto\.edu has no address here"):
        load("cifar10", root, download=True)


def test_download_leaves_what_is_there(root, offline):
    assert len(load("toy_pets", root, download=True).test) == 4
    source.download(name="toy_pets", data_dir=str(root))


def test_sets_to_be_fetched_by_hand(root, offline):
    with pytest.raises(
        DataError,
        match=r"'imagenet2012' can't be prepared in .* \(Manual directory .+\)\. Mend that, or give --data_dir",
    ):
        load("imagenet2012", root, download=True)


def test_damaged_records(root, tmp_path):
    shutil.copytree(root / "toy_pets", tmp_path / "toy_pets")
    record = next((tmp_path / "toy_pets" / "1.0.0").glob("*train*"))
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 255
    record.write_bytes(content)
    with pytest.raises(
        DataError, match=r"'toy_pets', split train, is damaged after 0 of 20 examples .*Delete .* prepare it anew"
    ):
        load("toy_pets", tmp_path)
    record.unlink()
    with pytest.raises(DataError, match=r"'toy_pets', split train, is damaged"):
        load("toy_pets", tmp_path)
    (tmp_path / "toy_pets" / "1.0.0" / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"1\.0\.0 can't be read by TFDS \(.+\)\. Delete it"):
        load("toy_pets", tmp_path)


def test_fewer_records_than_promised(root, tmp_path):
    shutil.copytree(root / "toy_pets", tmp_path / "toy_pets")
    info = tmp_path / "toy_pets" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"20"', '"21"'))
    with pytest.raises(
        DataError, match=r"split train, is damaged .* expected to contain 21 elements but contained only 20"
    ):
        load("toy_pets", tmp_path)


def test_more_than_the_memory_is_refused(root, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    with pytest.raises(
        DataError, match=r"'toy_pets', split train, needs .* Set data.shard_rows .* or a smaller image_size"
    ):
        load("toy_pets", root)


def test_fingerprint_follows_the_records(root, tmp_path):
    shutil.copytree(root / "toy_pets", tmp_path / "toy_pets")
    options = {"image_size": None, "test_fraction": None}
    first = source.fingerprint(name="toy_pets", data_dir=str(root), **options)
    assert source.fingerprint(name="toy_pets:1.0.0", data_dir=str(tmp_path), **options) == first
    assert source.fingerprint(name="toy_pets", data_dir=str(root), **options | {"image_size": 8}) != first
    assert source.fingerprint(name="toy_val", data_dir=str(root), **options) != first
    record = next((tmp_path / "toy_pets" / "1.0.0").glob("*test*"))
    content = bytearray(record.read_bytes())
    content[10] ^= 1
    record.write_bytes(content)
    assert source.fingerprint(name="toy_pets", data_dir=str(tmp_path), **options) != first
    with pytest.raises(DataError, match="isn't in"):
        source.fingerprint(name="cifar10", data_dir=str(root), **options)


def test_same_set_under_two_names_is_the_same(root):
    config = Data(name="toy_pets", ood={"x": Source(name="toy_pets:1.0.0")})
    with pytest.raises(ConfigError, match=r"data\.ood\.x 'toy_pets:1\.0\.0' is the in-domain set itself"):
        dataset.load(config, data_dir=str(root), download=False, seed=0)


def test_one_set_in_another_shape_or_version_is_the_same(root, tmp_path):
    shutil.copytree(root / "toy_pets", tmp_path / "toy_pets" / "plain")
    shutil.copytree(root / "toy_val", tmp_path / "toy_val")
    shutil.copytree(root / "toy_train", tmp_path / "toy_train")
    shutil.copytree(tmp_path / "toy_pets" / "plain" / "1.0.0", tmp_path / "toy_pets" / "plain" / "1.1.0")
    for other in (
        Source("toy_pets", {"image_size": 8}),
        Source("toy_pets:1.0.0"),
        Source("toy_pets/plain", {"test_fraction": 0.5}),
    ):
        for sets in ({"auxiliary": other}, {"ood": {"x": other}}, {"shifted": {"x": other}}):
            with pytest.raises(ConfigError, match="is the in-domain set itself"):
                dataset.load(Data(name="toy_pets", **sets), data_dir=str(tmp_path), download=False, seed=0)
    config = Data(name="toy_pets", auxiliary=Source("toy_val"), ood={"x": Source("toy_val", {"image_size": 8})})
    with pytest.warns(UserWarning, match="is also the auxiliary set: its test split is unseen"):
        dataset.load(config, data_dir=str(tmp_path), download=False, seed=0)
    halves = Source("toy_train", {"test_fraction": 0.5})
    for others in ({}, {"test_fraction": 0.4}):
        config = Data(name="toy_pets", auxiliary=halves, ood={"x": Source("toy_train", others)})
        with pytest.raises(ConfigError, match=r"data\.ood\.x 'toy_train' has the files of data\.auxiliary 'toy_train'"):
            dataset.load(config, data_dir=str(tmp_path), download=False, seed=0)


@needs_real_data("mnist", "not_mnist", "fashion_mnist")
def test_grey_sets_under_each_other():
    config = Data(name="mnist", ood={"letters": Source(name="not_mnist")})
    with pytest.raises(DataError, match=r"data 'mnist' has no train split \(there: test\)"):
        dataset.load(config, data_dir=REAL, download=False, seed=0)
    data = dataset.load(
        dataclasses.replace(config, name="fashion_mnist", max_train=100), data_dir=REAL, download=False, seed=0
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 6000, 10000)
    assert data.ood["letters"].inputs.shape == (10000, 28, 28, 1)
    assert np.bincount(data.validation.labels).tolist() == [600] * 10


@needs_real_data("cifar10", "cifar100", "tiny_imagenet32", "mnist")
@pytest.mark.slow
def test_cifar10_with_auxiliary_and_ood_sets():
    config = Data(
        name="cifar10",
        auxiliary=Source(name="cifar100"),
        ood={"tiny_imagenet": Source(name="tiny_imagenet32"), "mnist": Source(name="mnist")},
        max_test=2000,
    )
    data = dataset.load(config, data_dir=REAL, download=False, seed=0)
    assert (len(data.train), len(data.validation), len(data.auxiliary)) == (45000, 2000, 10000)
    assert data.class_names[0] == "airplane"
    assert data.ood["mnist"].inputs.shape == (2000, 32, 32, 3)
    mean, std = data.normalisation()  # the published statistics of the whole training set
    np.testing.assert_allclose(mean / 255, [0.4914, 0.4822, 0.4465], atol=2e-3)
    np.testing.assert_allclose(std / 255, [0.2470, 0.2435, 0.2616], atol=2e-3)


def test_lazily_read_images_are_those_that_are_read_at_once(root):
    for name, options in (("toy_pets", {}), ("toy_sizes", {"image_size": 7})):
        eager, lazy = load(name, root, **options), load(name, root, lazily=True, **options)
        stream = lazy.train.inputs
        assert stream.shape == eager.train.inputs.shape
        assert_array_equal(lazy.train.labels, eager.train.labels)
        assert_array_equal(stream.array(), eager.train.inputs)
        some = np.array([0, 2, 3])
        assert_array_equal(stream[some].array(), eager.train.inputs[some])


def prepare(root, monkeypatch, name, splits):
    """Prepares a set of TFDS's catalogue as TFDS does, with its own features and folders but these examples."""
    builder = source._tfds().builder(name, data_dir=root)
    made = {split: enumerate(examples) for split, examples in splits.items()}
    monkeypatch.setattr(type(builder), "_split_generators", lambda self, dl_manager: made)
    builder.download_and_prepare()


def test_corrupted_sets_of_the_catalogue_by_config(root, tmp_path, monkeypatch):
    examples = [{"image": image(32, 32, 3), "label": i % 10} for i in range(20)]
    for config in ("brightness_3", "brightness_5"):
        prepare(tmp_path, monkeypatch, f"cifar10_corrupted/{config}", {"test": examples})
    splits = load("cifar10_corrupted/brightness_3", tmp_path)
    assert splits.train is None
    assert splits.test.inputs.shape == (20, 32, 32, 3)
    assert np.bincount(splits.test.labels).tolist() == [2] * 10
    assert len(load("cifar10_corrupted/brightness_5:1.0.0", tmp_path).test) == 20
    with pytest.raises(DataError, match=r"'cifar10_corrupted' has several configs in .*: brightness_3, brightness_5\."):
        load("cifar10_corrupted", tmp_path)
    with pytest.raises(DataError, match=r"'cifar10_corrupted/fog_1' isn't in .*Give --download"):
        load("cifar10_corrupted/fog_1", tmp_path)
    with pytest.raises(DataError, match=r"'cifar10_corrupted:fog_1' is no name of a data source\. .*set/config or"):
        load("cifar10_corrupted:fog_1", tmp_path)
    grey = [{"image": image(28, 28, 1), "label": i % 10} for i in range(10)]
    prepare(tmp_path, monkeypatch, "mnist_corrupted/fog", {"train": grey, "test": grey})
    assert load("mnist_corrupted/fog", tmp_path).test.inputs.shape == (10, 28, 28, 1)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("cifar10_corrupted/brightness_3", ("cifar10_corrupted, brightness", 3)),
        ("imagenet2012_corrupted/gaussian_noise_5:3.1.0", ("imagenet2012_corrupted, gaussian_noise", 5)),
        ("mnist_corrupted/fog", None),
        ("cifar10_corrupted/fog_6", None),
        ("other/fog_3", None),
        ("cifar10", None),
    ],
)
def test_severity_is_in_the_configs_name(name, severity):
    assert sources.find(name, field="data.shifted.x", options={}).severity() == severity


def test_a_corrupted_set_of_the_catalogue_numbers_the_in_domain_classes(tmp_path, monkeypatch):
    tfds = source._tfds()
    some = [{"image": image(32, 32, 3), "label": i % 10} for i in range(20)]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    features = {"image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.ClassLabel(names=names)}
    write(tmp_path, "cifar10", {"train": some, "test": some}, features)
    prepare(tmp_path, monkeypatch, "cifar10_corrupted/fog_1", {"test": some})
    prepare(
        tmp_path,
        monkeypatch,
        "svhn_cropped",
        {"train": [e | {"id": "1"} for e in some], "test": [e | {"id": "1"} for e in some]},
    )
    config = Data(name="cifar10", validation_fraction=0.5, shifted={"fog_1": Source("cifar10_corrupted/fog_1")})
    data = dataset.load(config, data_dir=str(tmp_path), download=False, seed=0)
    assert sorted(data.shifted["fog_1"].labels) == sorted(data.test.labels)
    digits = dataclasses.replace(config, shifted={"digits": Source("svhn_cropped")})
    with pytest.raises(
        DataError, match=r"data\.shifted\.digits 'svhn_cropped' has the classes 0, 1, 2, … \(10\); the in"
    ):
        dataset.load(digits, data_dir=str(tmp_path), download=False, seed=0)
    ood = dataclasses.replace(config, shifted={}, ood={"digits": Source("svhn_cropped")})
    assert dataset.load(ood, data_dir=str(tmp_path), download=False, seed=0).ood["digits"].inputs.shape == (
        20,
        32,
        32,
        3,
    )


def test_textures_of_the_catalogue_are_resized(tmp_path, monkeypatch):
    textures = [{"image": image(40 + i, 50, 3), "label": i, "file_name": f"{i}.jpg"} for i in range(4)]
    prepare(tmp_path, monkeypatch, "dtd", {split: textures for split in ("train", "validation", "test")})
    with pytest.raises(DataError, match=r"'dtd' has images of different sizes\. Set the option image_size=NN"):
        load("dtd", tmp_path)
    splits = load("dtd", tmp_path, image_size=32)
    assert splits.test.inputs.shape == (4, 32, 32, 3)
    assert splits.class_names[:2] == ("banded", "blotchy")
