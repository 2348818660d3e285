import keras
import numpy as np
import pytest
import tensorflow as tf

import end2_tf
from end2_tf import config, registry, student, uncertainty
from end2_tf.data.examples import Examples
from end2_tf.data.views import CLEAN, Views
from end2_tf.errors import ConfigError, DataError, ModelError, ShapeError
from end2_tf.heads import DirichletHead, SoftmaxHead
from end2_tf.losses import DistillationLoss
from end2_tf.losses.ensemble_distillation import EnsembleDistillation
from end2_tf.transfer import Recording, TransferSet, record_in_memory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 2)).astype(np.float32)
Y = (X[:, 0] > 0) + 2 * (X[:, 1] > 1)
Y = np.minimum(Y, 2).astype(np.int64)


def _network(seed, classes=3, units=16):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(classes)], name=f"net{seed}"
    )


@pytest.fixture(scope="module")
def members():
    found = []
    for seed in range(4):
        model = _network(seed)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.optimizer.learning_rate = 1e-2
        model.fit(X, Y, epochs=10, verbose=0)
        found.append(model)
    return found


def test_distilled_student_follows_mean_and_disagreement(members, tmp_path):
    model = end2_tf.distil(members, _network(9, units=32), X, epochs=60, optimizer=config.Optimizer(learning_rate=1e-2))
    ensemble = end2_tf.Ensemble(members).uncertainty(X)
    measures = model.predict(X, verbose=0)
    assert np.mean(measures["probs"].argmax(1) == ensemble["probs"].argmax(1)) > 0.95
    assert np.corrcoef(np.log(measures["knowledge_uncertainty"]), np.log(ensemble["knowledge_uncertainty"]))[0, 1] > 0.6
    result = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert result["error"] == pytest.approx(np.mean(measures["probs"].argmax(1) != Y), abs=1e-6)
    assert result["nll"] == pytest.approx(-np.mean(np.log(measures["probs"][np.arange(200), Y])), rel=1e-4)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for name, values in again.predict(X, verbose=0).items():
        np.testing.assert_allclose(values, measures[name], rtol=1e-6)
    np.testing.assert_allclose(again.backbone(X), measures["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "more", "head"),
    [
        ("ensemble_distillation", {"temperature": 2.5}, SoftmaxHead),
        ("dirichlet_nll", {"temperature": 5.0, "temperature_schedule": "anneal"}, DirichletHead),
        ("proxy_reverse_kl", {"offset": 1.0}, DirichletHead),
        ("proxy_forward_kl", {"offset": 1.0}, DirichletHead),
        ("mean_precision", {"loss_options": {"precision": "stirling"}}, DirichletHead),
    ],
)
def test_every_distillation_loss_trains_and_gets_its_head(members, loss, more, head):
    model = end2_tf.distil(
        members,
        _network(9),
        X,
        auxiliary=X * 5,
        validation=(X, Y),
        loss=loss,
        epochs=6,
        optimizer=config.Optimizer(learning_rate=1e-2),
        **more,
    )
    assert isinstance(model.head, head)
    assert getattr(model.head, "offset", 0) == more.get("offset", 0)
    assert all(np.isfinite(v).all() for v in model.predict(X, verbose=0).values())


def _train(members, transfer, epochs=3, own_epochs=None, **more):
    optimizer = config.Optimizer(learning_rate=1e-2)
    method = config.Method(loss="mean_precision", optimizer=optimizer, epochs=own_epochs, **more)
    examples, loss = Examples(X, Y), student.build_loss(method, len(members))
    model, history = student.train(
        _network(9), loss, method, config.Student(epochs=epochs), examples, seed=1, view_seed=2, transfer=transfer,
        transfer_set=record_in_memory(end2_tf.Ensemble(members), X, None), ensemble=end2_tf.Ensemble(members),
        validation=examples,
    )  # fmt: skip
    return model, history


def test_a_method_can_have_epochs_of_its_own(members):
    _, history = _train(members, config.Transfer(), epochs=3, own_epochs=1)
    assert len(history) == 1


def test_online_teacher_gives_the_cached_students_weights(members):
    """Without augmentation the members say the same whether asked before or during training."""
    cached, history = _train(members, config.Transfer(mode="clean"))
    online, _ = _train(members, config.Transfer(mode="online"))
    for a, b in zip(cached.get_weights(), online.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert history[-1]["alpha0"] > 0
    assert history[-1]["validation_nll"] < history[0]["validation_nll"]


def test_online_teacher_sees_the_students_view(members):
    jitter = config.Augmentation(jitter=0.5)
    cached, _ = _train(members, config.Transfer(mode="clean", augmentation=jitter))
    online, _ = _train(members, config.Transfer(mode="online", augmentation=jitter))
    assert not np.allclose(cached.get_weights()[0], online.get_weights()[0], atol=1e-4)


def test_mixed_precision_student_has_float32_logits(members):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((2,))
        x = keras.layers.Dense(8, "relu")(inputs)
        network = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model = end2_tf.distil(members, network, X, epochs=2)
    outputs = model.predict(X, verbose=0)
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in outputs.values())


def _closing(activation):
    keras.utils.set_random_seed(9)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation)], name="net9")


