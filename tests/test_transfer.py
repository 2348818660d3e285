import keras
import numpy as np
import pytest

from end2_tf import config, losses, transfer
from end2_tf.config import Augmentation
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.data.views import CLEAN
from end2_tf.ensemble import Ensemble
from end2_tf.errors import ConfigError, DataError

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


def recorded_set(ensemble, data, settings, folder, seed=0):
    parts = []
    for number, views in enumerate(
        transfer.make_views(settings, data.train.inputs, data.auxiliary.inputs, seed, folder / "0", folder / "1")
    ):
        details = transfer.record(ensemble, views, settings, folder / str(number))
        assert details["logits"] == [len(views.inputs), 4, 3]
        parts.append(transfer.open_recording(folder / str(number), details["views"]))
    return transfer.TransferSet(*parts)


def test_recorded_logits_are_the_members_own(tmp_path, ensemble, data):
    recorded = recorded_set(ensemble, data, config.Transfer(), tmp_path)
    np.testing.assert_allclose(recorded.train.logits[CLEAN], ensemble.predict_logits(data.train.inputs), atol=1e-6)
    expected = ensemble.predict_logits(data.auxiliary.inputs)
    np.testing.assert_allclose(recorded.auxiliary.logits[CLEAN], expected, atol=1e-6)
    assert isinstance(recorded.train.logits[CLEAN], np.memmap)


@pytest.mark.parametrize("keep_inputs", [False, True])
def test_views_are_recorded_on_what_the_student_will_see(tmp_path, ensemble, data, keep_inputs):
    settings = config.Transfer(
        mode="views",
        num_views=3,
        augmentation=Augmentation(jitter=0.3, mixup=0.5),
        auxiliary_augmentation=Augmentation(mixup=0.5),
        keep_inputs=keep_inputs,
    )
    recorded = recorded_set(ensemble, data, settings, tmp_path, seed=11)
    views = transfer.make_views(settings, data.train.inputs, data.auxiliary.inputs, 11)
    for part, name in zip(views, ("train", "auxiliary"), strict=True):
        for view in range(3):
            expected = ensemble.predict_logits(part.array(view))
            np.testing.assert_allclose(getattr(recorded, name).logits[view], expected, atol=1e-5)
    assert not np.allclose(recorded.train.logits[0], recorded.train.logits[1])
    assert len(list(tmp_path.glob("*/inputs_*.npy"))) == (6 if keep_inputs else 0)
    total = sum(path.stat().st_size for path in tmp_path.glob("*/*.npy"))
    assert total == pytest.approx(
        sum(
            transfer.num_bytes(settings, part.augmentation, part.inputs.shape, part.inputs.dtype, 4, 3)
            for part in views
        ),
        rel=0.5,
    )


def test_a_mixture_needs_members_that_see_it():
    with pytest.raises(ConfigError, match=r"transfer\.augmentation\.mixup is 0\.5, but transfer\.mode is 'clean'"):
        transfer.check(config.Transfer(augmentation=Augmentation(mixup=0.5)))
    transfer.check(config.Transfer(mode="online", augmentation=Augmentation(mixup=0.5)))


@pytest.mark.parametrize(
    "make", [losses.DirichletNLL, losses.EnsembleDistillation, losses.ProxyReverseKL, losses.MeanPrecision]
)
def test_statistics_give_the_loss_of_the_members(tmp_path, ensemble, data, make):
    """The (N, S) form against the (B, M, K) form, at each temperature, cached or not."""
    recorded = recorded_set(ensemble, data, config.Transfer(), tmp_path)
    loss = make(targets="statistics", reduction=None)
    reference = make(targets="members", reduction=None)
    temperatures = np.asarray([5.0, 1.0])
    ids = np.asarray([3, 0, 22, 19, 26])
    student = RNG.normal(size=(5, 3)).astype(np.float32)
    logits = np.concatenate([recorded.train.logits[CLEAN], recorded.auxiliary.logits[CLEAN]])[ids]
    for _ in range(2):  # the second time from the cache
        look_up = recorded.statistics(loss, temperatures, with_auxiliary=True)
        for level, temperature in enumerate(temperatures):
            loss.temperature.assign(temperature)
            reference.temperature.assign(temperature)
            got = loss(look_up(level, CLEAN, ids), student)
            np.testing.assert_allclose(got, reference(logits, student), rtol=1e-4, atol=1e-5)
    assert list(tmp_path.glob("*/.statistics/*.npy"))


def test_the_cache_is_not_shared_between_losses_of_other_options(tmp_path, ensemble, data):
    recorded = recorded_set(ensemble, data, config.Transfer(), tmp_path)
    ids = np.arange(20)
    rough, fine = (
        recorded.statistics(losses.DirichletNLL(targets="statistics", smoothing=s), np.ones(1), with_auxiliary=False)
        for s in (0.5, 1e-4)
    )
    assert not np.allclose(rough(0, CLEAN, ids), fine(0, CLEAN, ids))


def test_auxiliary_that_was_not_recorded(ensemble, data):
    recorded = transfer.record_in_memory(ensemble, data.train.inputs, None)
    with pytest.raises(DataError, match="no auxiliary inputs"):
        recorded.statistics(losses.DirichletNLL(targets="statistics"), np.ones(1), with_auxiliary=True)


def test_float16_keeps_logits_finite(tmp_path, ensemble, data):
    class Loud:
        num_members, num_classes = 4, 3

        def predict_logits(self, inputs):
            return ensemble.predict_logits(inputs) * 1e6

    recorded = recorded_set(Loud(), data, config.Transfer(dtype="float16"), tmp_path)
    assert np.isfinite(recorded.train.logits[CLEAN]).all()


def test_the_first_members_of_a_recording_of_all(tmp_path, ensemble, data):
    recorded_set(ensemble, data, config.Transfer(), tmp_path)
    loss, levels = losses.DirichletNLL(targets="statistics"), np.array([1.0])
    whole, part = (transfer.open_recording(tmp_path / "0", [CLEAN], num) for num in (None, 2))
    alone = transfer.Recording({CLEAN: ensemble.first(2).predict_logits(data.train.inputs)})
    expected = alone.statistics(loss, levels)(0, CLEAN)
    for _ in range(2):  # the second time from what the first one left on disk
        np.testing.assert_allclose(part.statistics(loss, levels)(0, CLEAN), expected, atol=1e-5)
        assert not np.allclose(whole.statistics(loss, levels)(0, CLEAN), expected, atol=1e-3)


def test_disagreement_is_measured_all_over_the_inputs():
    class Half:
        """Members that disagree on negative inputs only."""

        def predict_logits(self, inputs):
            logits = np.zeros((len(inputs), 2, 2))
            logits[inputs[:, 0] < 0] = [[9.0, 0.0], [0.0, 9.0]]
            return logits

    inputs = np.sort(np.linspace(-1, 1, 1000))[:, None]
    assert transfer.disagreement(Half(), inputs, num=100) == pytest.approx(np.log(2) / 2, rel=0.05)
