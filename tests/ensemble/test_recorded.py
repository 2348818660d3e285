"""Members known by their predictions: found by the input, whatever the order; what can't be is refused."""

import numpy as np
import pytest

from end2_tf.ensemble import recorded
from end2_tf.errors import DataError, ModelError

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(20, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(20, 4, 5)).astype(np.float32)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_predictions_are_found_by_their_input(tmp_path):
    path = write(tmp_path / "p.npz", inputs=INPUTS.astype(np.float64), logits=LOGITS)
    ensemble = recorded.load(path, (3,))
    order = RNG.permutation(20)
    np.testing.assert_array_equal(ensemble.predict_logits(INPUTS[order]), LOGITS[order])
    np.testing.assert_array_equal(ensemble.first(2).predict_logits(INPUTS[order]), LOGITS[order][:, :2])
    assert (ensemble.num_members, ensemble.num_classes, ensemble.input_shape) == (4, 5, (3,))
    assert ensemble.returns_logits
    mean = softmax(LOGITS[order]).mean(1)
    np.testing.assert_allclose(ensemble.uncertainty(INPUTS[order])["probs"], mean, rtol=1e-5)


def test_digests_stand_for_inputs_of_any_dtype(tmp_path):
    images = RNG.integers(0, 256, (20, 4, 4, 1)).astype(np.uint8)
    keys = recorded.digests(images.astype(np.int64))
    assert keys.dtype == np.uint64
    assert len(set(keys)) == 20
    np.testing.assert_array_equal(keys, recorded.digests(images.astype(np.float32)))
    ensemble = recorded.load(write(tmp_path / "p.npz", digests=keys, logits=LOGITS), (4, 4, 1))
    np.testing.assert_array_equal(ensemble.predict_logits(images[::-1]), LOGITS[::-1])


def test_probabilities_become_logits_also_from_mapped_files(tmp_path):
    np.save(tmp_path / "inputs.npy", INPUTS)
    np.save(tmp_path / "probs.npy", softmax(LOGITS).astype(np.float16))
    ensemble = recorded.load(str(tmp_path), (3,))
    assert not ensemble.returns_logits
    assert isinstance(ensemble._predictions, np.memmap)
    np.testing.assert_allclose(softmax(ensemble.predict_logits(INPUTS)), softmax(LOGITS), rtol=2e-3)


def test_inputs_without_predictions_are_counted(tmp_path):
    ensemble = recorded.load(write(tmp_path / "p.npz", inputs=INPUTS[:15], logits=LOGITS[:15]), (3,))
    assert ensemble.knows(INPUTS).sum() == 15
    with pytest.raises(DataError, match=r"no predictions for 5 of 20 inputs, the first of them number 15. .*--write"):
        ensemble.predict_logits(INPUTS)
    with pytest.raises(ModelError, match=r"holds members' predictions, not the members"):
        ensemble.member(0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": INPUTS}, r"has the arrays 'inputs'. Allowed: one of 'logits' and 'probs'"),
        ({"logits": LOGITS}, r"It must have one of 'inputs', what logits are of, and 'digests'"),
        ({"inputs": INPUTS, "logits": LOGITS[0]}, r"logits is float32 \(4, 5\). Allowed: floating point \(n, members"),
        ({"inputs": INPUTS, "logits": LOGITS.astype(np.int64)}, r"logits is int64"),
        ({"inputs": INPUTS[:9], "logits": LOGITS}, r"inputs has shape \(9, 3\), but logits has 20 examples"),
        ({"inputs": INPUTS[:, :2], "logits": LOGITS}, r"the data's inputs are \(3,\). Give \(20, 3\)"),
        ({"digests": np.arange(20), "logits": LOGITS}, r"digests is int64 \(20,\), .*Allowed: uint64 \(20,\)"),
        ({"inputs": INPUTS, "probs": LOGITS}, r"probs\[0, 0, \d\] is -.*Allowed: 0 to 1. Check member 0"),
        ({"inputs": INPUTS, "probs": np.abs(LOGITS)}, r"probs\[0, 0\] sum to .*, not 1. If they are logits, call"),
        ({"inputs": INPUTS, "logits": softmax(LOGITS)}, r"so they are probabilities. Call the array probs"),
        (
            {"inputs": INPUTS, "logits": np.where(LOGITS[3, 1, 2] == LOGITS, np.nan, LOGITS)},
            r"\[3, 1, 2\] is nan",
        ),
    ],
)
def test_what_cant_be_is_refused(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        recorded.load(write(tmp_path / "p.npz", **arrays), (3,))


def test_what_cant_be_read_is_refused(tmp_path):
    (tmp_path / "p.npz").write_bytes(b"nothing")
    np.save(tmp_path / "q.npy", np.zeros(3))
    np.savez(tmp_path / "r.npz", logits=np.array([{}], dtype=object))
    for name in ("p.npz", "q.npy", "r.npz", "missing.npz"):
        with pytest.raises(DataError, match=rf"{name}', which can't be read"):
            recorded.load(str(tmp_path / name), (3,))
