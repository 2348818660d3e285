from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from end2_tf.data import sources
from end2_tf.data.sources import gratings


def splits(**options):
    reader = sources.find("gratings", field="data.ood.x", options={"num": 6, "num_test": 4, **options})
    return reader.load(data_dir=None, download=False, seed=0), reader.fingerprint(data_dir=None)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (9, 3)])
def test_images_of_the_size_that_was_asked_for(size, channels):
    made, _ = splits(size=size, channels=channels)
    assert made.train.inputs.shape == (6, size, size, channels)
    assert made.test.inputs.shape == (4, size, size, channels)
    assert made.test.inputs.dtype == np.uint8
    assert made.test.labels is None


def test_options_decide_every_pixel():
    one, again, other = splits(), splits(), splits(generator_seed=401)
    assert_array_equal(one[0].train.inputs, again[0].train.inputs)
    assert_array_equal(one[0].test.inputs, other[0].train.inputs[:4])  # the next seed
    assert one[1] == again[1] != other[1]


def test_half_are_waves_and_half_have_two_tones():
    images = gratings.generate(200, 28, 1, 0)[..., 0]
    tones = [len(np.unique(image)) for image in images]
    assert max(tones[1::2]) == 2
    assert np.median(tones[0::2]) > 20
    swings = np.ptp(images.reshape(200, -1).astype(int), axis=1)
    assert swings.min() > 30  # all can be seen
    assert np.ptp(images.mean((1, 2))) > 100  # dark ones and bright ones


def test_each_is_one_wave_of_its_own_direction_and_frequency():
    images = gratings.generate(200, 64, 1, 1)[::2, ..., 0].astype(float)  # the sinusoidal ones
    spectra = np.abs(np.fft.rfft2((images - images.mean((1, 2), keepdims=True)) * np.outer(*[np.hanning(64)] * 2))) ** 2
    peaks = np.array([np.unravel_index(s.argmax(), s.shape) for s in spectra])
    fy, fx = np.fft.fftfreq(64, 1 / 64)[peaks[:, 0]], peaks[:, 1]
    cycles = np.hypot(fx, fy)
    assert (cycles <= 9).all()
    assert (cycles >= 4.5).sum() > 20
    assert (cycles <= 2.5).sum() > 20
    quarter = np.floor(np.mod(np.arctan2(fy, fx), np.pi) / (np.pi / 4))
    assert (np.bincount(quarter.astype(int), minlength=4) > 10).all()
    power = [spectra[i][max(0, p[0] - 2) : p[0] + 3, max(0, p[1] - 2) : p[1] + 3].sum() for i, p in enumerate(peaks)]
    assert np.median(power / spectra.sum((1, 2))) > 0.9  # in one place of the spectrum


def test_a_wave_by_hand():
    wave = gratings._wave(8, 0.0, 2.0, 0.25)
    assert_array_equal(wave[0], wave[7])
    np.testing.assert_allclose(wave[0], [1, 0, -1, 0, 1, 0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(gratings._wave(8, np.pi / 2, 2.0, 0.25), wave.T, atol=1e-12)
