from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from end2_tf.config import Data, Source
from end2_tf.data import dataset, sources
from end2_tf.errors import ConfigError


def splits(**options):
    reader = sources.find("noise", field="data.ood.noise", options={"num": 12, "num_test": 200, **options})
    return reader.load(data_dir=None, download=False, seed=0), reader.fingerprint(data_dir=None)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_images_of_the_size_that_was_asked_for(kind, size, channels):
    made, _ = splits(kind=kind, size=size, channels=channels)
    assert made.train.inputs.shape == (12, size, size, channels)
    assert made.test.inputs.shape == (200, size, size, channels)
    assert made.test.inputs.dtype == np.uint8
    assert made.test.labels is None
    assert not np.array_equal(made.train.inputs, made.test.inputs[:12])


def test_uniform_pixels_take_all_values_equally_often():
    pixels = splits(kind="uniform")[0].test.inputs
    counts = np.bincount(pixels.ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize(("mean", "sd"), [(None, None), (100.0, 20.0), (200.0, 60.0)])
def test_gaussian_pixels_are_rounded_and_clipped(mean, sd):
    pixels = splits(mean=mean, sd=sd)[0].test.inputs
    normal = stats.norm(127.5 if mean is None else mean, 255.0 if sd is None else sd)
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    expected = np.diff(normal.cdf(edges))
    found = np.bincount(pixels.ravel(), minlength=256) / pixels.size
    assert_allclose(found, expected, atol=1.5e-3)
    assert_allclose(found[[0, 255]], expected[[0, 255]], atol=5e-3)


def test_pixels_of_an_image_know_nothing_of_each_other():
    pixels = splits(mean=127.5, sd=30)[0].test.inputs.astype(float)
    pixels -= pixels.mean()
    for one, other in (
        (pixels[:, :-1], pixels[:, 1:]),
        (pixels[:, :, :-1], pixels[:, :, 1:]),
        (pixels[..., 0], pixels[..., 1]),
    ):
        assert abs(np.mean(one * other)) / pixels.var() < 0.01


def test_options_decide_every_pixel():
    one, again, other = splits(), splits(), splits(generator_seed=501)
    assert_array_equal(one[0].train.inputs, again[0].train.inputs)
    assert_array_equal(one[0].test.inputs[:12], other[0].train.inputs)  # the next seed
    assert one[1] == again[1]
    others = [other, splits(kind="uniform"), splits(sd=3), splits(size=16), splits(num_test=100)]
    assert len({one[1], *(found for _, found in others)}) == 6
    assert splits(mean=127.5, sd=255)[1] == one[1]  # the same pixels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "uniform", "sd": 3}, r"data\.ood\.noise\.options\.sd is 3, but kind is 'uniform'.* Leave it out, or"),
        ({"kind": "uniform", "mean": 0}, r"data\.ood\.noise\.options\.mean is 0, but kind is 'uniform'"),
        ({"kind": "salt"}, r"data\.ood\.noise\.options\.kind is 'salt'\. Allowed: 'gaussian' or 'uniform'"),
        ({"sd": 0}, r"data\.ood\.noise\.options\.sd is 0\. Allowed: greater than 0"),
        ({"mean": 256}, r"data\.ood\.noise\.options\.mean is 256\. Allowed: less than or equal to 255"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message) as error:
        splits(**options)
    assert "\n" not in str(error.value)


def test_as_ood_set(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((8, 8, 8), np.uint8), y_train=np.arange(8) % 2,
             x_test=np.zeros((2, 8, 8), np.uint8), y_test=np.arange(2))  # fmt: skip
    noise = Source("noise", {"size": 8, "num": 1, "num_test": 5})
    config = Data(name="own_data", path=str(tmp_path / "x.npz"), validation_fraction=0.25, ood={"noise": noise})
    data = dataset.load(config, data_dir=None, download=False, seed=0)
    assert data.ood["noise"].inputs.shape == (5, 8, 8, 1)
