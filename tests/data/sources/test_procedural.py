from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from end2_tf.data import sources
from end2_tf.data.sources import procedural


def splits(**options):
    reader = sources.find("procedural", field="data.auxiliary", options={"num": 12, "num_test": 4, **options})
    return reader.load(data_dir=None, download=False, seed=0), reader.fingerprint(data_dir=None)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (9, 3)])
def test_images_of_the_size_that_was_asked_for(size, channels):
    made, _ = splits(size=size, channels=channels)
    assert made.train.inputs.shape == (12, size, size, channels)
    assert made.test.inputs.shape == (4, size, size, channels)
    assert made.train.inputs.dtype == np.uint8
    assert made.train.labels is None
    assert not np.array_equal(made.train.inputs[:4], made.test.inputs)


def test_options_decide_every_pixel():
    one, again, other = splits(), splits(), splits(generator_seed=301)
    assert_array_equal(one[0].train.inputs, again[0].train.inputs)
    assert_array_equal(one[0].test.inputs, other[0].train.inputs[:4])  # the next seed
    assert one[1] == again[1] != other[1]


def test_each_kind_looks_like_its_name():
    make = lambda draw: [draw(np.random.default_rng(seed), 32, 1)[..., 0] for seed in range(60)]
    rough = lambda image: np.abs(np.diff(image, axis=0)).mean() / (image.std() + 1e-9)
    kinds = {draw.__name__: make(draw) for draw in procedural.DRAWS}
    assert np.median([rough(i) for i in kinds["leaves"]]) < 0.5 * np.median([rough(i) for i in kinds["pixels"]])
    assert np.mean([(i == 0).mean() for i in kinds["strokes"]]) > 0.5  # sparse
    smoothness = [rough(i) for i in kinds["noise"]]
    assert min(smoothness) < 0.3
    assert max(smoothness) > 0.9  # from clouds to white noise
    assert all(i.min() >= 0 and i.max() <= 255 for name in ("leaves", "strokes") for i in kinds[name])


def test_a_curve_begins_and_ends_where_its_points_do():
    points = np.array([[0.0, 0.0], [4.0, 9.0], [8.0, 0.0]])
    curve = procedural._bezier(points)
    assert curve.shape == (20, 2)
    assert_array_equal(curve[[0, -1]], points[[0, -1]])
    middle = 0.25 * points[0] + 0.5 * points[1] + 0.25 * points[2]
    assert np.abs(curve - middle).sum(1).min() < 0.5
