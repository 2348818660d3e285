"""The contract of every loss in end2_tf/losses/, found by listing the folder, and what the base class does."""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose
from scipy.special import softmax

from end2_tf import losses, registry
from end2_tf.errors import ConfigError, ShapeError
from end2_tf.heads import DirichletHead
from end2_tf.student import head_of


def class_of(name):
    return getattr(losses, registry.class_name(name))


NAMES = [name for name in registry.names("loss") if issubclass(class_of(name), losses.DistillationLoss)]
RNG = np.random.default_rng(0)
MEMBERS = RNG.normal(size=(6, 5, 4)) * 2
OUTPUTS = RNG.normal(size=(6, 20)) * 2
INPUTS = RNG.normal(size=(6, 3)).astype(np.float32)


def build(key, /, **kwargs):
    takes_number = "num_members" in inspect.signature(class_of(key)).parameters
    return class_of(key)(**({"num_members": 5} if takes_number else {}), **kwargs)


def outputs(loss, num_classes=4, batch=6):
    """Returns raw outputs of a student with the head that the loss asks for."""
    return OUTPUTS[:batch, : head_of(loss).num_outputs(num_classes)]


def is_tempered(name):
    """Whether a loss takes another temperature than 1."""
    try:
        build(name, temperature=2.0)
    except ConfigError:
        return False
    return True


TEMPERED = [name for name in NAMES if is_tempered(name)]
DIRICHLET = [name for name in NAMES if isinstance(build(name).make_head(), DirichletHead)]
CASES = [(name, 0.0) for name in TEMPERED] + [(name, 1.0) for name in DIRICHLET]


def value_and_gradient(loss, targets, logits):
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(targets, variable)
    return value.numpy(), tape.gradient(value, variable).numpy()


def student(loss, optimizer=None, seed=1, size=4):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(size)])
    if hasattr(loss, "training_network"):
        model = loss.training_network(model)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.01), loss=loss)
    return model


def test_names_follow_the_files():
    assert {"dirichlet_nll", "ensemble_distillation", "mean_precision", "proxy_forward_kl", "proxy_reverse_kl"} <= {
        *NAMES
    }
    assert {registry.class_name(name) for name in registry.names("loss")} <= {*dir(losses)}
    with pytest.raises(AttributeError, match=r"end2_tf.losses has no 'DirichletNll'. Did you mean 'DirichletNLL'"):
        losses.DirichletNll  # noqa: B018


