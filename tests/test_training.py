import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from end2_tf import training
from end2_tf.config import Augmentation, Method, Optimizer
from end2_tf.data.pipeline import Batches, Order
from end2_tf.data.views import Views
from end2_tf.errors import DataError, TrainingError
from end2_tf.interrupts import Terminated
from end2_tf.losses import CrossEntropy

X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
STEPS = 5
VALID = {"validation_error": 0.1, "validation_nll": 0.3}


def _model(dropout=0.0):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,))
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(8, "relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


BATCHES = Batches(Views(Augmentation(), X, 0), Order(len(X), 8, 0), lambda epoch, view, ids: Y[ids])


def _fit(model, epochs=4, batches=BATCHES, **more):
    settings = more.pop("settings", Optimizer(learning_rate=1e-2))
    return training.fit(
        model,
        CrossEntropy(),
        batches,
        epochs=epochs,
        settings=settings,
        seed=2**31 - 1,
        **more,
    )


def test_history_has_a_row_an_epoch_and_the_loss_falls():
    rows = _fit(_model(), epochs=30, settings=Optimizer(learning_rate=3e-2, schedule="constant"))
    assert [r["epoch"] for r in rows] == list(range(1, 31))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert set(rows[0]) == set(training.COLUMNS)
    lines = training.history_csv(rows).splitlines()
    assert lines[0] == ",".join(training.COLUMNS)
    assert lines[1].startswith("1,0.")
    assert len(lines) == 31


class _Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


class _Terminate(keras.callbacks.Callback):
    """Comes in the middle of the third epoch, as SIGTERM may."""

    def on_train_batch_end(self, batch, logs=None):
        if int(np.asarray(self.model.optimizer.iterations)) > 2 * STEPS:
            assert batch < STEPS - 1
            raise Terminated


@pytest.mark.parametrize(("dropout", "average"), [(0.0, 0.0), (0.5, 0.9)])
def test_sigterm_saves_at_once_and_in_the_middle_of_an_epoch(tmp_path, monkeypatch, dropout, average):
    monkeypatch.setattr("end2_tf.loop.STEPS_PER_CALL", 2)
    more = {"settings": Optimizer(learning_rate=1e-2, average=average), "validate": lambda model: VALID}
    whole = _model(dropout)
    expected = _fit(whole, **more)
    path = tmp_path / "c.npz"
    with pytest.raises(Terminated):
        _fit(_model(dropout), checkpoint=path, callbacks=[_Terminate()], **more)
    assert int(np.load(path)["step"]) == 2 * STEPS + 2
    keras.utils.set_random_seed(99)
    resumed = _model(dropout)
    seen = []
    rows = _fit(resumed, checkpoint=path, progress=lambda epoch, epochs, row: seen.append(epoch), **more)
    assert seen == [3, 4]
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal([r["loss"] for r in rows], [r["loss"] for r in expected])


def test_an_epoch_that_ended_is_noted_once(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):  # after an epoch's last step, before it was noted
            if int(np.asarray(self.model.optimizer.iterations)) == 2 * STEPS:
                raise KeyboardInterrupt

    whole = _model()
    expected = _fit(whole)
    path = tmp_path / "c.npz"
    with pytest.raises(KeyboardInterrupt):
        _fit(_model(), checkpoint=path, callbacks=[Stop()])
    resumed = _model()
    rows = _fit(resumed, checkpoint=path)
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4]
    np.testing.assert_array_equal([r["loss"] for r in rows], [r["loss"] for r in expected])
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("dropout", "average"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.9)])
def test_an_interrupted_training_ends_in_the_same_weights(tmp_path, monkeypatch, dropout, average):
    more = {"settings": Optimizer(learning_rate=1e-2, average=average), "validate": lambda model: VALID}
    whole = _model(dropout)
    expected = _fit(whole, **more)
    monkeypatch.setattr("end2_tf.checkpoint.SECONDS_BETWEEN", 0.0)
    path = tmp_path / "c.npz"
    with pytest.raises(KeyboardInterrupt):
        _fit(_model(dropout), checkpoint=path, callbacks=[_Stop()], **more)
    keras.utils.set_random_seed(99)
    resumed = _model(dropout)
    resumed.set_weights([w + 1 for w in resumed.get_weights()])
    rows = _fit(resumed, checkpoint=path, **more)
    again = _model(dropout)  # killed after its last epoch, before its result was safe
    _fit(again, checkpoint=path, **more)
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal([r["loss"] for r in rows], [r["loss"] for r in expected])


def test_a_loss_that_is_not_finite_stops_with_advice():
    model = _model()
    model.layers[-1].bias.assign(np.full(2, np.nan, np.float32))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1, in epoch 1, on batch [0-9a-f]{16}\. Try"):
        _fit(model)


