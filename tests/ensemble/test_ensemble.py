import keras
import numpy as np
import pytest

from end2_tf.ensemble import Ensemble, StackedEnsemble, architecture, fresh_copy, load
from end2_tf.errors import ModelError, ShapeError


def _mlp(seed, classes=3, closing=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((2,))
    x = keras.layers.Dense(5, activation="relu")(inputs)
    x = keras.ops.sin(2.0 * keras.layers.Dense(4)(x))
    return keras.Model(inputs, keras.layers.Dense(classes, activation=closing)(x))


def _cnn(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(2, 3)(inputs)
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def _sequential_cnn(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *layers])


X = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)


def _expected(members, inputs):
    return np.stack([m(inputs, training=False).numpy() for m in members], axis=1)


def test_axes_are_batch_members_classes():
    members = [_mlp(s) for s in range(4)]
    got = Ensemble(members).predict_logits(X, batch_size=3)
    assert got.shape == (7, 4, 3)
    np.testing.assert_allclose(got, _expected(members, X), atol=1e-6)


@pytest.mark.parametrize("make", [_mlp, _cnn, _sequential_cnn])
def test_stacked_members_equal_ordinary_models(make):
    members = [make(s) for s in range(4)]
    inputs = np.random.default_rng(1).normal(size=(9, *members[0].input_shape[1:])).astype(np.float32)
    stacked = StackedEnsemble.from_members(members)
    expected = _expected(members, inputs)
    np.testing.assert_allclose(stacked.predict_logits(inputs, batch_size=4), expected, atol=1e-5)
    np.testing.assert_allclose(stacked.logits(inputs), expected, atol=1e-5)
    np.testing.assert_allclose(stacked.member(2)(inputs), expected[:, 2], atol=1e-6)
    assert len(list(stacked)) == 4


@pytest.mark.parametrize("make", [_mlp, _cnn])
@pytest.mark.parametrize("kind", [Ensemble, StackedEnsemble.from_members])
def test_an_ensemble_is_one_keras_model(tmp_path, make, kind):
    members = [make(s) for s in range(3)]
    inputs = np.random.default_rng(1).normal(size=(5, *members[0].input_shape[1:])).astype(np.float32)
    kind(members).as_model().save(tmp_path / "ensemble.keras")
    again = keras.saving.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(again.predict(inputs, verbose=0), _expected(members, inputs), atol=1e-5)


def test_softmax_outputs_are_recognised():
    with_softmax = _mlp(0, closing="softmax")
    logits = Ensemble([with_softmax]).predict_logits(X)[:, 0]
    np.testing.assert_allclose(np.exp(logits), with_softmax(X).numpy(), atol=1e-6)
    layer = keras.Sequential([_mlp(0), keras.layers.Softmax()])
    np.testing.assert_allclose(np.exp(Ensemble([layer]).predict_logits(X)[:, 0]), layer(X).numpy(), atol=1e-6)


def test_uncertainty_of_equal_members_is_all_data_uncertainty():
    model = _mlp(0)
    measures = Ensemble([model, model]).uncertainty(X)
    np.testing.assert_allclose(measures["knowledge_uncertainty"], 0, atol=1e-7)
    np.testing.assert_allclose(measures["total_uncertainty"], measures["data_uncertainty"], atol=1e-6)


def _named_output():
    inputs = keras.Input((2,))
    return keras.Model(inputs, {"logits": keras.layers.Dense(3)(inputs)})


def _two_inputs():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Add()(inputs)))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda: [], "no members"),
        (lambda: [_mlp(0), _mlp(1, classes=4)], r"different class counts: \[3, 4\]"),
        (lambda: [_mlp(0, closing="sigmoid")], "ends in the activation 'sigmoid'"),
        (lambda: [_mlp(0), keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])], "different shapes"),
        (lambda: [keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])], "at least 2 classes"),
        (lambda: [keras.Sequential([keras.layers.Dense(3)])], "isn't built"),
        (lambda: [_named_output()], "several or named outputs"),
        (lambda: [_two_inputs()], "has 2 inputs"),
    ],
)
def test_members_that_do_not_fit(members, message):
    with pytest.raises(ModelError, match=message):
        Ensemble(members())


def test_inputs_of_a_wrong_shape():
    with pytest.raises(ShapeError, match=r"inputs have shape \(7, 5\), but the members take \(n, 2\)"):
        Ensemble([_mlp(0)]).predict_logits(np.zeros((7, 5)))


