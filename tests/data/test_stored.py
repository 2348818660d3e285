import numpy as np
import pytest
from PIL import Image

from end2_tf.config import Augmentation, Data, Source
from end2_tf.data import dataset, moments, shards, stored
from end2_tf.data.dataset import Places
from end2_tf.data.examples import Examples
from end2_tf.data.shards import Shards
from end2_tf.data.stored import Loaded
from end2_tf.data.streams import Stream
from end2_tf.data.views import Views
from end2_tf.errors import ConfigError, DataError
from end2_tf.reading import npz
from end2_tf.workdir import Workdir

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(20, 2)).astype(np.float32)


def _npz(path, num=60, dtype=np.uint8, sort=False):
    labels = RNG.integers(0, 3, num)
    labels[:3] = [0, 1, 2]
    labels = np.sort(labels) if sort else labels
    images = RNG.integers(0, 256, (num, 6, 5)).astype(dtype)
    np.savez(path, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    return path


def _places(tmp_path):
    root = Workdir(tmp_path / "run")
    return Places(root.artefact("data", "inside"), root.artefact("data", "outside"))


def _load(config, tmp_path, **more):
    return dataset.load(config, data_dir=None, download=False, seed=0, places=_places(tmp_path), **more)


def _own(path, **more):
    return Data(name="own_data", path=str(path), shard_rows=7, **more)


def test_an_npz_in_shards_holds_what_it_holds_in_memory(tmp_path):
    path = _npz(tmp_path / "my.npz")
    extra = Source(name="own_data", options={"path": str(_npz(tmp_path / "other.npz", 20))})
    config = _own(path, auxiliary=extra, calibration_fraction=0.1, max_train=40, max_test=5)
    told = []
    found = _load(config, tmp_path, report=lambda *row: told.append(row[:3]))
    plain = dataset.load(Data(**{**vars(config), "shard_rows": None}), data_dir=None, download=False, seed=0)
    assert isinstance(found.train.inputs, Shards)
    assert isinstance(found.auxiliary.inputs, Shards)
    assert found.train.inputs.shape == (40, 6, 5, 1)
    for name in ("train", "validation", "calibration", "test"):
        mine, theirs = getattr(found, name), getattr(plain, name)
        np.testing.assert_array_equal(mine.inputs[:], theirs.inputs)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
    np.testing.assert_array_equal(found.auxiliary.inputs[:], plain.auxiliary.inputs)
    np.testing.assert_allclose(found.normalisation(), plain.normalisation())
    assert found.class_names == plain.class_names
    assert ("reading train into shards", 40, 40) in told
    assert found.summary() == plain.summary()


def test_what_is_there_isnt_read_again_and_what_is_missing_is(tmp_path, monkeypatch):
    path = _npz(tmp_path / "my.npz")
    first = _load(_own(path), tmp_path)
    whole, shard = first.train.inputs[:], first.train.inputs.path(3)
    contents = shard.read_bytes()
    read = npz.rows
    monkeypatch.setattr(npz, "rows", lambda *_: pytest.fail("read"))
    np.testing.assert_array_equal(_load(_own(path), tmp_path).train.inputs[:], whole)
    asked = []
    monkeypatch.setattr(
        npz, "rows", lambda file, name, ids, most: (asked.append(ids), *read(file, name, ids, most))[1:]
    )
    shard.write_bytes(contents[:-1])  # an altered one is made anew, with those after it
    again = _load(_own(path), tmp_path)
    np.testing.assert_array_equal(again.train.inputs[:], whole)
    assert shard.read_bytes() == contents
    assert len(asked) == 1
    assert len(asked[0]) == len(whole) - 21


def test_a_folder_of_images_is_shuffled_since_it_comes_class_by_class(tmp_path):
    for split, num in (("train", 30), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(num):
                Image.fromarray(np.full((4, 4), 100 * label + i, np.uint8)).save(folder / f"{i:03d}.png")
    found = _load(_own(tmp_path / "images"), tmp_path)
    values = found.train.inputs[:][:, 0, 0, 0]
    np.testing.assert_array_equal(values >= 100, found.train.labels == 1)
    assert len(set(values.tolist())) == len(found.train) == 54
    assert np.count_nonzero(np.diff(found.train.labels)) > 15


@pytest.mark.parametrize(
    ("write", "error", "says"),
    [
        (lambda p: _npz(p, sort=True), DataError, "come class by class .* Shuffle the file once"),
        (lambda p: _npz(p, dtype=np.int16), DataError, "x_train is int16 .* must be uint8 images or float32 features"),
    ],
)
def test_what_shards_cant_be_made_of(tmp_path, write, error, says):
    with pytest.raises(error, match=says):
        _load(_own(write(tmp_path / "my.npz")), tmp_path)
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_features_that_arent_finite_are_named_by_their_own_number(tmp_path):
    labels = np.arange(40) % 2
    x = RNG.normal(size=(40, 3)).astype(np.float32)
    x[33, 1] = np.nan
    np.savez(tmp_path / "my.npz", x_train=x, y_train=labels, x_test=x[:4], y_test=labels[:4])
    with pytest.raises(DataError, match=r"x_train\[33, 1\] is nan.* drop example 33"):
        _load(_own(tmp_path / "my.npz"), tmp_path)


def test_a_source_that_makes_its_examples_in_memory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data.shard_rows is 7, but the source 'spirals' makes its examples in mem"):
        _load(Data(shard_rows=7), tmp_path)


def test_shapes_alone_need_no_place(tmp_path):
    found = dataset.load(_own(_npz(tmp_path / "my.npz")), data_dir=None, download=False, seed=0)
    assert isinstance(found.train.inputs, Stream)
    assert found.train.inputs.shape == (54, 6, 5, 1)


def test_a_source_that_has_less_than_it_says(tmp_path):
    stream = Stream(lambda ids: iter([VALUES[ids[:8]]]), 20, (2,), np.float32, "x_train")
    loaded = Loaded({"train": Examples(stream, np.arange(20) % 2)}, ("a", "b"))
    with pytest.raises(DataError, match="x_train has fewer examples than the 20 it says"):
        stored.write(Workdir(tmp_path).artefact("data", "x"), loaded, 6, seed=0)


def _shards(folder, values, rows):
    found = Shards(folder, len(values), rows)
    for number, start, stop in list(found.missing()):
        found.write(number, values[start:stop])
    return found


def test_moments_of_shards_are_those_of_the_array(tmp_path):
    features = (RNG.normal(size=(101, 4)) * [1, 100, 1e-3, 0] + [0, 1e4, 5, 7]).astype(np.float32)
    parts = _shards(tmp_path / "x", features, 9)
    for mine, theirs in zip(moments.of(parts), moments.of(features), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)
    np.testing.assert_allclose(moments.deviation(parts), features.std(0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_view_of_shards_is_one_whoever_asks(tmp_path, share):
    images = RNG.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8)
    inside = _shards(tmp_path / "in", images, 7)
    outside = _shards(tmp_path / "out", 255 - images[:20], 6)
    change = Augmentation(flip=True, shift=2, mixup=0.6, share=share)
    views = Views(change, inside, 3)
    whole = views.array(2)
    np.testing.assert_array_equal(Views(change, inside, 3).rows_at(2, np.array([30, 1, 22])), whole[[30, 1, 22]])
    assert (whole != views.array(1)).any()
    # Whom an example is mixed up with is in its own shard, in the same view.
    partners, weights = views.mixture(2)
    assert (partners // 7 == np.arange(40) // 7).all()
    assert 0.1 < (weights < 1).mean() < 0.9
    plain = Views(Augmentation(flip=True, shift=2, share=share), inside, 3).array(2).astype(float)
    own = weights[:, None, None, None]
    np.testing.assert_allclose(whole, own * plain + (1 - own) * plain[partners], atol=0.501)
    # Shards don't repeat each other's draws.
    same = Views(Augmentation(shift=2), _shards(tmp_path / "same", images[:1].repeat(40, 0), 7), 3).array(0)
    assert (same[:7] != same[7:14]).any()

    extra = Views(Augmentation(mixup=1.0), outside, 3, partners=inside)
    partners, weights = extra.mixture(0)
    np.testing.assert_array_equal(partners // 7, np.arange(20) // 6)
    own = weights[:, None, None, None]
    np.testing.assert_allclose(extra.array(0), own * (255.0 - images[:20]) + (1 - own) * images[partners], atol=0.501)


def test_jitter_in_shards(tmp_path):
    features = RNG.normal(size=(30, 2)).astype(np.float32)
    views = Views(Augmentation(jitter=0.1), _shards(tmp_path / "x", features, 8), 0)
    noise = (views.array(4) - features) / features.std(0)
    assert 0.07 < noise.std() < 0.13
    assert (noise[:8] != noise[8:16]).all()


def test_two_that_write_at_once_write_the_same(tmp_path):
    examples = Examples(RNG.integers(0, 256, (20, 2, 2, 1)).astype(np.uint8), np.arange(20) % 2)
    artefact = Workdir(tmp_path).artefact("data", "x")
    first = stored.write(artefact, Loaded({"train": examples}, ("a", "b")), 6, seed=0)
    other = Workdir(tmp_path).artefact("data", "x")  # as another process has it
    second = stored.write(other, Loaded({"train": examples}, ("a", "b")), 6, seed=0)
    np.testing.assert_array_equal(first.sets["train"].inputs[:], second.sets["train"].inputs[:])
    assert sorted(first.sets["train"].inputs[:].tolist()) == sorted(examples.inputs.tolist())
    assert shards.rows_in(second.sets["train"].inputs) == 6
