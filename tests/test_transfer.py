import keras
import numpy as np
import pytest

from end2_tf import config, losses, transfer
from end2_tf.config import Augmentation
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.data.views import CLEAN, Views
from end2_tf.ensemble import Ensemble
from end2_tf.errors import DataError

RNG = np.random.default_rng(0)


def _member(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])


@pytest.fixture(scope="module")
def ensemble():
    return Ensemble([_member(s) for s in range(4)])


@pytest.fixture(scope="module")
def data():
    make = lambda n: Examples(RNG.normal(size=(n, 2)).astype(np.float32), RNG.integers(0, 3, n))
    return DataSet(make(20), make(5), make(5), Examples(make(7).inputs), {}, ("a", "b", "c"))


def test_recorded_logits_are_the_members_own(tmp_path, ensemble, data):
    details = transfer.record(ensemble, data, config.Transfer(), tmp_path, seed=0)
    recorded = transfer.open_set(tmp_path, details["views"])
    assert details["logits"] == [20, 4, 3]
    np.testing.assert_allclose(recorded.logits[CLEAN], ensemble.predict_logits(data.train.inputs), atol=1e-6)
    np.testing.assert_allclose(recorded.auxiliary, ensemble.predict_logits(data.auxiliary.inputs), atol=1e-6)
    assert isinstance(recorded.logits[CLEAN], np.memmap)


def test_views_are_recorded_on_what_the_student_will_see(tmp_path, ensemble, data):
    settings = config.Transfer(mode="views", num_views=3, augmentation=Augmentation(jitter=0.3))
    details = transfer.record(ensemble, data, settings, tmp_path, seed=11)
    recorded = transfer.open_set(tmp_path, details["views"])
    views = Views(settings.augmentation, data.train.inputs, 11)
    ids = np.arange(20)
    for view in range(3):
        seen = data.train.inputs + views.of(view, ids)
        np.testing.assert_allclose(recorded.logits[view], ensemble.predict_logits(seen), atol=1e-5)
    assert not np.allclose(recorded.logits[0], recorded.logits[1])


@pytest.mark.parametrize(
    "make", [losses.DirichletNLL, losses.EnsembleDistillation, losses.ProxyReverseKL, losses.MeanPrecision]
)
def test_statistics_give_the_loss_of_the_members(tmp_path, ensemble, data, make):
    """The (N, S) form against the (B, M, K) form, at each temperature, cached or not."""
    details = transfer.record(ensemble, data, config.Transfer(), tmp_path, seed=0)
    recorded = transfer.open_set(tmp_path, details["views"])
    loss = make(targets="statistics", reduction=None)
    reference = make(targets="members", reduction=None)
    temperatures = np.asarray([5.0, 1.0])
    ids = np.asarray([3, 0, 22, 19, 26])
    student = RNG.normal(size=(5, 3)).astype(np.float32)
    logits = np.concatenate([recorded.logits[CLEAN], recorded.auxiliary])[ids]
    for _ in range(2):  # the second time from the cache
        look_up = recorded.statistics(loss, temperatures, with_auxiliary=True)
        for level, temperature in enumerate(temperatures):
            loss.temperature.assign(temperature)
            reference.temperature.assign(temperature)
            got = loss(look_up(level, CLEAN, ids), student)
            np.testing.assert_allclose(got, reference(logits, student), rtol=1e-4, atol=1e-5)
    assert list((tmp_path / ".statistics").glob("*.npy"))


def test_the_cache_is_not_shared_between_losses_of_other_options(tmp_path, ensemble, data):
    details = transfer.record(ensemble, data, config.Transfer(), tmp_path, seed=0)
    recorded = transfer.open_set(tmp_path, details["views"])
    ids = np.arange(20)
    rough, fine = (
        recorded.statistics(losses.DirichletNLL(targets="statistics", smoothing=s), np.ones(1), with_auxiliary=False)
        for s in (0.5, 1e-4)
    )
    assert not np.allclose(rough(0, CLEAN, ids), fine(0, CLEAN, ids))


def test_auxiliary_that_was_not_recorded(ensemble, data):
    recorded = transfer.record_in_memory(ensemble, data.train, None)
    with pytest.raises(DataError, match="no auxiliary inputs"):
        recorded.statistics(losses.DirichletNLL(targets="statistics"), np.ones(1), with_auxiliary=True)


def test_float16_keeps_logits_finite(tmp_path, ensemble, data):
    class Loud:
        num_members, num_classes = 4, 3

        def predict_logits(self, inputs):
            return ensemble.predict_logits(inputs) * 1e6

    details = transfer.record(Loud(), data, config.Transfer(dtype="float16"), tmp_path, seed=0)
    assert np.isfinite(transfer.open_set(tmp_path, details["views"]).logits[CLEAN]).all()
