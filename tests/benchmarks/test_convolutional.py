"""The benchmark of convolutional members."""

from __future__ import annotations

import convolutional
import numpy as np
import pytest


@pytest.mark.slow
def test_both_ways_train_the_same_networks_and_are_told(monkeypatch):
    rows = {row.what: row for row in convolutional.measure(quick=True)}
    case = convolutional.CASES[0]
    ours, keras = (rows[f"{case.name}, {way}"].values[0] for way in ("ours", "keras"))
    assert rows[f"{case.name}, ours / keras"].values == (ours / keras,)
    assert min(ours, keras) > 0
    assert all(0 <= rows[f"{case.name}, {way}: error"].median < 92 for way in ("ours", "keras"))


@pytest.mark.parametrize(("case", "weights"), list(zip(convolutional.CASES, (24_000, 290_000), strict=True)))
def test_networks_have_the_weights_that_their_names_say(case, weights):
    from end2_tf import backbones

    moments = {name: np.ones(case.shape[-1], np.float32) for name in ("mean", "std")}
    model = backbones.build("cnn", case.options, input_shape=case.shape, num_classes=10, **moments)
    assert model.count_params() == pytest.approx(weights, rel=0.05)


def test_images_can_be_learnt_and_held_out_ones_are_others(tmp_path):
    convolutional._write_images(tmp_path / "i.npz", convolutional.CASES[0], 300)
    data = np.load(tmp_path / "i.npz")
    assert data["x_train"].shape == (300, 28, 28, 1)
    assert data["x_train"].dtype == np.uint8
    means = np.stack([data["x_train"][data["y_train"] == k].mean(0) for k in range(10)])
    distances = ((data["x_test"][:, None].astype(float) - means[None]) ** 2).sum((2, 3, 4))
    assert (distances.argmin(1) == data["y_test"]).mean() > 0.5