def test_what_reading_a_batch_raises_reaches_the_user_as_it_is(tmp_path):
    def targets(epoch, view, ids):
        if epoch == 2:
            raise DataError("a shard isn't there. Record it again.")
        return Y[ids]

    batches = Batches(Views(Augmentation(), X, 0), Order(len(X), 8, 0), targets)
    with pytest.raises(DataError, match=r"^a shard isn't there. Record it again.$"):
        _fit(_model(), batches=batches, checkpoint=tmp_path / "c.npz")


def test_temperature_is_a_function_of_the_epoch():
    method = Method(loss="x", temperature=10.0, temperature_schedule="anneal", temperature_levels=32)
    temperature = training.Temperature(method, epochs=90)
    values = [temperature(e) for e in range(90)]
    assert values[0] == values[29] == 10
    assert values[60] == values[89] == 1
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert set(values) <= {float(x) for x in temperature.levels}
    constant = training.Temperature(Method(loss="x", temperature=2.5), 90)
    assert {constant(e) for e in range(90)} == {2.5}
    assert list(constant.levels) == [2.5]


def test_learning_rate_in_the_graph_is_the_schedule():
    from end2_tf import schedules

    rate = training.LearningRate("one_cycle", 1e-3, 100, 0.6)
    expected = schedules.learning_rate("one_cycle", 1e-3, np.arange(100), 100, 0.6)
    np.testing.assert_allclose([float(rate(s)) for s in range(100)], expected, rtol=1e-6)
    assert float(rate(1000)) == pytest.approx(expected[-1])
    again = training.LearningRate.from_config(rate.get_config())
    assert float(again(30)) == float(rate(30))


def test_the_result_is_a_moving_average_of_the_weights():
    settings = Optimizer(learning_rate=1e-2, schedule="constant", average=0.9)
    model, by_hand = _model(), _model()
    adam = training.optimizer(Optimizer(learning_rate=1e-2, schedule="constant"), 25 * STEPS)
    means = [np.asarray(v) for v in by_hand.trainable_variables]
    for step in range(25 * STEPS):
        x, y = BATCHES.arrays(step)
        with tf.GradientTape() as tape:
            loss = CrossEntropy()(y, by_hand(x))
        adam.apply(tape.gradient(loss, by_hand.trainable_variables), by_hand.trainable_variables)
        share = 0.9 if step else 0.0
        means = [
            share * m + (1 - share) * np.asarray(v) for m, v in zip(means, by_hand.trainable_variables, strict=True)
        ]
    seen = []
    _fit(model, epochs=25, settings=settings, validate=lambda m: seen.append(m.get_weights()) or VALID)
    for mean, weight, last in zip(means, model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(weight, mean, atol=1e-6)
        assert np.abs(weight - last).max() > 1e-3
    np.testing.assert_array_equal(seen[-1][0], model.get_weights()[0])  # what is measured is what is returned


def test_an_average_is_over_a_tenth_of_the_training_at_most():
    model = _model()
    _fit(model, epochs=30, settings=Optimizer(learning_rate=3e-2, average=0.9999))
    assert np.mean(model.predict(X, verbose=0).argmax(1) != Y) < 0.1
    assert training.optimizer(Optimizer(average=0.999), 20_000).ema_momentum == 0.999
    assert training.optimizer(Optimizer(average=0.999), 5).ema_momentum == 0.0


def test_weight_decay_spares_what_has_one_axis_and_no_name():
    scale, kernel = keras.Variable(np.ones(3)), keras.Variable(np.ones((3, 3)))
    sgd = training.optimizer(Optimizer(name="sgd", weight_decay=0.1), 10, [scale, kernel])
    sgd.build([scale, kernel])
    assert [sgd._use_weight_decay(variable) for variable in (scale, kernel)] == [False, True]


def test_weight_decay_spares_biases():
    adam = training.optimizer(Optimizer(learning_rate=1e-3, weight_decay=0.1), 10)
    model = _model()
    adam.build(model.trainable_variables)
    decayed = [v.path for v in model.trainable_variables if adam._use_weight_decay(v)]
    assert len(decayed) == 2
    assert all("kernel" in path for path in decayed)


def test_tensorboard_has_the_columns_of_the_history_by_their_names(tmp_path):
    rows = _fit(_model(), tensorboard=tmp_path / "run", validate=lambda model: VALID)
    (file,) = (tmp_path / "run").iterdir()
    found = {}
    for raw in tf.data.TFRecordDataset(str(file)):
        event = event_pb2.Event.FromString(raw.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    assert set(found) == {name for name, value in rows[-1].items() if name != "epoch" and np.isfinite(value)}
    assert found["loss"] == [(i + 1, pytest.approx(row["loss"])) for i, row in enumerate(rows)]
    assert found["validation_nll"] == [(i, pytest.approx(0.3)) for i in (1, 2, 3, 4)]
