"""Distillation's cost: what is timed is one training step, with the targets that members gave."""

from __future__ import annotations

import distillation
import numpy as np
import pytest
from numpy.testing import assert_allclose

from end2_tf.losses import CrossEntropy, EnsembleDistillation


def test_a_call_makes_an_epoch_of_steps():
    images, labels = distillation.make_images(12)
    network = distillation.build("mlp", {"hidden": [4]}, 10)
    before = network.get_weights()
    training = distillation.Training(network, CrossEntropy(), distillation.of_labels(images, labels, 4))
    training()
    assert int(network.optimizer.iterations) == 3
    training()
    assert int(network.optimizer.iterations) == 6
    assert any((a != b).any() for a, b in zip(before, network.get_weights(), strict=True))


def test_a_batch_has_what_the_recorded_members_said(tmp_path):
    images, labels = distillation.make_images(12)
    loss = EnsembleDistillation(targets="statistics")
    inputs, targets = distillation.of_members(images, loss, 4, 3, tmp_path).arrays(0)
    logits = distillation.make_ensemble(3, 10, distillation.SHAPE).predict_logits(inputs).astype(np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert_allclose(targets, probs.mean(1), rtol=1e-5)
    assert probs.std(1).max() > 0.05  # they differ
    same_inputs, same_labels = distillation.of_labels(images, labels, 4).arrays(0)
    assert (same_inputs == inputs).all()
    assert [(images[i] == each).all() for i, each in zip(_places(images, inputs), inputs, strict=True)] == [True] * 4
    assert (same_labels == labels[_places(images, inputs)]).all()


def _places(images, inputs):
    return [int(np.flatnonzero((images == each).all((1, 2, 3)))[0]) for each in inputs]


def test_every_loss_on_members_is_measured():
    names = distillation.on_members()
    assert {"mean_precision", "dirichlet_nll", "hydra", "proxy_reverse_kl"} < set(names)
    assert not {"cross_entropy", "prior_network", "self_distribution"} & set(names)


@pytest.mark.slow
def test_a_loss_is_compared_with_labels_on_as_many_outputs(tmp_path, monkeypatch):
    made = []
    build = distillation.build
    monkeypatch.setattr(
        distillation,
        "build",
        lambda backbone, options, outputs, *rest: made.append(outputs) or build(backbone, options, outputs, *rest),
    )
    rows = distillation.losses(
        "mlp", {"hidden": [4]}, 64, tmp_path, ("mean_precision", "logit_gaussian"), repetitions=2, seconds=0.0
    )
    assert sorted(n for n in made if n != 10) == [20, 20]
    reference, *ratios = rows
    assert (reference.unit, reference.target) == ("ms", None)
    assert [row.what for row in ratios] == [
        "mlp: mean_precision / cross-entropy",
        "mlp: logit_gaussian / cross-entropy",
    ]
    assert all((row.target, row.is_lower_better, len(row.values)) == (1.05, True, 2) for row in ratios)
    assert all(0.01 < value < 100 for row in rows for value in row.values)


@pytest.mark.slow
def test_everything_in_small():
    rows = distillation.measure(quick=True)
    assert len(rows) == 1 + len(distillation.on_members()) + 1 + len(distillation.TIMED["cnn"]) + 1
    assert "20 members / of 2" in rows[-1].what
    assert rows[-1].target == 1.02
