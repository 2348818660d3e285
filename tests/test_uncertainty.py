"""Oracles: the 50-digit values of golden.json, SciPy, Monte Carlo, and limits known in closed form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from end2_tf import uncertainty
from end2_tf.errors import DataError, ShapeError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "golden.json").read_text())
ENSEMBLES = GOLDEN["ensemble"] | GOLDEN["logit_ensemble"]
GOLDEN_NAMES = {
    "alpha0": "alpha0",
    "total_uncertainty": "total",
    "data_uncertainty": "data",
    "knowledge_uncertainty": "knowledge",
    "epkl": "epkl",
    "mkl": "rmi",
    "differential_entropy": "dentropy",
    "max_prob": "max_prob",
}
ALPHAS_KEYS = [
    "probs",
    "alpha0",
    "total_uncertainty",
    "data_uncertainty",
    "knowledge_uncertainty",
    "epkl",
    "mkl",
    "differential_entropy",
    "max_prob",
]
MEMBERS_KEYS = [key for key in ALPHAS_KEYS if key not in ("alpha0", "differential_entropy")]
DTYPES = ["float32", "float64"]

alphas_arrays = arrays(np.float64, (4, 5), elements=st.floats(-6, 8).map(lambda exponent: 10.0**exponent))
logits_arrays = arrays(np.float64, (3, 4, 5), elements=st.floats(-20, 20))


def numbers(texts, dtype="float64"):
    return np.array(texts, dtype=np.float64).astype(dtype)


def member_logits(name, dtype="float64"):
    entry = ENSEMBLES[name]
    return numbers(entry["logits"], dtype) if "logits" in entry else np.log(numbers(entry["probs"])).astype(dtype)


# Golden values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GOLDEN["dirichlet"])
def test_golden_alphas(name, dtype):
    entry = GOLDEN["dirichlet"][name]
    got = uncertainty.from_alphas(numbers(entry["alphas"], dtype))
    rtol = 1e-11 if dtype == "float64" else 5e-6
    for key, golden_name in GOLDEN_NAMES.items():
        # Data uncertainty is total minus knowledge; with tiny alphas, less than the rounding of those two.
        atol = 0 if key not in ("data_uncertainty", "differential_entropy") else 1e-13 if dtype == "float64" else 2e-6
        assert_allclose(got[key], float(entry[golden_name]), rtol=rtol, atol=atol, err_msg=key)
    assert_allclose(got["probs"], numbers(entry["alphas"]) / float(entry["alpha0"]), rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ENSEMBLES)
def test_golden_members(name, dtype):
    entry = ENSEMBLES[name]
    got = uncertainty.from_members(member_logits(name, dtype))
    rtol = 1e-11 if dtype == "float64" else 5e-6
    for key in MEMBERS_KEYS[1:]:
        is_close_in_float32 = dtype == "float32" and name == "e3x3_close_logits"
        is_difference = key in ("knowledge_uncertainty", "epkl", "mkl")
        wanted_rtol = 1e-4 if is_close_in_float32 and is_difference else rtol
        assert_allclose(got[key], float(entry[GOLDEN_NAMES[key]]), rtol=wanted_rtol, err_msg=key)
    assert_allclose(got["probs"], numbers(entry["mean"]), rtol=rtol)


def test_epkl_over_pairs_of_different_members_differs_by_a_factor():
    got = uncertainty.from_members(member_logits("e4x5_tail"))
    assert_allclose(got["epkl"] * 4 / 3, float(ENSEMBLES["e4x5_tail"]["epkl_ordered_pairs"]), rtol=1e-12)


# Contract


def test_keys_and_their_order():
    assert list(uncertainty.from_alphas([[1.0, 2.0]])) == ALPHAS_KEYS
    assert list(uncertainty.from_members([[[1.0, 2.0]]])) == MEMBERS_KEYS
    assert list(uncertainty.from_probs([[0.5, 0.5]])) == ["probs", "total_uncertainty", "max_prob"]
    assert set(uncertainty.MEASURES) == set(ALPHAS_KEYS) - {"probs"}


def test_signs_of_measures():
    falls = [name for name, measure in uncertainty.MEASURES.items() if measure.sign == -1]
    assert falls == ["max_prob", "alpha0"]
    certain, uncertain = uncertainty.from_alphas([[90.0, 2.0]]), uncertainty.from_alphas([[2.0, 1.0]])
    for name, measure in uncertainty.MEASURES.items():
        assert measure.sign * certain[name] < measure.sign * uncertain[name], name


@pytest.mark.parametrize("make", [lambda x: x, tf.constant], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("given_dtype", "returned"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int64", "float64"),
        ("uint8", "float64"),
    ],
)
def test_dtypes(given_dtype, returned, make):
    values = make(np.array([[1, 2, 3], [4, 5, 6]], given_dtype))
    for measures in (uncertainty.from_alphas(values), uncertainty.from_members(values)):
        kind = np.ndarray if isinstance(values, np.ndarray) else tf.Tensor
        assert all(isinstance(value, kind) for value in measures.values())
        assert all(value.dtype == returned for value in measures.values())


def test_bfloat16_is_computed_in_float32():
    values = tf.constant([[1.0, 2.0]], tf.bfloat16)
    want = uncertainty.from_alphas([[1.0, 2.0]])["mkl"]
    for given_values in (values, values.numpy()):
        got = uncertainty.from_alphas(given_values)["mkl"]
        assert got.dtype == np.float32
        assert_allclose(got, want, rtol=1e-6)


def test_lists_count_as_float64():
    assert uncertainty.from_alphas([[1, 2]])["mkl"].dtype == np.float64


@pytest.mark.parametrize("leading", [(), (0,), (6,), (2, 3), (2, 0)])
def test_leading_dimensions(leading):
    rng = np.random.default_rng(0)
    for function, item in ((uncertainty.from_alphas, (3,)), (uncertainty.from_members, (4, 3))):
        values = rng.uniform(0.5, 5, (*leading, *item))
        for key, value in function(values).items():
            assert value.shape == ((*leading, 3) if key == "probs" else leading), key
        for key, value in function(tf.constant(values)).items():
            assert value.shape == ((*leading, 3) if key == "probs" else leading), key
    assert uncertainty.from_probs(np.full((*leading, 4), 0.25))["total_uncertainty"].shape == leading


def test_chunks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    alphas, logits = rng.uniform(0.1, 9, (3, 7, 5)), rng.normal(size=(21, 4, 5))
    whole = uncertainty.from_alphas(alphas), uncertainty.from_members(logits)
    monkeypatch.setattr(uncertainty, "_CHUNK_ELEMENTS", 60)
    chunked = uncertainty.from_alphas(alphas), uncertainty.from_members(logits)
    for want, got in zip(whole, chunked, strict=True):
        for key in want:
            assert_allclose(got[key], want[key], rtol=1e-12, err_msg=key)


def test_a_row_may_be_larger_than_a_chunk(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(5, 4, 5))
    whole = uncertainty.from_members(logits)
    monkeypatch.setattr(uncertainty, "_CHUNK_ELEMENTS", 3)
    assert_allclose(uncertainty.from_members(logits)["mkl"], whole["mkl"], rtol=1e-12)


def test_a_sum_at_the_dtypes_limit_is_a_sum():
    half = np.finfo(np.float32).max / 2
    measures = uncertainty.from_alphas(np.array([[half, half]], np.float32))
    assert_allclose(measures["probs"], [[0.5, 0.5]])


def test_arrays_inside_a_graph_stay_arrays():
    @tf.function
    def traced(x):
        return x * uncertainty.from_alphas(np.array([[1.0, 2.0]]))["epkl"][0]

    assert_allclose(traced(tf.constant(3.0, tf.float64)), 1.0)


# Identities and ranges


@given(alphas_arrays)
@settings(deadline=None, max_examples=30)
def test_identities_and_ranges_of_alphas(alphas):
    got = uncertainty.from_alphas(alphas)
    total, data, knowledge, mkl = (
        got[k] for k in ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty", "mkl")
    )
    assert_allclose(total, data + knowledge, atol=1e-13)
    assert_allclose(got["epkl"], knowledge + mkl, rtol=1e-13)
    assert_allclose(got["epkl"], 4 / alphas.sum(-1), rtol=1e-13)
    assert np.all(knowledge > 0)
    assert np.all(data >= 0)
    assert np.all(knowledge <= np.minimum(total, mkl) + 1e-13)
    assert np.all(total <= np.log(5) + 1e-13)
    assert_allclose(got["probs"].sum(-1), 1)
    assert_allclose(got["max_prob"], got["probs"].max(-1))


@given(logits_arrays)
@settings(deadline=None, max_examples=30)
def test_identities_and_ranges_of_members(logits):
    got = uncertainty.from_members(logits)
    total, data, knowledge, mkl = (
        got[k] for k in ("total_uncertainty", "data_uncertainty", "knowledge_uncertainty", "mkl")
    )
    assert_allclose(total, data + knowledge, atol=1e-13)
    assert_allclose(got["epkl"], knowledge + mkl, rtol=1e-13)
    assert np.all(knowledge >= 0)
    assert np.all(mkl >= 0)
    assert np.all(knowledge <= np.minimum(total, np.log(4)) + 1e-13)


@given(logits_arrays)
@settings(deadline=None, max_examples=40)
def test_members_against_the_definitions(logits):
    probs = special.softmax(logits, -1)
    mean = probs.mean(-2)
    pairs = special.rel_entr(probs[:, :, None], probs[:, None]).sum(-1)
    got = uncertainty.from_members(logits)
    assert_allclose(got["total_uncertainty"], scipy.stats.entropy(mean, axis=-1), rtol=1e-9, atol=1e-12)
    assert_allclose(got["data_uncertainty"], scipy.stats.entropy(probs, axis=-1).mean(-1), rtol=1e-9, atol=1e-12)
    assert_allclose(got["epkl"], pairs.mean((-2, -1)), rtol=1e-9, atol=1e-11)
    assert_allclose(got["mkl"], special.rel_entr(mean[:, None], probs).sum(-1).mean(-1), rtol=1e-9, atol=1e-11)


@given(alphas_arrays, st.permutations(range(5)))
@settings(deadline=None, max_examples=20)
def test_the_order_of_classes_is_irrelevant_to_alphas(alphas, order):
    want, got = uncertainty.from_alphas(alphas), uncertainty.from_alphas(alphas[:, order])
    for key in ALPHAS_KEYS[1:]:
        # Absolute errors scale with the summands: 1/alpha for differential entropy, 1 for data uncertainty.
        atol = {"differential_entropy": 1e-13 * np.max(1 / alphas), "data_uncertainty": 1e-13}.get(key, 0)
        assert_allclose(got[key], want[key], rtol=1e-12, atol=atol, err_msg=key)


@given(logits_arrays, st.permutations(range(5)), st.permutations(range(4)))
@settings(deadline=None, max_examples=30)
def test_order_and_copies_of_members_are_irrelevant(logits, classes, members):
    want = uncertainty.from_members(logits)
    for changed in (logits[:, :, classes], logits[:, members], np.repeat(logits, 2, axis=1), logits + 3.0):
        got = uncertainty.from_members(changed)
        for key in MEMBERS_KEYS[1:]:
            assert_allclose(got[key], want[key], rtol=1e-9, atol=1e-13, err_msg=key)


def test_dirichlets_of_high_and_low_precision():
    probs = np.array([0.2, 0.3, 0.5])
    entropy = scipy.stats.entropy(probs)
    high = uncertainty.from_alphas(5e4 * probs)
    assert_allclose(high["knowledge_uncertainty"] * 2 * high["alpha0"] / 2, 1, atol=1e-3)
    assert_allclose(high["total_uncertainty"], entropy, rtol=1e-12)
    low = uncertainty.from_alphas(1e-9 * probs)
    assert_allclose(low["data_uncertainty"], 0, atol=1e-8)
    assert_allclose(low["knowledge_uncertainty"], entropy, atol=1e-8)


def test_float32_orders_confident_inputs_as_float64_does():
    rng = np.random.default_rng(0)
    alphas = np.exp(rng.uniform(0, 18, (2000, 1)) + rng.normal(0, 4, (2000, 10)))
    wide, narrow = uncertainty.from_alphas(alphas), uncertainty.from_alphas(alphas.astype(np.float32))
    for key in ("total_uncertainty", "knowledge_uncertainty", "mkl", "epkl"):
        assert_allclose(narrow[key], wide[key], rtol=5e-6, err_msg=key)
    order = np.argsort(wide["knowledge_uncertainty"])
    assert np.all(np.diff(narrow["knowledge_uncertainty"][order]) >= -1e-5 * wide["knowledge_uncertainty"][order][:-1])


def test_members_drawn_from_a_dirichlet_have_its_measures():
    alphas = np.array([2.0, 3.0, 5.0])
    draws = np.random.default_rng(0).dirichlet(alphas, 100_000)
    ensemble, closed = uncertainty.from_members(np.log(draws)), uncertainty.from_alphas(alphas)
    for key in MEMBERS_KEYS[1:]:
        assert_allclose(ensemble[key], closed[key], rtol=0.02, err_msg=key)


# Boundaries


def test_one_member_has_no_knowledge_uncertainty():
    got = uncertainty.from_members([[[2.0, 0.3, -1.0]]])
    for key in ("knowledge_uncertainty", "epkl", "mkl"):
        assert got[key][0] == 0
    assert_allclose(got["total_uncertainty"], scipy.stats.entropy(special.softmax([2.0, 0.3, -1.0])), rtol=1e-14)
    assert_allclose(got["data_uncertainty"], got["total_uncertainty"], rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_identical_members(dtype):
    logits = np.tile(np.random.default_rng(0).normal(0, 3, (5, 1, 10)), (1, 7, 1)).astype(dtype)
    got = uncertainty.from_members(logits)
    noise = 1e-13 if dtype == "float32" else 1e-30
    for key in ("knowledge_uncertainty", "epkl", "mkl"):
        assert np.all(got[key] >= 0)
        assert np.all(got[key] < noise)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_members_over_all_classes(dtype):
    logits = np.where(np.eye(4) == 1, 0, -np.inf).astype(dtype)[None]
    got = uncertainty.from_members(logits)
    assert_allclose(got["knowledge_uncertainty"], np.log(4), rtol=1e-6)
    assert_allclose(got["total_uncertainty"], np.log(4), rtol=1e-6)
    assert got["data_uncertainty"][0] == 0
    assert got["mkl"][0] == got["epkl"][0] == np.inf
    assert_allclose(got["probs"], [[0.25] * 4])


def test_a_class_that_no_member_allows_drops_out():
    logits = np.array([[[1.0, -np.inf, 0.0], [-1.0, -np.inf, 2.0]]])
    without = uncertainty.from_members(logits[:, :, [0, 2]])
    for key, value in uncertainty.from_members(logits).items():
        if key != "probs":
            assert_allclose(value, without[key], rtol=1e-14, err_msg=key)


@pytest.mark.parametrize("dtype", DTYPES)
def test_opposed_logits_far_beyond_what_probabilities_hold(dtype):
    got = uncertainty.from_members(np.array([[[1000.0, 0.0], [0.0, 1000.0]]], dtype))
    assert_allclose(got["knowledge_uncertainty"], np.log(2), rtol=1e-6)
    assert_allclose(got["mkl"], 500 - np.log(2), rtol=1e-6)  # ½·1000 - ln 2


@pytest.mark.parametrize("num_classes", [2, 10_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_number_of_classes(num_classes, dtype):
    alphas = np.full((1, num_classes), 0.5, dtype)
    got = uncertainty.from_alphas(alphas)
    assert_allclose(got["total_uncertainty"], np.log(num_classes), rtol=1e-5)
    assert_allclose(got["epkl"], (num_classes - 1) / (num_classes / 2), rtol=1e-5)
    data = special.digamma(num_classes / 2 + 1) - special.digamma(1.5)
    assert_allclose(got["data_uncertainty"], data, rtol=1e-5)
    want = num_classes * special.gammaln(0.5) - special.gammaln(num_classes / 2)
    want += 0.5 * num_classes * (special.digamma(0.5) - special.digamma(num_classes / 2))
    assert_allclose(got["differential_entropy"], want, rtol=1e-5)
    members = uncertainty.from_members(np.zeros((1, 3, num_classes), dtype))
    assert_allclose(members["total_uncertainty"], np.log(num_classes), rtol=1e-5)
    assert_allclose(members["knowledge_uncertainty"], 0, atol=1e-10)


@pytest.mark.parametrize("z", [-200.0, -80.0, 0.0, 80.0, 200.0])
def test_logits_of_any_size_give_finite_measures_and_gradients(z):
    logits = tf.constant([[z, 0.0, 1.0], [z, z, z]], tf.float64)
    for name in ALPHAS_KEYS:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = uncertainty.from_alphas(tf.exp(logits))[name]
        assert np.isfinite(value).all(), name
        assert np.isfinite(tape.gradient(value, logits)).all(), name


def test_gradients_of_members_are_finite():
    logits = tf.constant(
        [[[0.0, -np.inf, 1.0], [2.0, 3.0, 0.0]], [[0.0, 1.0, 2.0]] * 2, [[900.0, 0, 0], [0, 900.0, 0]]]
    )
    for name in MEMBERS_KEYS:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = uncertainty.from_members(logits)[name]
        assert not np.isnan(value).any(), name
        assert np.isfinite(tape.gradient(value, logits)).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_eager_graph_and_xla_agree(dtype):
    rng = np.random.default_rng(1)
    alphas = tf.constant(10 ** rng.uniform(-6, 8, (20, 5)), dtype)
    logits = rng.normal(0, 3, (20, 4, 5))
    logits[0, 0, 0] = logits[1, :, 2] = -np.inf
    rtol, atol = (1e-5, 2e-6) if dtype == "float32" else (1e-12, 1e-13)
    cases = [
        (uncertainty.from_alphas, alphas),
        (uncertainty.from_members, tf.constant(logits, dtype)),
        (uncertainty.from_probs, tf.nn.softmax(alphas[:, :3] * 0)),
    ]
    for function, values in cases:
        eager = function(values)
        signature = [tf.TensorSpec([None] * len(values.shape), values.dtype)]
        for compiled in (tf.function(function, input_signature=signature), tf.function(function, jit_compile=True)):
            got = compiled(values)
            for key in eager:
                assert_allclose(got[key], eager[key], rtol=rtol, atol=atol, err_msg=key)


def test_arrays_and_tensors_agree():
    alphas = np.random.default_rng(0).uniform(0.1, 9, (6, 3))
    arrays_out, tensors_out = uncertainty.from_alphas(alphas), uncertainty.from_alphas(tf.constant(alphas))
    for key in ALPHAS_KEYS:
        assert_array_equal(arrays_out[key], tensors_out[key])


def test_single_network_probabilities():
    probs = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], np.float32)
    got = uncertainty.from_probs(probs)
    assert_array_equal(got["probs"], probs)
    assert_allclose(got["total_uncertainty"], [0.801818552543, 0], rtol=1e-6, atol=1e-12)
    assert_allclose(got["max_prob"], [0.7, 1])


# Wrong inputs


@pytest.mark.parametrize("make", [np.array, tf.constant], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (uncertainty.from_alphas, 3.0, r"alphas have shape \(\).*\(\.\.\., classes\)"),
        (uncertainty.from_alphas, [[1.0]], r"alphas have shape \(1, 1\), so 1 classes"),
        (uncertainty.from_alphas, [[]], r"so 0 classes"),
        (uncertainty.from_members, [1.0, 2.0], r"logits have shape \(2,\).*\(\.\.\., members, classes\)"),
        (uncertainty.from_members, np.zeros((2, 0, 3)), "so no members"),
        (uncertainty.from_members, np.zeros((2, 3, 1)), "so 1 classes"),
        (uncertainty.from_probs, 0.5, "probs have shape"),
    ],
)
def test_wrong_shapes(function, values, message, make):
    with pytest.raises(ShapeError, match=message):
        function(make(values))


def test_shapes_are_checked_while_tracing():
    with pytest.raises(ShapeError, match="so 1 classes"):
        tf.function(uncertainty.from_alphas)(tf.ones((2, 1)))


def test_ragged_lists():
    with pytest.raises(ShapeError, match="unequal length"):
        uncertainty.from_alphas([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize("make", [np.array, tf.constant], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("function", "values", "message"),
    [
        (uncertainty.from_alphas, [[1.0, 2.0], [3.0, 0.0]], r"alphas\[1, 1\] is 0\.0\. Allowed: above 0"),
        (uncertainty.from_alphas, [1.0, -2.0], r"alphas\[1\] is -2\.0"),
        (uncertainty.from_alphas, [[np.nan, 2.0]], r"alphas\[0, 0\] is nan"),
        (uncertainty.from_alphas, [[np.inf, 2.0]], r"alphas\[0, 0\] is inf"),
        (uncertainty.from_alphas, np.array([[3e38, 3e38]], np.float32), r"alpha0 of alphas\[0\] is inf.*float64"),
        (uncertainty.from_alphas, np.array([1e-310, 1e-310]), r"alpha0 of alphas is 2e-310"),
        (uncertainty.from_members, [[[np.nan, 2.0]]], r"logits\[0, 0, 0\] is nan"),
        (uncertainty.from_members, [[[0.0, np.inf]]], r"logits\[0, 0, 1\] is inf"),
        (uncertainty.from_members, [[[0.0, 1.0], [-np.inf, -np.inf]]], r"largest of logits\[0, 1\] is -inf"),
        (uncertainty.from_probs, [[0.5, 0.6]], r"sum of probs\[0\] is 1\.1.*softmax"),
        (uncertainty.from_probs, [[-0.1, 1.1]], r"probs\[0, 0\] is -0\.1"),
        (uncertainty.from_probs, [[np.nan, 1.0]], r"probs\[0, 0\] is nan"),
        (uncertainty.from_alphas, ["a", "b"], "alphas have dtype"),
        (uncertainty.from_members, [[True, False]], "logits have dtype bool"),
    ],
)
def test_wrong_values(function, values, message, make):
    with pytest.raises(DataError, match=message):
        function(make(values))


def test_values_are_not_checked_in_graphs():
    got = tf.function(uncertainty.from_alphas)(tf.constant([[0.0, 2.0]]))
    assert not np.isnan(got["knowledge_uncertainty"]).any()
