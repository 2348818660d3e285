from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from end2_tf.data.sources import own_data
from end2_tf.errors import DataError
from end2_tf.reading import memory

FASHION = Path(__file__).parents[2] / "fixtures" / "fashion_mnist_30.npz"


@pytest.fixture
def fashion():
    with np.load(FASHION) as arrays:
        return {name: arrays[name] for name in arrays.files}


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return str(path)


def write_images(root, images, labels, suffix=".png"):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03}{suffix}")


def load(path, seed=0, **options):
    return own_data.load(path=str(path), seed=seed, **options)


@pytest.mark.parametrize("lazily", [False, True])
def test_a_wanted_split_of_an_npz_is_read_alone(tmp_path, fashion, lazily):
    path = save(tmp_path / "x.npz", **fashion, x_val=fashion["x_test"][:3], y_val=fashion["y_test"][:3])
    whole = load(path, lazily=lazily)
    for wanted, given in ((["test", "train"], "test"), (["train"], "train"), (["validation", "train"], "validation")):
        splits = load(path, lazily=lazily, wanted=wanted)
        ((split, examples),) = splits.named().items()
        assert split == given
        assert_array_equal(np.asarray(examples.labels), whole.named()[given].labels)
        inputs, others = (each.inputs.array() if lazily else each.inputs for each in (examples, whole.named()[given]))
        assert_array_equal(inputs, others)
        assert splits.class_names == whole.class_names
    np.savez(tmp_path / "train.npz", x_train=fashion["x_train"])
    assert list(load(tmp_path / "train.npz", wanted=["test", "train"]).named()) == ["train"]


# Arrays


def test_npz_of_images(fashion):
    splits = load(FASHION)
    assert splits.train.inputs.shape == (20, 28, 28, 1)
    assert splits.train.inputs.dtype == np.uint8
    assert_array_equal(splits.test.inputs[..., 0], fashion["x_test"])
    assert_array_equal(splits.train.labels, fashion["y_train"])
    assert splits.validation is None
    assert splits.class_names[9] == "Ankle boot"


def test_npz_of_features(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    splits = load(save(tmp_path / "f.npz", x_train=x, y_train=[0, 1, 0, 1], x_val=x[:1], y_val=[1], x_test=x[:2]))
    assert splits.train.inputs.dtype == np.float32
    assert_array_equal(splits.train.inputs, x)
    assert splits.validation.labels.tolist() == [1]
    assert splits.test.labels is None
    assert splits.class_names == ()


def test_labels_of_keras_cifar_files(tmp_path):
    splits = load(save(tmp_path / "c.npz", x_train=np.zeros((2, 3, 3, 3), np.uint8), y_train=np.array([[1], [0]])))
    assert splits.train.labels.tolist() == [1, 0]


def test_whole_floats_are_pixels_and_labels(tmp_path):
    x = np.array([0.0, 255.0, 17.0, 1.0]).reshape(1, 2, 2)
    splits = load(save(tmp_path / "w.npz", x_train=x, y_train=np.array([0.0])))
    assert splits.train.inputs.ravel().tolist() == [0, 255, 17, 1]
    assert splits.train.labels.dtype == np.int64


def test_pixel_scale(tmp_path, fashion):
    path = save(tmp_path / "s.npz", x_test=fashion["x_test"] / np.float32(255))
    assert_array_equal(load(path, pixel_scale=255).test.inputs[..., 0], fashion["x_test"])
    with pytest.raises(
        DataError, match=r"x_test\[0, \d+, \d+\] is 0\.\d+\. Images need whole .*set the option pixel_scale=255"
    ):
        load(path)


def test_black_and_white_floats_need_a_scale(tmp_path):
    path = save(tmp_path / "b.npz", x_test=np.eye(4, dtype=np.float32)[None])
    with pytest.raises(
        DataError, match=r"no value above 1, so 1 may mean white .*pixel_scale=255 if it means white, else 1"
    ):
        load(path)
    assert load(path, pixel_scale=255).test.inputs.max() == 255
    assert load(path, pixel_scale=1).test.inputs.max() == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": np.full((1, 2, 2), 256)},
            r"x_train\[0, 0, 0\] is 256\. Images need whole numbers from 0 to 255\.$",
        ),
        ({"x_train": np.full((1, 2, 2), -1)}, r"x_train\[0, 0, 0\] is -1\. Images need"),
        ({"x_train": np.full((1, 2, 2), np.nan)}, r"x_train\[0, 0, 0\] is nan\. Images need"),
        ({"x_train": np.array([[1.0, np.inf]])}, r"x_train\[0, 1\] is inf\. Values must be finite"),
        ({"x_train": np.array([[1.0], [1e300]])}, r"x_train as float32\[1, 0\] is inf"),
        ({"x_train": np.zeros(4)}, r"x_train has shape \(4,\)\. Allowed: images"),
        ({"x_train": np.zeros((2, 3, 8, 8), np.uint8)}, r"channels first\. Use np\.moveaxis\(images, 1, 3\)"),
        ({"x_train": np.array([["a"]])}, r"x_train is of type <U1\. Allowed: whole numbers or floats"),
        ({"x_train": np.array([[None]])}, r"x_train holds Python objects, which can run code"),
        (
            {"x_train": np.zeros((1, 2)), "y_train": np.array([0.5])},
            r"y_train is float64 with values that aren't whole",
        ),
        ({"y_train": np.array([0])}, r"has y_train but no x_train"),
        ({"X_train": np.zeros((1, 2))}, r"neither x_train nor x_test \(arrays: X_train\)\. Did you mean 'x_train'\?"),
    ],
)
def test_unusable_arrays(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as error:
        load(save(tmp_path / "bad.npz", **arrays))
    assert "\n" not in str(error.value)


def test_path_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"own_data has no path\. Set data\.path to an \.npz file or a folder"):
        own_data.load(path=None, seed=0)
    (tmp_path / "mydata.npz").touch()
    with pytest.raises(DataError, match=r"which doesn't exist\. Did you mean 'mydata\.npz'\?"):
        load(tmp_path / "my_data.npz")


