"""What leaves a run: inputs for an ensemble elsewhere."""

import types

import numpy as np
import pytest

from end2_tf import config, delivery
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.errors import ConfigError


@pytest.fixture
def run():
    parts = [
        Examples(np.random.default_rng(i).normal(size=(6, 3)).astype(np.float32), np.arange(6) % 2) for i in range(3)
    ]
    return types.SimpleNamespace(experiment=config.Experiment(), data=DataSet(*parts, None, {}, ("a", "b")))


def test_inputs_are_written_once_each(run, tmp_path):
    assert delivery.write_inputs(run, tmp_path / "x.npz") == (18, {"train": 6, "validation": 6, "test": 6})
    with np.load(tmp_path / "x.npz") as file:
        assert file["inputs"].shape == (18, 3)


def test_a_file_that_cant_be_written(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"/x\.npz', which can't be written \((Not a directory|File exists)\)\. Name"):
        delivery.write_inputs(run, tmp_path / "file" / "x.npz")
