"""Members that are draws of one network's dropout."""

import keras
import numpy as np
import pytest

from end2_tf import config
from end2_tf.ensemble import StackedEnsemble, dropout
from end2_tf.errors import ConfigError

INPUTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(400, "relu"), keras.layers.Dropout(0.25), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((3,)), *layers])


def test_a_member_is_a_function_with_a_quarter_of_the_units_dropped(network):
    member = dropout.thinned(network, 7)
    np.testing.assert_array_equal(member(INPUTS), member(INPUTS))
    np.testing.assert_array_equal(member(INPUTS), dropout.thinned(network, 7)(INPUTS))
    assert np.abs(np.asarray(member(INPUTS)) - dropout.thinned(network, 8)(INPUTS)).max() > 1e-3
    mask = member.layers[1].get_weights()[0]
    assert set(mask.round(6)) == {0.0, np.float32(4 / 3).round(6)}
    assert 0.18 < np.mean(mask == 0) < 0.32
    hidden = np.maximum(INPUTS @ network.get_weights()[0], 0) * mask
    np.testing.assert_allclose(member(INPUTS), hidden @ network.get_weights()[2], rtol=1e-4, atol=1e-5)


def test_members_are_distributed_as_stochastic_passes(network):
    """Mean and spread of each output over 400 members, against 400 passes with dropout on; 5 standard errors."""
    members = np.stack([np.asarray(dropout.thinned(network, seed)(INPUTS[:1]))[0] for seed in range(400)])
    keras.utils.set_random_seed(1)
    passes = np.asarray(network(np.repeat(INPUTS[:1], 400, axis=0), training=True))
    error = passes.std(0) / np.sqrt(400)
    assert (np.abs(members.mean(0) - passes.mean(0)) < 5 * np.sqrt(2) * error).all()
    np.testing.assert_allclose(members.std(0), passes.std(0), rtol=0.2)


def test_members_are_stacked_and_saved_as_others_are(network, tmp_path):
    members = [dropout.thinned(network, seed) for seed in range(3)]
    ensemble = StackedEnsemble.from_members(members)
    expected = np.stack([np.asarray(member(INPUTS)) for member in members], axis=1)
    np.testing.assert_allclose(ensemble.predict_logits(INPUTS), expected, rtol=1e-4, atol=1e-5)
    members[1].save(tmp_path / "member.keras")
    loaded = keras.saving.load_model(tmp_path / "member.keras")
    np.testing.assert_array_equal(loaded(INPUTS), members[1](INPUTS))


def test_a_network_without_dropout_is_refused():
    with pytest.raises(ConfigError, match=r"'dropout', but the backbone 'plain' has no dropout"):
        dropout.check(keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)], name="plain"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble.kind": "dropout", "ensemble.engine": "stacked"}, r"engine is 'stacked', but with .*kind=dropout"),
        ({"ensemble.kind": "snapshots", "ensemble.models": "*.keras"}, r"'snapshots', .* but the members are brought"),
        ({"ensemble.predictions": "p.npz", "ensemble.models": "*.keras"}, r"Allowed: one of them"),
        ({"ensemble.predictions": "p.npz", "transfer.mode": "views"}, r"mode is 'views', but ensemble.predictions are"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        config.override(config.Experiment(), changes)