def _normalising(seed, shift=0.0, is_nested=False):
    """A network that normalises by what it was adapted to, which isn't in its config."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Normalization()
    layer.adapt(20 * X + 50 + shift)
    body = keras.Sequential([keras.Input((2,)), layer, keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(3)(body(inputs))) if is_nested else body


@pytest.mark.parametrize("is_nested", [False, True])
def test_members_normalise_as_they_were_adapted(tmp_path, is_nested):
    members = [_normalising(seed, is_nested=is_nested) for seed in range(3)]
    inputs = 20 * X + 50
    expected = _expected(members, inputs)
    ensemble, stacked = Ensemble(members), StackedEnsemble.from_members(members)
    np.testing.assert_allclose(ensemble.predict_logits(inputs), expected, atol=1e-5)
    np.testing.assert_allclose(stacked.predict_logits(inputs), expected, atol=1e-5)
    np.testing.assert_allclose(stacked.member(1)(inputs), expected[:, 1], atol=1e-5)
    copy = fresh_copy(ensemble.member(0))
    copy.set_weights(ensemble.member(0).get_weights())
    np.testing.assert_allclose(copy(inputs), expected[:, 0], atol=1e-5)
    stacked.as_model().save(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "ensemble.keras")(inputs), expected, atol=1e-5)


def test_members_that_normalise_each_in_its_own_way_are_not_stacked():
    members = [_normalising(0), _normalising(1, shift=5.0)]
    np.testing.assert_allclose(Ensemble(members).predict_logits(X), _expected(members, X), atol=1e-5)
    with pytest.raises(ModelError, match=r"normalise inputs by statistics of their own, so they can't be stacked"):
        StackedEnsemble.from_members(members)


def test_members_may_take_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    ensemble = Ensemble([keras.Model(inputs, keras.layers.Dense(3)(pooled))])
    assert ensemble.takes((8, 8, 3))
    assert not ensemble.takes((8, 8, 1))
    assert not ensemble.takes((8, 8))
    ensemble.check_inputs(np.zeros((2, 8, 8, 3)))


def test_load_own_files(tmp_path, monkeypatch):
    members = [_mlp(s) for s in range(2)]
    for i, member in enumerate(members):
        member.save(tmp_path / f"m{i}.keras")
    got = load(str(tmp_path / "*.keras")).predict_logits(X)
    np.testing.assert_allclose(got, _expected(members, X), atol=1e-6)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    (tmp_path / "an_old_saved_model").mkdir()
    for pattern in (f"~/{tmp_path.name}", str(tmp_path / "*")):
        assert load(pattern).num_members == 2
    (tmp_path / "m2.keras").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"m2\.keras isn't a .keras file, or only part of one"):
        load(str(tmp_path / "*.keras"))
    with pytest.raises(ModelError, match="has no Keras file"):
        load(str(tmp_path / "*.h5"))


@pytest.mark.parametrize("make", [_mlp, _cnn])
def test_load_a_file_that_is_an_ensemble(tmp_path, make):
    members = [make(seed) for seed in range(3)]
    StackedEnsemble.from_members(members).as_model().save(tmp_path / "model.keras")
    loaded = load(str(tmp_path / "model.keras"))
    inputs = np.random.default_rng(0).normal(size=(4, *loaded.input_shape))
    np.testing.assert_allclose(loaded.predict_logits(inputs), _expected(members, inputs), atol=1e-5)
    assert [member.output_shape for member in loaded] == [(None, 3)] * 3

    members[0].save(tmp_path / "alone.keras")
    with pytest.raises(ModelError, match=r"model\.keras is a whole ensemble, .*matches 2 files\. Give that file alone"):
        load(str(tmp_path / "*.keras"))


@pytest.mark.parametrize("closing", ["softmax", "log_softmax"])
def test_fresh_copy_returns_logits_and_new_weights(closing):
    model = _mlp(0, closing=closing)
    copy = fresh_copy(model)
    assert copy.layers[-1].activation is keras.activations.linear
    assert not np.allclose(copy.layers[1].kernel, model.layers[1].kernel)
    sequential = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Softmax()])
    assert not np.allclose(fresh_copy(sequential)(X).numpy().sum(1), 1)


def test_architecture_ignores_counted_names():
    assert architecture(_mlp(0)) == architecture(_mlp(1))
    assert architecture(_mlp(0)) != architecture(_mlp(0, classes=4))
    nested = [keras.Sequential([keras.Input((2,)), _mlp(seed), keras.layers.Dense(3)]) for seed in range(2)]
    assert architecture(nested[0]) == architecture(nested[1])


@pytest.mark.parametrize("make", [_mlp, _cnn])
@pytest.mark.parametrize("kind", [Ensemble, StackedEnsemble.from_members])
def test_the_first_members_are_an_ensemble(make, kind):
    members = [make(s) for s in range(3)]
    inputs = np.random.default_rng(1).normal(size=(5, *members[0].input_shape[1:])).astype(np.float32)
    first = kind(members).first(2)
    assert first.num_members == 2
    np.testing.assert_allclose(first.predict_logits(inputs), _expected(members[:2], inputs), atol=1e-5)
    np.testing.assert_allclose(first.logits(inputs), _expected(members[:2], inputs), atol=1e-5)


def test_the_first_members_keep_what_was_noticed_of_them():
    members = [_mlp(s, closing="softmax") for s in range(3)]
    first = Ensemble(members).first(2)
    np.testing.assert_allclose(np.exp(first.predict_logits(X)), _expected(members[:2], X), atol=1e-6)
    with pytest.raises(ModelError, match=r"transfer\.num_members is 4, but there are 3 members\. Allowed: at most"):
        Ensemble(members).first(4)
