from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from end2_tf.data.sources import ring


def test_points_lie_on_the_circle():
    splits = ring.load(radius=410.0, noise=0.0, num=50, num_test=2000)
    assert_allclose(np.linalg.norm(splits.train.inputs, axis=1), 410, rtol=1e-6)
    assert abs(splits.test.inputs.mean(0)).max() < 4 * 410 / np.sqrt(2 * 2000)  # all directions alike
    assert splits.train.inputs.dtype == np.float32
    assert splits.train.labels is None


def test_noise_is_its_standard_deviation():
    quiet, loud = ring.generate(20000, 800, 0.0, 7).inputs, ring.generate(20000, 800, 100.0, 7).inputs
    assert_allclose((loud - quiet).std(0), 100, rtol=0.03)


def test_train_and_test_differ_and_stay():
    splits = ring.load(num=1000, num_test=1000)
    assert not np.isin(splits.train.inputs, splits.test.inputs).any()
    assert_allclose(ring.load().train.inputs, splits.train.inputs)


def test_fingerprint_follows_options():
    assert ring.fingerprint(radius=410.0) != ring.fingerprint(radius=800.0)
