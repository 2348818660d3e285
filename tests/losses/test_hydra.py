"""Hydra against KL divergences by SciPy, head by head."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import rel_entr, softmax

from end2_tf.errors import ConfigError, ShapeError
from end2_tf.losses import Hydra

RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(8, 3, 5)) * 2
LOGITS = RNG.normal(size=(8, 3, 5)) * 2


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("heads", [None, 1, 2])
def test_is_the_mean_divergence_over_heads(temperature, heads):
    num = heads or 3
    loss = Hydra(3, num_heads=heads, temperature=temperature, reduction=None)
    got = loss(MEMBERS, LOGITS[:, :num].reshape(8, -1))
    wanted, own = (softmax(a[:, :num] / temperature, axis=-1) for a in (MEMBERS, LOGITS))
    assert_allclose(got, temperature**2 * rel_entr(wanted, own).sum(-1).mean(-1), rtol=1e-12)


def test_is_zero_where_heads_are_the_members():
    assert_allclose(Hydra(3)(MEMBERS, MEMBERS.reshape(8, 15)), 0, atol=1e-12)


def test_heads_have_an_order():
    assert float(Hydra(3)(MEMBERS, MEMBERS[:, ::-1].reshape(8, 15))) > 0.1


def test_what_doesnt_fit_is_refused():
    with pytest.raises(ConfigError, match=r"num_heads is 4. Allowed: 1 to 3, as many as there are members"):
        Hydra(3, num_heads=4)
    with pytest.raises(ConfigError, match=r"num_heads is 0. Allowed: 1 to 3"):
        Hydra(3, num_heads=0)
    with pytest.raises(ConfigError, match=r"offset is 1.0, but there are no alphas"):
        Hydra(3, offset=1.0)
    with pytest.raises(ShapeError, match=r"y_pred of shape \(8, 14\)"):
        Hydra(3)(MEMBERS, np.zeros((8, 14)))
    with pytest.raises(ShapeError, match=r"Hydra got logits of 2 members. Allowed: num_members, 3"):
        Hydra(3)(MEMBERS[:, :2], np.zeros((8, 15)))