def test_no_npz(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"text\.npz isn't an \.npz file, or only part of one"):
        load(tmp_path / "text.npz")
    (tmp_path / "half.npz").write_bytes(FASHION.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"half\.npz isn't an \.npz file, or only part of one"):
        load(tmp_path / "half.npz")


def test_damaged_contents_are_named(tmp_path):
    damaged = bytearray(FASHION.read_bytes())
    damaged[3000:3010] = bytes(10)
    (tmp_path / "d.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"d\.npz: x_train is damaged"):
        load(tmp_path / "d.npz")


def header(shape):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("shape", ["(1000000, 1000000, 1000000, 3)", "(5,)", "(-1, 4)"])
def test_headers_that_lie_are_refused_before_allocation(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("x_train.npy", header(shape) + bytes(10))
    with pytest.raises(DataError, match=r"x_train says it has shape .* but 10 bytes follow\. The file is damaged"):
        load(tmp_path / "lie.npz")


def test_no_header(tmp_path):
    with zipfile.ZipFile(tmp_path / "n.npz", "w") as archive:
        archive.writestr("x_train.npy", b"nothing")
    with pytest.raises(DataError, match="x_train has no readable header"):
        load(tmp_path / "n.npz")


def test_more_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(DataError, match=r"needs 0\.0 MB of memory; 0\.0 MB are left\. Use fewer"):
        load(FASHION)


# Folders


def test_folder_with_splits(tmp_path, fashion):
    write_images(tmp_path / "train", fashion["x_train"], fashion["y_train"])
    write_images(tmp_path / "test", fashion["x_test"], fashion["y_test"])
    (tmp_path / "train" / "class0" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".cache").mkdir()
    splits = load(tmp_path)
    assert splits.class_names == tuple(f"class{i}" for i in range(10))
    assert splits.train.inputs.shape == (20, 28, 28, 1)
    order = np.argsort(fashion["y_train"], kind="stable")
    assert_array_equal(splits.train.inputs[..., 0], fashion["x_train"][order])
    assert_array_equal(splits.train.labels, fashion["y_train"][order])
    assert_array_equal(splits.test.inputs[..., 0], fashion["x_test"][np.argsort(fashion["y_test"], kind="stable")])


def test_folder_of_classes_gets_a_test_split(tmp_path, fashion):
    images = np.concatenate([fashion["x_train"], fashion["x_train"] // 2, fashion["x_test"]])
    labels = np.concatenate([fashion["y_train"], fashion["y_train"], fashion["y_test"]])
    write_images(tmp_path, images, labels)
    splits = load(tmp_path, seed=3)
    assert [len(splits.train), len(splits.test)] == [40, 10]
    assert np.bincount(splits.test.labels).tolist() == [1] * 10
    assert_array_equal(load(tmp_path, seed=3).test.inputs, splits.test.inputs)
    assert (load(tmp_path, seed=4).test.inputs != splits.test.inputs).any()
    assert len(load(tmp_path, test_fraction=0.4).test) == 20


def test_one_colour_image_makes_all_colour(tmp_path, fashion):
    write_images(tmp_path / "test", fashion["x_test"], fashion["y_test"])
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "test" / "class0" / "zzz.png")
    test = load(tmp_path).test
    assert test.inputs.shape == (11, 28, 28, 3)
    assert_array_equal(test.inputs[1], red)


def test_different_sizes_need_image_size(tmp_path, fashion):
    write_images(tmp_path / "test", fashion["x_test"], fashion["y_test"])
    Image.fromarray(np.full((10, 20), 77, np.uint8)).save(tmp_path / "test" / "class3" / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png is 20×10 pixels, but 0\d+\.png is 28×28\. .*image_size=NN"):
        load(tmp_path)
    test = load(tmp_path, image_size=16).test
    assert test.inputs.shape == (11, 16, 16, 1)
    assert (test.inputs[4] == 77).all()


def test_photos_are_turned_upright(tmp_path):
    photo = Image.fromarray(np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None], 8, axis=0))  # 8 rows, 30 columns
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    (tmp_path / "test" / "a").mkdir(parents=True)
    photo.save(tmp_path / "test" / "a" / "p.png", exif=exif)
    image = load(tmp_path).test.inputs[0, ..., 0]
    assert image.shape == (30, 8)
    assert image[0, 0] == 0
    assert image[-1, 0] == 232


def test_unreadable_image_is_named(tmp_path, fashion):
    write_images(tmp_path / "test", fashion["x_test"], fashion["y_test"])
    broken = tmp_path / "test" / "class5" / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png can't be read as an image"):
        load(tmp_path)
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)).save(whole, "png")
    broken.write_bytes(whole.getvalue()[:400])  # the header is intact
    with pytest.raises(DataError, match=r"broken\.png can't be read as an image"):
        load(tmp_path)