def test_labels_are_a_share_of_the_target_mean_and_of_nothing_else(members):
    """A network that can't fit its inputs apart learns the average target: its mean's, and its precision's."""
    inputs, labels = np.zeros((200, 2), np.float32), Y
    teacher = end2_tf.Ensemble(members)
    logits = teacher.predict_logits(X)
    recorded = TransferSet(Recording.in_memory({CLEAN: logits}), Recording.in_memory({CLEAN: logits[:50]}))
    auxiliary = Examples(np.full((50, 2), 2.0, np.float32), None)
    measured = {}
    for share in (0.0, 0.4):
        keras.utils.set_random_seed(0)
        method = config.Method("mean_precision", labels=share, auxiliary=True, loss_options={"penalty": "squared"})
        model, _ = student.train(
            _network(9),
            student.build_loss(method, len(members)),
            method,
            config.Student(epochs=300, batch_size=200, optimizer=config.Optimizer(learning_rate=3e-2)),
            Examples(inputs, labels),
            seed=0,
            view_seed=0,
            transfer=config.Transfer(),
            auxiliary=auxiliary,
            transfer_set=recorded,
        )
        found = model.predict(np.stack([inputs[0], auxiliary.inputs[0]]), verbose=0)
        measured[share] = found["probs"], np.log(found["alphas"].sum(1))
    of_members = uncertainty.from_members(logits)["probs"]
    of_labels = np.eye(3)[labels]
    for share, (probs, _) in measured.items():
        np.testing.assert_allclose(probs[0], ((1 - share) * of_members + share * of_labels).mean(0), atol=5e-3)
        np.testing.assert_allclose(probs[1], of_members[:50].mean(0), atol=5e-3)  # auxiliary inputs have no label
    np.testing.assert_allclose(measured[0.4][1], measured[0.0][1], atol=2e-2)


