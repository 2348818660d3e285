from __future__ import annotations

import numpy as np
import pytest

from end2_tf.data import sources
from end2_tf.errors import ConfigError, DataError

SMALL = {"name": "procedural", "options": {"num": 6, "num_test": 2, "size": 16, "channels": 3}}
GREY = {"name": "procedural", "options": {"num": 4, "num_test": 3, "size": 28, "channels": 1, "generator_seed": 7}}


def reader(of, **options):
    return sources.find("several", field="data.auxiliary", options={"of": of, **options})


def test_sources_follow_one_another_in_one_shape():
    made = reader([SMALL, GREY], size=28, channels=1).load(data_dir=None, download=False, seed=0)
    assert made.train.inputs.shape == (10, 28, 28, 1)
    assert made.test.inputs.shape == (5, 28, 28, 1)
    alone = sources.find("procedural", field="x", options=GREY["options"]).load(data_dir=None, download=False, seed=0)
    np.testing.assert_array_equal(made.train.inputs[6:], alone.train.inputs)


def test_sources_read_what_is_wanted(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.zeros((5, 28, 28), np.uint8))
    only_train = {"name": "own_data", "options": {"path": str(tmp_path / "x.npz")}}
    both = np.zeros((2, 28, 28), np.uint8)
    np.savez(tmp_path / "both.npz", x_train=both, x_val=both, x_test=both + 1)
    complete = {"name": "own_data", "options": {"path": str(tmp_path / "both.npz")}}
    for wanted, sizes in (
        (["test", "train"], {"train": 5, "test": 2}),  # the first that each has
        (["train"], {"train": 7}),
        (["validation", "train"], {"train": 7}),  # there is no validation split of several
        ([], {"train": 7, "test": 2}),
    ):
        made = reader([only_train, complete]).load(data_dir=None, download=False, seed=0, wanted=wanted)
        assert {name: len(examples) for name, examples in made.named().items()} == sizes


def test_fingerprint_follows_the_sources_and_the_shape():
    prints = {
        reader(of, size=size).fingerprint(data_dir=None)
        for of, size in (([SMALL], 28), ([SMALL], 32), ([SMALL, GREY], 28), ([GREY, SMALL], 28))
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ([], r"options\.of is empty. Name at least one source"),
        ([3], r"options\.of\[0\] is 3. Allowed: a source's name"),
        ([SMALL, {"nam": "procedural"}], r"options\.of\[1\]"),
        (["procedurel"], "procedurel"),
    ],
)
def test_wrong_entries(of, message):
    with pytest.raises((ConfigError, DataError), match=message):
        reader(of).load(data_dir=None, download=False, seed=0)


def test_features_are_refused():
    with pytest.raises(DataError, match="which aren't images"):
        reader(["ring"]).load(data_dir=None, download=False, seed=0)
