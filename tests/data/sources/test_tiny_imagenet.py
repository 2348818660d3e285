from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from end2_tf.config import Data, Source
from end2_tf.data import dataset, sources
from end2_tf.data.sources import tiny_imagenet
from end2_tf.errors import DataError

PIXELS = np.random.default_rng(0)
WNIDS = ["n02124075", "n04067472", "n04540053"]
WORDS = """n01440764\ttench, Tinca tinca
n02124075\tEgyptian cat
n04067472\treel
n04540053\tvolleyball, ball
"""
VAL = [("val_0.JPEG", 2), ("val_1.JPEG", 0), ("val_10.JPEG", 1), ("val_2.JPEG", 2)]
GREY = "n04067472_0.JPEG"  # some of the published files are


def save(path, *shape):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS.integers(0, 256, shape, np.uint8)).save(path, "JPEG")


@pytest.fixture
def folder(tmp_path):
    """Three of the classes, two training images each, in the published layout."""
    root = tmp_path / "data" / "tiny-imagenet-200"
    for wnid in WNIDS:
        for i in range(2):
            name = f"{wnid}_{i}.JPEG"
            save(root / "train" / wnid / "images" / name, *((64, 64) if name == GREY else (64, 64, 3)))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
    for name, _ in VAL:
        save(root / "val" / "images" / name, 64, 64, 3)
    lines = [f"{name}\t{WNIDS[label]}\t0\t32\t44\t62\n" for name, label in VAL]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    save(root / "test" / "images" / "test_0.JPEG", 64, 64, 3)
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text(WORDS)
    return root


def find(**options):
    return sources.find("tiny_imagenet", field="data.ood.tin", options=options)


def load(root, lazily=False, **options):
    return find(**options).load(data_dir=str(root.parent), download=False, seed=0, lazily=lazily)


def fingerprint(root, **options):
    return find(**options).fingerprint(data_dir=str(root.parent))


