"""EnD: golden values of 50 digits, the closed gradient, the factor of temperature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import entr, softmax

from end2_tf.errors import ConfigError
from end2_tf.heads import SoftmaxHead
from end2_tf.losses import EnsembleDistillation

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden.json").read_text())


def numbers(values):
    return np.array(values, np.float64)


@pytest.mark.parametrize("case", GOLDEN["end"], ids=lambda c: f"{c['ensemble']}-T{c['T']}")
def test_golden_values(case):
    members = numbers(GOLDEN["logit_ensemble"][case["ensemble"]]["logits"])[None]
    logits, temperature = tf.Variable(numbers(case["student_logits"])[None]), float(case["T"])
    plain = EnsembleDistillation(scale_by_temperature=False, temperature=temperature)
    with tf.GradientTape() as tape:
        value = plain(members, logits)
    assert_allclose(value, float(case["cross_entropy"]), rtol=1e-12)
    assert_allclose(tape.gradient(value, logits)[0], numbers(case["grad_logits"]), rtol=1e-11)
    assert_allclose(plain.reduce_members(members, temperature)[0], numbers(case["teacher_mean"]), rtol=1e-13)
    scaled = EnsembleDistillation(temperature=temperature)(members, logits)
    assert_allclose(scaled, float(case["cross_entropy"]) * temperature**2, rtol=1e-12)


def test_averages_probabilities_not_logits():
    members = np.array([[[4.0, 1, 0, -3], [1, 3, -0.5, -2]]])
    mean = softmax(members, axis=-1).mean(1)
    at_optimum = EnsembleDistillation()(members, np.log(mean))
    assert_allclose(at_optimum, entr(mean).sum(), rtol=1e-12)  # the least there is
    assert EnsembleDistillation()(members, members.mean(1)) > at_optimum + 0.001


def test_softmax_head_has_no_offset():
    assert isinstance(EnsembleDistillation().make_head(), SoftmaxHead)
    with pytest.raises(
        ConfigError, match=r"offset is 1.0, but its student has a softmax head, which has none. Allowed: 0"
    ):
        EnsembleDistillation(offset=1.0)
