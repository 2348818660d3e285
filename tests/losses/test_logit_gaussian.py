"""Logit-Gaussian distillation against SciPy's density of the members' centred logits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from end2_tf.errors import ConfigError
from end2_tf.losses import LogitGaussian

RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(8, 30, 5)) * 2
MEAN, LOG_VARIANCE = RNG.normal(size=(8, 5)), RNG.normal(size=(8, 5))


def test_is_the_mean_density_of_centred_logits():
    got = LogitGaussian(reduction=None)(MEMBERS, np.concatenate([MEAN, LOG_VARIANCE], axis=1))
    centred = MEMBERS - MEMBERS.mean(-1, keepdims=True)
    densities = norm.logpdf(centred, MEAN[:, None], np.exp(LOG_VARIANCE / 2)[:, None])
    assert_allclose(got, -densities.sum(-1).mean(-1), rtol=1e-12)


def test_is_smallest_at_the_moments():
    loss = LogitGaussian(reduction=None)
    mean, variance = np.split(loss.reduce_members(MEMBERS, 1.0).numpy(), 2, axis=1)
    best = np.concatenate([mean, np.log(variance)], axis=1)
    least = loss(MEMBERS, best).numpy()
    for _ in range(20):
        assert (loss(MEMBERS, best + 0.1 * RNG.normal(size=best.shape)).numpy() > least).all()


def test_what_has_no_meaning_is_refused():
    with pytest.raises(ConfigError, match=r"temperature is 2.0, but it would only scale the logits. Allowed: 1"):
        LogitGaussian(temperature=2.0)
    with pytest.raises(ConfigError, match=r"offset is 0.5, but there are no alphas"):
        LogitGaussian(offset=0.5)
    with pytest.raises(ConfigError, match=r"draws is 3. Allowed: an even number"):
        LogitGaussian(draws=3)