def test_deep_images_are_refused(tmp_path):
    (tmp_path / "test" / "a").mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "test" / "a" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits a channel \(mode I;16\)"):
        load(tmp_path)


def test_folder_layouts_that_dont_fit(tmp_path, fashion):
    with pytest.raises(DataError, match=r"has no class folders\. Lay images out as train/<class>"):
        load(tmp_path)
    write_images(tmp_path / "train", fashion["x_train"], fashion["y_train"])
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match=r"test has no class folders\. Put <class>"):
        load(tmp_path)
    write_images(tmp_path / "test", fashion["x_test"][:1], ["O"])
    with pytest.raises(DataError, match=r"test/classO is a class that .*train doesn't have\. Did you mean 'class\d'\?"):
        load(tmp_path)
    os.rename(tmp_path / "test" / "classO", tmp_path / "test" / "class0")
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(DataError, match=r"train/empty has no image\. Put \.bmp"):
        load(tmp_path)


# Fingerprints


def test_fingerprint_of_npz_follows_contents(tmp_path, fashion):
    first = own_data.fingerprint(path=str(FASHION), pixel_scale=None)
    assert len(first) == 64
    copy = tmp_path / "elsewhere.npz"
    copy.write_bytes(FASHION.read_bytes())
    assert own_data.fingerprint(path=str(copy), pixel_scale=None) == first
    fashion["x_train"][7, 14, 14] ^= 1
    save(copy, **fashion)
    assert own_data.fingerprint(path=str(copy), pixel_scale=None) != first
    assert own_data.fingerprint(path=str(FASHION), pixel_scale=255.0) != first


def test_fingerprint_of_folder_follows_contents(tmp_path, fashion):
    write_images(tmp_path / "test", fashion["x_test"], fashion["y_test"])
    first = own_data.fingerprint(path=str(tmp_path))
    (tmp_path / "test" / "class0" / "notes.txt").write_text("not an image")
    assert own_data.fingerprint(path=str(tmp_path)) == first
    image = next((tmp_path / "test" / "class0").glob("*.png"))
    stamp = image.stat()
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same time, other contents
    assert own_data.fingerprint(path=str(tmp_path)) != first