@pytest.mark.parametrize("name", registry.names("loss"))
def test_docstring_examples(name):
    module = importlib.import_module(f"end2_tf.losses.{name}")
    results = doctest.testmod(module, extraglobs={"np": np}, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(("name", "offset"), CASES)
@pytest.mark.parametrize("temperature", [1.0, 2.5, 10.0])
def test_members_equal_statistics(name, offset, temperature):
    whole = build(name, temperature=temperature, offset=offset, reduction=None)
    split = build(name, targets="statistics", temperature=temperature, offset=offset, reduction=None)
    logits = outputs(whole)
    want = whole(MEMBERS, logits)
    statistics = whole.reduce_members(MEMBERS, temperature)
    assert want.shape == (6,)
    assert statistics.dtype == tf.float64
    assert statistics.shape == (6, whole.statistics_size(4))
    assert_allclose(split(statistics, logits), want, rtol=1e-12)
    assert_allclose(split.from_statistics(statistics, tf.constant(logits), temperature), want, rtol=1e-12)
    half = split(tf.cast(statistics, tf.float32), tf.constant(logits, tf.float32))
    assert half.dtype == tf.float32
    assert_allclose(half, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_keep_leading_axes(name):
    loss = build(name)
    members = np.stack([MEMBERS, MEMBERS[::-1]])
    assert_allclose(loss.reduce_members(members, 2.0)[1], loss.reduce_members(MEMBERS[::-1], 2.0), rtol=1e-12)
    assert_allclose(loss.reduce_members(MEMBERS[0], 2.0), loss.reduce_members(MEMBERS, 2.0)[0], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_losses_that_say_so_keep_the_mean_first(name):
    loss = build(name)
    first = loss.reduce_members(MEMBERS, 1.0).numpy()[:, :4]
    is_mean = first.shape == (6, 4) and np.allclose(first, softmax(MEMBERS, axis=-1).mean(1))
    assert is_mean == loss.has_mean


@pytest.mark.parametrize("name", NAMES)
def test_shifts_of_members_and_orders_of_classes_say_nothing(name):
    loss = build(name)
    logits = outputs(loss)
    want = loss(MEMBERS, logits)
    assert_allclose(loss(MEMBERS + RNG.normal(size=(6, 5, 1)), logits), want, rtol=1e-11)
    backwards = logits.reshape(6, -1, 4)[..., ::-1].reshape(logits.shape)
    assert_allclose(loss(MEMBERS[..., ::-1], backwards), want, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hydra"])  # whose heads are members' own
def test_members_have_no_order_and_no_number(name):
    loss = build(name)
    logits = outputs(loss)
    want = loss(MEMBERS, logits)
    assert_allclose(loss(MEMBERS[:, ::-1], logits), want, rtol=1e-12)
    assert_allclose(loss(np.concatenate([MEMBERS, MEMBERS], axis=1), logits), want, rtol=1e-12)


@pytest.mark.parametrize(("name", "offset"), CASES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradient_is_that_of_finite_differences(name, offset, temperature):
    loss = build(name, targets="statistics", temperature=temperature, offset=offset, reduction=None)
    statistics, logits = loss.reduce_members(MEMBERS[:1], temperature).numpy(), outputs(loss, batch=1)
    _, gradient = value_and_gradient(loss, statistics, logits)
    size = logits.shape[1]
    step = 1e-5 * np.concatenate([np.eye(size), -np.eye(size)])
    values = loss(np.repeat(statistics, 2 * size, axis=0), logits + step).numpy()
    assert_allclose(gradient[0], (values[:size] - values[size:]) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "offset"), CASES)
def test_finite_at_the_boundary(name, offset):
    one_hot = np.eye(3) * 1e4
    members = np.stack(
        [one_hot, -one_hot, np.repeat(one_hot[:1], 3, 0), np.zeros((3, 3)), np.where(one_hot > 0, 0.0, -np.inf)]
    )[:, [0, 1, 2, 0, 1]]
    students = [[1e4, 0, -1e4], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [0, 0, 0], [-1e4, 0, 40], [700, 699, 0]]
    options = {"smoothing": 0.0} if name == "dirichlet_nll" else {}
    for dtype in (np.float32, np.float64):
        loss = build(name, targets="statistics", offset=offset, reduction="sum", **options)
        statistics = loss.reduce_members(members, 1.0)
        for logits in students:
            repeats = loss.make_head().num_outputs(3) // 3
            value, gradient = value_and_gradient(loss, statistics, np.tile(logits, (5, repeats)).astype(dtype))
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()
            assert value.dtype == gradient.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_sizes_at_the_boundary(name):
    loss = build(name, reduction=None)
    for batch, members, classes in [(1, 1, 2), (2, 3, 10_000), (0, 3, 4)]:
        members = 5 if name == "hydra" else members
        size = loss.make_head().num_outputs(classes)
        values = loss(RNG.normal(size=(batch, members, classes)), RNG.normal(size=(batch, size)))
        assert values.shape == (batch,)
        assert np.isfinite(values).all()
    assert np.isfinite(build(name)(np.zeros((0, 5, 4)), outputs(loss, batch=0))).all()


@pytest.mark.parametrize("name", NAMES)
def test_eager_is_graph_is_xla(name):
    loss = build(name, temperature=2.5 if name in TEMPERED else 1.0)
    own = outputs(loss)
    want, want_gradient = value_and_gradient(loss, MEMBERS, own)

    def both(members, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(members, logits)
        return value, tape.gradient(value, logits)

    unknown = [tf.TensorSpec((None, None, 4), tf.float64), tf.TensorSpec((None, own.shape[1]), tf.float64)]
    for function in (tf.function(both, input_signature=unknown), tf.function(both, jit_compile=True)):
        value, gradient = function(tf.constant(MEMBERS), tf.constant(own))
        assert_allclose(value, want, rtol=1e-12)
        assert_allclose(gradient, want_gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_result_has_the_predictions_dtype_and_the_precision_of_64_bits(name):
    logits = outputs(build(name))
    want = build(name)(MEMBERS, logits).numpy()
    assert want.dtype == np.float64
    single = build(name)(MEMBERS, logits.astype(np.float32)).numpy()
    assert single.dtype == np.float32
    assert_allclose(single, want, rtol=1e-5)
    assert build(name)(MEMBERS, logits.astype(np.float16)).dtype == tf.float32
    assert build(name, dtype="float64")(MEMBERS, logits.astype(np.float32)).dtype == tf.float64
    assert build(name, dtype="float32")(MEMBERS, logits).dtype == tf.float32


@pytest.mark.parametrize("name", NAMES)
def test_reduction_and_sample_weight(name):
    logits = outputs(build(name))
    each = build(name, reduction=None)(MEMBERS, logits).numpy()
    weights = np.array([0, 1, 2, 3, 4, 5.0])
    assert_allclose(build(name)(MEMBERS, logits), each.mean(), rtol=1e-12)
    assert_allclose(build(name, reduction="sum")(MEMBERS, logits, weights), (each * weights).sum(), rtol=1e-12)


@pytest.mark.parametrize(("name", "offset"), CASES)
def test_config_round_trip(name, offset):
    loss = build(
        name, targets="statistics", temperature=2.3, offset=offset, reduction="sum", name="mine", dtype="float32"
    )
    loss.temperature.assign(7.0)
    config = loss.get_config()
    assert config["temperature"] == 2.3
    assert {type(value) for value in config.values()} <= {str, float, bool, int, type(None)}
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is type(loss)
    assert copy.get_config() == config
    assert float(copy.temperature.numpy()) == 2.3
    default = build(name).get_config()
    assert default["dtype"] is None
    assert type(loss).from_config(default).get_config() == default


@pytest.mark.parametrize("name", TEMPERED)
def test_temperature_set_by_a_callback_in_a_compiled_fit(name):
    """One training whose temperature falls = as many trainings of one epoch with losses of their own."""
    temperatures = [4.0, 2.0]
    loss = build(name, temperature=8.0)
    size = loss.make_head().num_outputs(4)
    model = student(loss, size=size)
    fall = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: loss.temperature.assign(temperatures[epoch])
    )
    history = model.fit(INPUTS, MEMBERS, epochs=2, batch_size=6, shuffle=False, verbose=0, callbacks=[fall])
    apart = student("mse", size=size)
    separate = []
    for temperature in temperatures:
        apart.compile(optimizer=keras.optimizers.SGD(0.01), loss=build(name, temperature=temperature))
        separate += apart.fit(INPUTS, MEMBERS, batch_size=6, shuffle=False, verbose=0).history["loss"]
    assert_allclose(history.history["loss"], separate, rtol=1e-6)
    assert abs(separate[1] - separate[0]) > 1e-3
    for got, want in zip(model.get_weights(), apart.get_weights(), strict=True):
        assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", registry.names("loss"))
def test_fit_on_statistics_under_mixed_precision(name):
    loss, targets = build(name), np.arange(6) % 4
    if name in NAMES:
        temperature = 2.5 if name in TEMPERED else 1.0
        loss = build(name, targets="statistics", temperature=temperature)
        targets = loss.reduce_members(MEMBERS * 5, temperature).numpy().astype(np.float32)
    # These losses' gradients grow with alphas or 1 / variance; float16 ends at 65,504 over the scale of the loss.
    inputs = INPUTS * (1 if name in ("prior_network", "logit_gaussian") else 10)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = student(loss, keras.optimizers.Adam(0.05), size=head_of(loss).num_outputs(4))
        history = model.fit(inputs, targets, epochs=15, verbose=0).history["loss"]
        assert model.layers[-1].compute_dtype == "float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history).all()
    assert history[-1] < history[0]


@pytest.mark.parametrize("name", registry.names("loss"))
def test_saved_and_loaded_with_its_model(name, tmp_path):
    targets = MEMBERS if name in NAMES else np.arange(6) % 4
    options = {"temperature": 3.0} if name in TEMPERED else {}
    loss = build(name, **options)
    if hasattr(loss, "training_network"):
        pytest.skip("its network draws noise, so two evaluations differ")
    model = student(loss, size=head_of(loss).num_outputs(4))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.loss) is class_of(name)
    assert loaded.loss.get_config() == model.loss.get_config()
    assert_allclose(loaded.evaluate(INPUTS, targets, verbose=0), model.loss(targets, model(INPUTS)), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_shape_errors(name):
    class_name = registry.class_name(name)
    loss, split = build(name), build(name, targets="statistics")
    size, logits = split.statistics_size(4), outputs(loss)
    width = logits.shape[1]
    with pytest.raises(
        ShapeError,
        match=rf"{class_name} got y_true of shape \(6, {width}\), but targets='members' needs "
        r"\(batch, members, classes\)\. Give those, or build the loss with targets='statistics'",
    ):
        loss(logits, logits)
    with pytest.raises(
        ShapeError,
        match=r"\(6, 5, 4\), but targets='statistics' needs \(batch, statistics\)\. .* with targets='members'",
    ):
        split(MEMBERS, logits)
    with pytest.raises(ShapeError, match=r"y_pred of shape .*: with 3 classes y_true's last axis must be 3"):
        loss(MEMBERS, outputs(loss, num_classes=3))
    with pytest.raises(ShapeError, match=rf"with 4 classes y_true's last axis must be {size}"):
        split(np.zeros((6, size + 1)), logits)
    with pytest.raises(ShapeError, match=r"y_pred of shape \(6, 5, 4\). Allowed: the student's logits"):
        loss(MEMBERS, MEMBERS)
    with pytest.raises(ShapeError, match=rf"\(1, 5, 4\) and y_pred of shape \(6, {width}\), which differ in the batch"):
        loss(MEMBERS[:1], logits)
    with pytest.raises(ShapeError, match=r"at least 2 classes"):
        loss(MEMBERS[..., :1], outputs(loss, num_classes=1))
    with pytest.raises(ShapeError, match=r"member_logits has shape \(4,\). Allowed: \(..., members, classes\)"):
        loss.reduce_members(MEMBERS[0, 0], 1.0)
    with pytest.raises(ShapeError, match=r"at least 1 member"):
        loss.reduce_members(MEMBERS[:, :0], 1.0)
    with pytest.raises(ShapeError, match=r"2 classes"):
        loss.reduce_members(MEMBERS[..., :0], 1.0)


def test_shapes_are_checked_while_tracing():
    model = student(build("dirichlet_nll", targets="statistics"))
    with pytest.raises(ShapeError, match=r"\(None, 5, 4\), but targets='statistics' needs \(batch, statistics\)"):
        model.fit(INPUTS, MEMBERS, verbose=0)


def test_classes_are_checked_where_the_number_of_members_is_unknown():
    function = tf.function(build("dirichlet_nll"), autograph=False)
    with pytest.raises(ShapeError, match=r"y_true of shape \(None, None, 3\) .* with 4 classes y_true's last axis"):
        function.get_concrete_function(tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, 4)))


@pytest.mark.parametrize(
    ("targets", "student"), [(None, (6, 4)), ((None, 5, 4), (6, 4)), ((6, 5, 4), (None, 4)), ((6, 5, 4), None)]
)
def test_axes_that_are_unknown_while_tracing_are_not_refused(targets, student):
    loss = build("dirichlet_nll", reduction=None)  # Keras' own reduction needs the rank
    function = tf.function(loss, autograph=False)
    shapes = tf.TensorSpec(targets, tf.float64), tf.TensorSpec(student, tf.float64)
    graph = function.get_concrete_function(*shapes)
    members, logits = tf.constant(MEMBERS), tf.constant(outputs(loss))
    assert_allclose(graph(members, logits), loss(members, logits), rtol=1e-12)


@pytest.mark.parametrize(
    "build_default", [losses.DistillationLoss, *(functools.partial(build, name) for name in NAMES)]
)
def test_defaults(build_default):
    config = build_default().get_config()
    assert (config["targets"], config["temperature"], config["offset"]) == ("members", 1.0, 0.0)


@pytest.mark.parametrize("loss", [losses.DistillationLoss, *map(class_of, registry.names("loss"))])
def test_shared_arguments_go_by_name(loss):
    parameters = inspect.signature(loss).parameters
    for name in ("targets", "temperature", "offset", "dtype"):
        assert name not in parameters or parameters[name].kind == inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments(name):
    with pytest.raises(
        ConfigError, match=r"targets is 'member', which isn't a kind of targets. Did you mean 'members'"
    ):
        build(name, targets="member")
    with pytest.raises(ConfigError, match=r"temperature is 0.0. Allowed: above 0"):
        build(name, temperature=0.0)
    with pytest.raises(ConfigError, match=r"offset is -1.0. Allowed: at least 0"):
        build(name, offset=-1.0)
    with pytest.raises(ConfigError, match=r"offset is nan"):
        build(name, offset=float("nan"))


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(build(n), "precision")])
def test_wrong_precision(name):
    with pytest.raises(ConfigError, match=r"precision is 'MI', which isn't a kind of precision"):
        build(name, precision="MI")
    with pytest.raises(ConfigError, match=r"cap is 0.0. Allowed: at least 0.001"):
        build(name, cap=0.0)
    assert build(name, cap=0.001).cap == 0.001


def test_alphas_inside_the_bounds():
    loss = build("dirichlet_nll", offset=0.5)
    assert_allclose(loss.alphas(OUTPUTS, 2.0), np.exp(OUTPUTS / 2) + 0.5, rtol=1e-14)


def test_alphas_above_the_bound_keep_their_mean():
    logits = np.array([[117.0, 115.0, 110.0], [300.0, 0.0, -300.0]])
    alphas = build("dirichlet_nll").alphas(logits, 1.0).numpy()
    assert_allclose(alphas[0] / alphas[0].sum(), softmax(logits[0]), rtol=1e-12)
    assert_allclose(alphas.max(axis=1), np.exp(30))
    assert_allclose(alphas.min(), np.exp(-30))


@pytest.mark.parametrize(
    ("logits", "upstream", "passed"),
    [
        ([29.0, 0.0, -29.0], [1.0, -2.0, 3.0], [1.0, -2.0, 3.0]),  # inside: all
        ([40.0, 39.0, 0.0], [3.0, 1.0, -1.0], [3.0, 1.0, -1.0]),  # above and pulled down: all
        ([40.0, 39.0, 0.0], [1.0, 1.0, -1.0], [1.0, 1.0, -1.0]),  # the same, gently
        ([40.0, 39.0, 0.0], [-3.0, 1.0, -1.0], [-2.0, 2.0, 0.0]),  # above and pushed up: the mean alone still learns
        ([30.5, 0.0, -1.0], [-3.0, 1.0, -1.0], [-2.0, 2.0, 0.0]),  # just above
        ([0.0, -40.0, -40.0], [1.0, 2.0, -3.0], [1.0, 0.0, -3.0]),  # below: upwards only
    ],
)
def test_gradient_at_the_bounds(logits, upstream, passed):
    variable = tf.Variable([logits], dtype=tf.float64)
    with tf.GradientTape() as tape:
        log_alphas = tf.math.log(build("dirichlet_nll").alphas(variable, 1.0))
    assert_allclose(
        tape.gradient(log_alphas, variable, [tf.constant(upstream, tf.float64)[None]])[0], passed, atol=1e-9
    )


def test_no_gradient_into_the_members():
    variable = tf.Variable(MEMBERS)
    with tf.GradientTape() as tape:
        value = build("mean_precision")(variable, OUTPUTS[:, :4])
    assert tape.gradient(value, variable) is None


def test_temperature_is_no_weight_of_the_model():
    model = student(build("mean_precision"))
    model.fit(INPUTS, MEMBERS, verbose=0)
    assert len(model.weights) == 2