def opened(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_published_layout(folder):
    splits = load(folder)
    assert list(splits.named()) == ["train", "test"]
    assert splits.train.inputs.shape == (6, 64, 64, 3)
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.class_names == ("Egyptian cat", "reel", "volleyball")
    assert_array_equal(splits.train.inputs[1], opened(folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"))
    grey = splits.train.inputs[2]
    assert_array_equal(grey, opened(folder / "train" / WNIDS[1] / "images" / GREY))
    assert_array_equal(grey[..., 0], grey[..., 2])
    assert splits.test.labels.tolist() == [label for _, label in VAL]
    assert_array_equal(splits.test.inputs[2], opened(folder / "val" / "images" / "val_10.JPEG"))


def test_another_place_and_size(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    made = load(folder, path=str(tmp_path / "elsewhere"), size=32).test.inputs
    assert made.shape == (4, 32, 32, 3)
    original = Image.open(tmp_path / "elsewhere" / "val" / "images" / "val_0.JPEG")
    assert_array_equal(made[0], np.asarray(original.resize((32, 32), Image.Resampling.BILINEAR)))


def test_default_place(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder.parent))
    assert len(find(size=8).load(data_dir=None, download=False, seed=0).test) == 4


def test_lazily_read_images_are_those_that_are_read_at_once(folder):
    lazy, eager = load(folder, lazily=True, size=16), load(folder, size=16)
    for split in ("train", "test"):
        one, other = lazy.named()[split], eager.named()[split]
        assert one.inputs.in_any_order
        assert one.inputs.shape == other.inputs.shape
        assert_array_equal(one.inputs.array(), other.inputs)
        assert_array_equal(one.labels, other.labels)


def test_a_test_set_is_read_without_the_training_images(folder):
    (folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_0.JPEG").write_bytes(b"not looked at")
    found = find(size=8).load(data_dir=str(folder.parent), download=False, seed=0, wanted=["test", "train"])
    assert list(found.named()) == ["test"]
    assert found.test.labels.tolist() == [label for _, label in VAL]
    with pytest.raises(DataError, match=r"n02124075_0\.JPEG can't be read"):
        find(size=8).load(data_dir=str(folder.parent), download=False, seed=0, wanted=["train"])


def test_classes_of_one_name_get_their_numbers(folder):
    (folder / "words.txt").write_text(WORDS.replace("volleyball, ball", "reel").replace("Egyptian cat", ""))
    assert load(folder, size=8).class_names == ("n02124075", "reel (n04067472)", "reel (n04540053)")


def test_fingerprint_follows_images_labels_and_options(folder):
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    assert fingerprint(folder, size=32) != first
    annotations = folder / "val" / "val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text.replace(f"val_0.JPEG\t{WNIDS[2]}", f"val_0.JPEG\t{WNIDS[1]}"))
    assert fingerprint(folder) != first
    annotations.write_text(text)
    assert fingerprint(folder) == first
    save(folder / "test" / "images" / "test_1.JPEG", 64, 64, 3)  # of no use to anyone
    assert fingerprint(folder) == first
    save(folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_2.JPEG", 64, 64, 3)
    assert fingerprint(folder) != first


def test_absent(tmp_path):
    for read in (load, fingerprint):
        with pytest.raises(DataError) as error:
            read(tmp_path / "nothing")
        assert str(error.value) == (
            f"Tiny ImageNet isn't at {tmp_path}/tiny-imagenet-200. Give --download to fetch it, or unpack "
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip and say where with --data_dir or the option path."
        )


def remove(folder, part):
    place = folder / part
    shutil.rmtree(place) if place.is_dir() else place.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: remove(f, "words.txt"), r"has no words\.txt, so it isn't Tiny ImageNet as published"),
        (lambda f: remove(f, "val/images"), r"has no val/images, so it isn't Tiny ImageNet"),
        (
            lambda f: remove(f, f"train/{WNIDS[1]}"),
            r"train has no folder n04067472, a class of wnids\.txt\. Unpack http",
        ),
        (lambda f: remove(f, f"train/{WNIDS[1]}/images"), r"n04067472 has no image"),
        (lambda f: remove(f, "val/images/val_2.JPEG"), r"val_2\.JPEG can't be read as an image \(.*No such file"),
        (lambda f: (f / "wnids.txt").write_text("a a"), r"wnids\.txt lists 2 classes, 1 of them different"),
        (
            lambda f: (f / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn1\n"),
            r"val_annotations\.txt, line 1, is 'val_0\.JPEG\\tn1'\. Allowed: a file, a tab and a class of wnids\.txt",
        ),
    ],
)
def test_incomplete_folders(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_in_domain_and_beside_another_set(folder, tmp_path):
    data = dataset.load(
        Data(name="tiny_imagenet", validation_fraction=0.5), data_dir=str(folder.parent), download=False, seed=0
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (3, 3, 4)
    images = PIXELS.integers(0, 256, (6, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(6) % 2, x_test=images[:2], y_test=[0, 1])
    source = Source("tiny_imagenet", {"size": 32})
    config = Data(name="own_data", path=str(tmp_path / "x.npz"), validation_fraction=0.4, auxiliary=source)
    with pytest.warns(UserWarning, match="is also the auxiliary set: its test split is unseen, but of a kind"):
        data = dataset.load(
            Data(**{**vars(config), "ood": {"tin": source}}), data_dir=str(folder.parent), download=False, seed=0
        )
    assert data.auxiliary.inputs.shape == (6, 32, 32, 3)
    assert data.ood["tin"].inputs.shape == (4, 32, 32, 3)


@pytest.fixture
def site(folder, tmp_path, monkeypatch):
    """The archive behind a URL, and an empty data directory."""
    published = tmp_path / "site"
    archive = shutil.make_archive(str(published / "tiny-imagenet-200"), "zip", folder.parent, folder.name)
    shutil.rmtree(folder.parent)
    folder.parent.mkdir()
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=str(published))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(tiny_imagenet, "URL", f"http://127.0.0.1:{server.server_port}/tiny-imagenet-200.zip")
        with open(archive, "rb") as file:
            monkeypatch.setattr(tiny_imagenet, "MD5", hashlib.file_digest(file, "md5").hexdigest())
        yield published
        server.shutdown()
        thread.join()


def test_download(site, folder):
    reader = find(size=8)
    reader.download(data_dir=str(folder.parent))
    assert len(reader.load(data_dir=str(folder.parent), download=False, seed=0).train) == 6
    assert [path.name for path in folder.parent.iterdir() if path.name != "downloads"] == ["tiny-imagenet-200"]
    assert list((folder.parent / "downloads").iterdir()) == []
    shutil.rmtree(site)
    reader.download(data_dir=str(folder.parent))  # it is there


@pytest.mark.parametrize(("spoil", "reason"), [("MD5", "hash"), ("URL", "404")])
def test_download_of_something_else(site, folder, monkeypatch, spoil, reason):
    monkeypatch.setattr(tiny_imagenet, spoil, getattr(tiny_imagenet, spoil) + "0")
    with pytest.raises(
        DataError, match=rf"can't be fetched from http.* \(.*{reason}.*\)\. Mend that, or unpack"
    ) as error:
        find().download(data_dir=str(folder.parent))
    assert "\n" not in str(error.value)
    assert not folder.exists()
