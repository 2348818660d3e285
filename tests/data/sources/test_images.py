from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from end2_tf.config import Data, Source
from end2_tf.data import dataset, sources
from end2_tf.data.streams import Stream
from end2_tf.errors import ConfigError, DataError

PIXELS = np.random.default_rng(0)


def image(*shape):
    return PIXELS.integers(0, 256, shape, np.uint8)


def write(root, images):
    """Saves images under their paths, which say the format."""
    for name, pixels in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def find(path, **options):
    return sources.find("images", field="data.ood.lsun", options={"path": str(path), **options})


def load(path, lazily=False, **options):
    return find(path, **options).load(data_dir=None, download=False, seed=0, lazily=lazily)


def fingerprint(path, **options):
    return find(path, **options).fingerprint(data_dir=None)


@pytest.fixture
def flat(tmp_path):
    return write(tmp_path / "flat", {f"{i}.png": image(6, 5, 3) for i in range(7)})


def opened(*paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def test_a_flat_folder_is_train_alone(flat):
    (flat / "readme.txt").write_text("no image")
    splits = load(flat)
    assert list(splits.named()) == ["train"]
    assert splits.train.labels is None
    assert splits.class_names == ()
    assert_array_equal(splits.train.inputs, opened(*(flat / f"{i}.png" for i in range(7))))


def test_folders_by_class_or_deeper_are_one_set(tmp_path):
    images = {"bridge/a.png": image(4, 4, 3), "bridge/old/b.png": image(4, 4, 3), "tower/c.png": image(4, 4, 3)}
    assert_array_equal(load(write(tmp_path, images)).train.inputs, np.stack(list(images.values())))


def test_train_and_test_folders_are_splits_and_nothing_beside_them(tmp_path):
    images = {
        "test/a/0.png": image(4, 4, 3),
        "train/a/1.png": image(4, 4, 3),
        "train/b/2.png": image(4, 4, 3),
        "sketches/3.png": image(9, 9, 3),
    }
    splits = load(write(tmp_path, images))
    assert_array_equal(splits.test.inputs, images["test/a/0.png"][None])
    assert_array_equal(splits.train.inputs, np.stack([images["train/a/1.png"], images["train/b/2.png"]]))
    read = functools.partial(find(tmp_path).load, data_dir=None, download=False, seed=0)
    assert list(read(wanted=["test", "train"]).named()) == ["test"]
    assert list(read(wanted=["validation", "train"]).named()) == ["train"]
    assert list(read(wanted=["validation"]).named()) == ["train", "test"]


def test_size_and_channels(tmp_path):
    grey, colour = image(6, 5), image(12, 9, 3)
    root = write(tmp_path, {"0.png": grey, "1.png": colour})
    with pytest.raises(DataError, match=r"1\.png is 9×12 pixels, but 0\.png is 5×6\. .*set the option .*size=NN"):
        load(root)
    assert load(root, size=8).train.inputs.shape == (2, 8, 8, 3)  # one colour image makes all colour
    made = load(root, size=8, channels=1).train.inputs
    assert made.shape == (2, 8, 8, 1)
    resized = Image.fromarray(grey).resize((8, 8), Image.Resampling.BILINEAR)
    assert_array_equal(made[0, ..., 0], np.asarray(resized))
    (root / "1.png").unlink()
    assert load(root).train.inputs.shape == (1, 6, 5, 1)
    assert_array_equal(load(root, channels=3).train.inputs[0], np.repeat(grey[..., None], 3, axis=2))


def test_some_are_evenly_spaced(flat):
    kept = load(flat, num=3).train.inputs
    assert_array_equal(kept, opened(*(flat / f"{i}.png" for i in (0, 2, 4))))
    assert len(load(flat, num=7).train) == len(load(flat, num=100).train) == 7


def test_lazily_read_images_are_those_that_are_read_at_once(flat):
    for options in ({}, {"size": 4, "channels": 1}):
        stream, eager = load(flat, lazily=True, **options).train.inputs, load(flat, **options).train.inputs
        assert isinstance(stream, Stream)
        assert stream.in_any_order
        assert_array_equal(stream.array(), eager)


def test_fingerprint_follows_what_is_used(flat):
    first, few = fingerprint(flat), fingerprint(flat, num=3)
    assert len({first, few, fingerprint(flat, size=8), fingerprint(flat, channels=1)}) == 4
    write(flat, {"6.png": image(6, 5, 3)})
    assert fingerprint(flat) != first
    assert fingerprint(flat, num=3) == few  # 0, 2 and 4 are still those
    write(flat, {"4.png": image(6, 5, 3)})
    assert fingerprint(flat, num=3) != few


@pytest.mark.parametrize("read", [load, fingerprint])
def test_unusable_folders(tmp_path, flat, read):
    with pytest.raises(
        DataError, match=r"^data\.ood\.lsun 'images' has path '.*fla', which is no folder\. Did you mean 'fl"
    ):
        read(tmp_path / "fla")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty has no image\. Put \.bmp, .* files there, or name another folder"):
        read(tmp_path / "empty")
    reader = sources.find("images", field="data.ood.lsun", options={})
    with pytest.raises(DataError, match=r"data\.ood\.lsun 'images' has no path\. Set data\.ood\.lsun\.options\.path"):
        reader.fingerprint(data_dir=None)


def test_images_that_cant_be_read(flat):
    (flat / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png can't be read as an image"):
        load(flat, size=8, channels=3)  # no header is looked at before
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(flat / "3.png")
    for options in ({"size": 8}, {"size": 8, "channels": 1}):
        with pytest.raises(DataError, match=r"3\.png has more than 8 bits a channel \(mode I;16\)\. Save it with 8\."):
            load(flat, **options)


def test_as_ood_and_auxiliary_set(tmp_path, flat):
    np.savez(tmp_path / "x.npz", x_train=image(8, 6, 6), y_train=np.arange(8) % 2, x_test=image(2, 6, 6), y_test=[0, 1])
    base = {"name": "own_data", "path": str(tmp_path / "x.npz"), "validation_fraction": 0.25}
    source = Source("images", {"path": str(flat)})
    data = dataset.load(Data(**base, ood={"lsun": source}), data_dir=None, download=False, seed=0)
    assert data.ood["lsun"].inputs.shape == (7, 6, 6, 1)
    data = dataset.load(Data(**base, auxiliary=source, max_train=6), data_dir=None, download=False, seed=0)
    assert data.auxiliary.inputs.shape == (6, 6, 6, 1)
    with pytest.raises(ConfigError, match=r"data\.ood\.lsun 'images' would be tested on its train split"):
        dataset.load(Data(**base, ood={"lsun": source}, auxiliary=source), data_dir=None, download=False, seed=0)
    with pytest.raises(DataError, match=r"data 'images' has no test split \(there: train\), which in-domain data need"):
        dataset.load(Data(name="images", path=str(flat)), data_dir=None, download=False, seed=0)
