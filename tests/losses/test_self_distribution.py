"""S2D: its two terms by SciPy, the network it trains, and that it learns what noise does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import digamma, gammaln, logsumexp
from scipy.stats import spearmanr

from end2_tf import uncertainty
from end2_tf.errors import ConfigError, ModelError, ShapeError
from end2_tf.losses import SelfDistribution
from end2_tf.losses.self_distribution import NoisyPasses

RNG = np.random.default_rng(0)
PASSES = RNG.normal(size=(4, 6, 3)) * 2
LABELS = np.array([0, 2, 1, 1])


def network(classes=3):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input((2,)), *layers])


def divergence(beta, alpha):
    of = lambda a: gammaln(a.sum(-1)) - gammaln(a).sum(-1)
    slope = digamma(beta) - digamma(beta.sum(-1, keepdims=True))
    return of(beta) - of(alpha) + ((beta - alpha) * slope).sum(-1)


def test_is_cross_entropy_of_the_mean_plus_the_divergence_from_what_is_fitted():
    log_probs = PASSES[:, 1:] - logsumexp(PASSES[:, 1:], axis=-1, keepdims=True)
    mean = np.exp(log_probs).mean(1)
    cross_entropy = -np.log(mean[np.arange(4), LABELS])
    assert_allclose(SelfDistribution(weight=0.0, reduction=None)(LABELS, PASSES), cross_entropy, rtol=1e-12)
    fitted = SelfDistribution().teacher_alphas(tf.constant(log_probs)).numpy()
    expected = cross_entropy + 0.3 * divergence(fitted, np.exp(PASSES[:, 0]))
    assert_allclose(SelfDistribution(weight=0.3, reduction=None)(LABELS, PASSES), expected, rtol=1e-10)


def test_labels_may_be_rows_or_mixtures_of_them():
    loss = SelfDistribution(reduction=None)
    rows = np.eye(3)[LABELS]
    assert_allclose(loss(rows, PASSES), loss(LABELS, PASSES), rtol=1e-12)
    other = (loss((LABELS + 1) % 3, PASSES) + 3 * loss(LABELS, PASSES)) / 4
    assert_allclose(loss(0.25 * rows[:, [2, 0, 1]] + 0.75 * rows, PASSES), other, rtol=1e-12)


def test_defaults():
    own = {"num_passes": 5, "low": 0.0, "high": 0.5, "weight": 0.1, "cap": 1e4, "offset": 0.0}
    assert own.items() <= SelfDistribution().get_config().items()


def test_the_teacher_is_the_maximum_likelihood_dirichlet_of_its_passes():
    """Of many passes that are drawn from a Dirichlet it finds that Dirichlet; below 1 it is kept above."""
    true = np.array([[4.0, 9.0, 30.0]])
    log_probs = np.log(np.random.default_rng(1).dirichlet(true[0], 20_000))[None]
    assert_allclose(SelfDistribution().teacher_alphas(tf.constant(log_probs)), true, rtol=0.03)
    flat = SelfDistribution().teacher_alphas(tf.constant(np.log([[[0.98, 0.01, 0.01], [0.01, 0.98, 0.01]]])))
    assert (flat.numpy() > 1).all()


def test_the_network_in_training_shares_weights_and_sees_noise_on_its_last_features():
    plain = network()
    trained = SelfDistribution(num_passes=4, high=0.5).training_network(plain)
    inputs = RNG.normal(size=(2000, 2)).astype(np.float32)
    outputs = np.asarray(trained(inputs))
    assert outputs.shape == (2000, 5, 3)
    assert trained.output_shape == (None, 5, 3)
    assert NoisyPasses(4, 0.0, 0.5).compute_output_shape((None, 16)) == (None, 5, 16)
    assert_allclose(outputs[:, 0], plain(inputs), atol=1e-6)
    features, kernel = np.asarray(plain.layers[0](inputs)), plain.get_weights()[2]
    # Noise of sd sigma · feature, sigma uniform in [0, .5]: variance .25 / 3.
    expected = 0.25 / 3 * np.mean(features**2 @ kernel**2, axis=0)
    assert_allclose(np.mean((outputs[:, 1:] - outputs[:, :1]) ** 2, axis=(0, 1)), expected, rtol=0.1)
    assert [v.path for v in trained.trainable_variables] == [v.path for v in plain.trainable_variables]


def test_it_learns_to_classify_and_how_noise_spreads_its_predictions():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 600)
    angle = 2 * np.pi * labels / 3
    inputs = (2 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(size=(600, 2))).astype(np.float32)
    plain, loss = network(), SelfDistribution(weight=1.0, high=0.7)
    model = loss.training_network(plain)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(inputs, labels, epochs=40, batch_size=100, verbose=0)
    measures = loss.make_head()(plain(inputs))
    assert np.mean(np.argmax(measures["probs"], 1) == labels) > 0.9
    noisy = np.asarray(model(np.repeat(inputs, 20, axis=0)))[:, 1:].reshape(600, -1, 3)
    taught = uncertainty.from_members(noisy)["knowledge_uncertainty"]
    learned = measures["knowledge_uncertainty"].numpy()
    assert_allclose(learned.mean(), taught.mean(), rtol=0.2)
    assert spearmanr(learned, taught)[0] > 0.4


def test_what_doesnt_fit_is_refused():
    with pytest.raises(ConfigError, match=r"low is 0.9. Allowed: 0 to high"):
        SelfDistribution(low=0.9)
    for name, value in {"low": -0.1, "high": 0.0, "weight": -0.1, "cap": 0.0, "offset": -0.1}.items():
        with pytest.raises(ConfigError, match=f"SelfDistribution's {name} is {value}. Allowed: "):
            SelfDistribution(**{name: value})
    with pytest.raises(ConfigError, match=r"num_passes is 1. Allowed: at least 2"):
        SelfDistribution(num_passes=1)
    with pytest.raises(ShapeError, match=r"y_pred of shape \(4, 3\). .* as training_network gives them"):
        SelfDistribution()(LABELS, PASSES[:, 0])
    with pytest.raises(ShapeError, match=rf"Allowed: 1 \+ num_passes = {PASSES.shape[1] + 1} on its second axis"):
        SelfDistribution(num_passes=PASSES.shape[1])(LABELS, PASSES)
    relu = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.ReLU()], name="odd")
    with pytest.raises(ModelError, match=r"sees, but odd ends in ReLU"):
        SelfDistribution().training_network(relu)