@pytest.mark.parametrize(
    ("student", "more", "error", "message"),
    [
        (lambda: _network(9, classes=4), {}, ModelError, "the student has 4 outputs"),
        (lambda: _closing("softmax"), {}, ModelError, "ends in the activation 'softmax', but it must return logits"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), {}, ModelError, "isn't built"),
        (lambda: _network(9), {"inputs": X[:, :1]}, ShapeError, r"inputs have shape \(200, 1\)"),
        (lambda: _network(9), {"inputs": X[:0]}, DataError, "nothing to learn from"),
        (lambda: _network(9), {"inputs": X * np.nan}, DataError, r"inputs\[0, 0\] is nan"),
        (lambda: _network(9), {"auxiliary": X[:0]}, DataError, "auxiliary inputs have shape"),
        (lambda: _network(9), {"auxiliary": X[:, :1]}, ShapeError, r"auxiliary inputs have shape \(200, 1\)"),
        (lambda: _network(9), {"inputs": Examples(X, None)}, DataError, "but Examples; its attribute inputs is one"),
        (lambda: _network(9), {"validation": (X, Y / 2)}, DataError, "validation labels are float64"),
        (lambda: _network(9), {"loss": "mean_precison"}, ConfigError, "Did you mean 'mean_precision'"),
        (lambda: _network(9), {"loss": "cross_entropy"}, ConfigError, "learns from labels"),
        (lambda: _network(9), {"loss_options": {"wieght": 1}}, ConfigError, "Did you mean 'weight'"),
        (lambda: _network(9), {"loss": "dirichlet_nll", "temperature": 10}, ConfigError, "temperature_schedule=anneal"),
        (lambda: _network(9), {"loss": "dirichlet_nll", "labels": 0.1}, ConfigError, "no mean among its targets"),
        (lambda: _network(9), {"labels": 0.1}, ConfigError, "the inputs have no labels"),
        (lambda: _network(9), {"augmentation": {"mixup": 0.5}, "online": False}, ConfigError, "Set online=True"),
        (
            lambda: _network(9),
            {"augmentation": "jitter"},
            ConfigError,
            "augmentation is 'jitter'. Allowed: values by name",
        ),
        (lambda: _network(9), {"augmentation": {"jiter": 1}}, ConfigError, "Did you mean 'jitter'"),
        (
            lambda: _network(9),
            {"loss": "dirichlet_nll", "temperature": 10, "temperature_schedule": "anneal", "temperature_cycle": 1.0},
            ConfigError,
            r"still 1\.16 in the last",
        ),
        (lambda: _network(9), {"temperature": 0.5}, ConfigError, r"method\.temperature is 0\.5\. Allowed: at least 1"),
        (lambda: _network(9), {"epochs": 0}, ConfigError, r"student\.epochs is 0\. Allowed: at least 1"),
        (
            lambda: _network(9),
            {"los": "a"},
            ConfigError,
            r"method has 'los', which isn't a field\. Did you mean 'loss'",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_members_are_asked(members, monkeypatch, student, more, error, message):
    arguments = {"inputs": X, **more}
    teacher, asked = end2_tf.Ensemble(members), []
    ask = teacher.predict_logits
    monkeypatch.setattr(teacher, "predict_logits", lambda x, *more: asked.append(len(x)) or ask(x, *more))
    with pytest.raises(error, match=message):
        end2_tf.distil(teacher, student(), arguments.pop("inputs"), **arguments)
    assert max(asked, default=0) < len(X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda members: members[0], r"members is one model \(net0\)"),
        (lambda members: ["members/0.keras"], "member 0 is 'members/0.keras', of type str"),
        (lambda members: [], "no members"),
    ],
)
def test_members_are_models(members, given, message):
    with pytest.raises(ModelError, match=message):
        end2_tf.distil(given(members), _network(9), X)


class _Wrong(EnsembleDistillation):
    """A loss whose statistics or values have another shape than it says."""

    def __init__(self, size=None, axis=-1):
        super().__init__(targets="statistics")
        self._size, self._axis = size, axis

    def statistics_size(self, num_classes):
        return self._size or super().statistics_size(num_classes)

    def from_statistics(self, statistics, logits, temperature):
        return tf.reduce_sum(statistics * tf.cast(logits, statistics.dtype), axis=self._axis)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: _Wrong(size=4), r"returns shape \(2, 3\) for 2 examples, but statistics_size says \(2, 4\)"),
        (lambda: _Wrong(axis=None), r"from_statistics returns shape \(\) for 2 examples"),
        (lambda: _Wrong(axis=[]), r"from_statistics returns shape \(2, 3\) for 2 examples"),
    ],
)
def test_a_loss_of_the_wrong_shape_is_named(loss, message):
    with pytest.raises(ModelError, match=f"_Wrong.*{message}"):
        student.check_loss(loss(), num_members=5, num_classes=3)


@pytest.mark.parametrize("loss", registry.names("loss"))
def test_every_loss_has_the_right_shapes(loss):
    student.check_loss(student.build_loss(config.Method(loss=loss), 5), num_members=5, num_classes=3)


def test_a_loss_that_lacks_a_method_says_which():
    with pytest.raises(NotImplementedError, match="DistillationLoss doesn't define statistics_size"):
        DistillationLoss().statistics_size(3)


def test_a_member_is_no_student(members):
    with pytest.raises(ModelError, match=r"the student \(net1\) is one of the members"):
        end2_tf.distil(members, members[1], X)


def test_one_member_has_nobody_to_disagree_with(members):
    with pytest.warns(UserWarning, match="members is one model"):
        end2_tf.distil(members[:1], _network(9), X, epochs=1)


def test_an_augmented_input_is_what_members_are_asked_about(members):
    """Else jitter teaches that the answer doesn't depend on the input."""

    def student(**more):
        model = end2_tf.distil(members, _network(9), X, epochs=2, augmentation={"jitter": 0.5}, **more)
        return model.get_weights()

    for a, b in zip(student(), student(online=True), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(student()[0], student(online=False)[0], atol=1e-4)


def test_asking_many_members_prints_no_warning(members, caplog):
    many = [_network(seed) for seed in range(8)]
    end2_tf.Ensemble(many).predict_logits(X)
    assert "retracing" not in caplog.text


def test_a_softmax_that_is_no_layer_is_noticed():
    def member(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((2,))
        return keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(3)(inputs)))

    ensemble = end2_tf.Ensemble([member(0), member(1)])
    end2_tf.distil(ensemble, _network(9), X, epochs=1)
    logits = ensemble.predict_logits(X)
    np.testing.assert_allclose(np.exp(logits[:, 0]), ensemble.member(0)(X), rtol=1e-5)


def test_temperature_of_the_members_alone_may_stay(members):
    model = end2_tf.distil(
        members, _network(9), X, loss="dirichlet_nll", loss_options={"variant": "teacher"}, temperature=2.0, epochs=1
    )
    assert model.head.offset == 0


def test_own_loss_and_fine_tuning(members):
    model = end2_tf.distil(members, _network(9), X, epochs=2)
    before = model.evaluate(X, Y, verbose=0, return_dict=True)["nll"]
    model.fit(X, Y, epochs=10, verbose=0)
    assert model.evaluate(X, Y, verbose=0, return_dict=True)["nll"] < before


def test_labels_are_those_of_the_view_that_is_shown():
    """Mixed up as the inputs are, in the view of the epoch."""
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    labels = np.arange(12) % 3
    views = Views(config.Augmentation(mixup=0.8), images, 5)
    members = np.random.default_rng(1).dirichlet(np.ones(3), (12 + 4)).astype(np.float32)
    rows = np.concatenate([members, np.ones((16, 1), np.float32)], axis=1)
    targets = student._with_labels(lambda epoch, view, ids: rows[ids], 0.25, labels, views, 3)
    ids = np.array([3, 14, 0, 11])
    got = targets(7, 2, ids)
    partners, weights = views.mixture(2)
    for row, i in zip(got, ids, strict=True):
        label = np.zeros(3) if i >= 12 else weights[i] * np.eye(3)[labels[i]]
        if i < 12:
            label = label + (1 - weights[i]) * np.eye(3)[labels[partners[i]]]
        expected = members[i] if i >= 12 else 0.75 * members[i] + 0.25 * label
        np.testing.assert_allclose(row, [*expected, 1.0], rtol=1e-5)
