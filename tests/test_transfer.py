import dataclasses

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


def recorded_set(ensemble, data, settings, folder, seed=0, rows=None, statistics=()):
    parts = []
    places = [(folder / name, rows) for name in ("0", "1")]
    inputs = data.train.inputs, data.auxiliary.inputs
    for (place, _), views in zip(places, transfer.make_views(settings, *inputs, seed, *places), strict=True):
        transfer.record(ensemble, views, settings, place, statistics=statistics)
        details = transfer.details(settings, views, ensemble)
        assert details["logits"] == [len(views.inputs), 4, 3]
        parts.append(transfer.open_recording(place, details))
    return transfer.TransferSet(*parts)


def test_recorded_logits_are_the_members_own(tmp_path, ensemble, data):
    recorded = recorded_set(ensemble, data, config.Transfer(), tmp_path)
    expected = ensemble.predict_logits(data.train.inputs)
    np.testing.assert_allclose(recorded.train.logits[CLEAN].read(0), expected, atol=1e-6)
    expected = ensemble.predict_logits(data.auxiliary.inputs)
    np.testing.assert_allclose(recorded.auxiliary.logits[CLEAN].read(0), expected, atol=1e-6)


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
            np.testing.assert_allclose(getattr(recorded, name).logits[view].read(0), expected, atol=1e-5)
    assert not np.allclose(recorded.train.logits[0].read(0), recorded.train.logits[1].read(0))
    assert len(list(tmp_path.glob("*/inputs_*.npy"))) == (6 if keep_inputs else 0)
    total = sum(path.stat().st_size for path in tmp_path.glob("*/*.npy"))
    assert total == pytest.approx(
        sum(
            transfer.num_bytes(settings, part.augmentation, part.inputs.shape, part.inputs.dtype, 4 * 4 * 3)
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
    logits = np.concatenate([part.logits[CLEAN].read(0) for part in (recorded.train, recorded.auxiliary)])[ids]
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
    assert np.isfinite(recorded.train.logits[CLEAN].read(0)).all()


def test_the_first_members_of_a_recording_of_all(tmp_path, ensemble, data):
    whole = recorded_set(ensemble, data, config.Transfer(), tmp_path).train
    loss, levels = losses.DirichletNLL(targets="statistics"), np.array([1.0])
    part = dataclasses.replace(whole, num_members=2)
    alone = transfer.record_in_memory(ensemble.first(2), data.train.inputs, None).train
    expected = alone.statistics(loss, levels)(0, CLEAN)
    for _ in range(2):  # the second time from what the first one left on disk
        np.testing.assert_allclose(part.statistics(loss, levels)(0, CLEAN).read(0), expected, atol=1e-5)
        assert not np.allclose(whole.statistics(loss, levels)(0, CLEAN).read(0), expected, atol=1e-3)


def test_disagreement_is_measured_all_over_the_inputs():
    class Half:
        """Members that disagree on negative inputs only."""

        def predict_logits(self, inputs):
            logits = np.zeros((len(inputs), 2, 2))
            logits[inputs[:, 0] < 0] = [[9.0, 0.0], [0.0, 9.0]]
            return logits

    inputs = np.sort(np.linspace(-1, 1, 1000))[:, None]
    few = inputs[transfer.spread(inputs, 100)]
    assert len(few) == 100
    assert transfer.disagreement(Half(), few) == pytest.approx(np.log(2) / 2, rel=0.05)


def test_shards_say_what_one_file_says(tmp_path, ensemble, data):
    settings = config.Transfer(mode="views", num_views=2, augmentation=Augmentation(jitter=0.3), keep_inputs=True)
    whole, parts = (recorded_set(ensemble, data, settings, tmp_path / str(rows), 5, rows) for rows in (None, 3))
    found = sorted(path.relative_to(tmp_path / "3").as_posix() for path in (tmp_path / "3").rglob("*.npy"))
    assert len(found) == 2 * 2 * 7 + 3  # two views, each logits and inputs, of 20 examples in 7 files; 7 auxiliary in 3
    assert "0/view_001/00006.npy" in found
    assert "0/inputs_000/00000.npy" in found
    loss, ids = losses.MeanPrecision(targets="statistics"), np.asarray([19, 3, 25, 0, 3, 11, 20])
    one, other = (each.statistics(loss, np.ones(1), with_auxiliary=True)(0, 1, ids) for each in (whole, parts))
    np.testing.assert_array_equal(one, other)
    tables = [path.relative_to(tmp_path / "3") for path in (tmp_path / "3").rglob(".statistics/**/*.npy")]
    assert len(tables) == 2  # however small the shards of what members said are
    for rows in (None, 3):
        place = (tmp_path / str(rows) / "0", rows)
        views = transfer.make_views(settings, data.train.inputs * 0, None, 5, place)[0]  # so they are read, not made
        expected = transfer.make_views(settings, data.train.inputs, None, 5)[0].array(1)
        np.testing.assert_array_equal(views.rows_at(1, ids[ids < 20]), expected[ids[ids < 20]])


def test_an_interrupted_recording_goes_on_with_the_next_shard(tmp_path, ensemble, data):
    class Counting:
        num_members, num_classes, asked = 4, 3, 0

        def predict_logits(self, inputs):
            self.asked += len(inputs)
            if self.asked > 10:
                raise KeyboardInterrupt
            return ensemble.predict_logits(inputs)

    views = transfer.make_views(config.Transfer(), data.train.inputs, None, 0, (tmp_path, 4))[0]
    first, second = Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        transfer.record(first, views, config.Transfer(), tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    second.asked = -2  # twelve are left
    transfer.record(second, views, config.Transfer(), tmp_path)
    assert second.asked == 10
    assert len(list(tmp_path.rglob("*.npy"))) == 5


def test_statistics_alone_are_enough_and_dont_grow_with_the_members(tmp_path, ensemble, data):
    loss = losses.DirichletNLL(targets="statistics")
    kept = [(loss, 5.0, None), (loss, 1.0, None)]
    whole = recorded_set(ensemble, data, config.Transfer(), tmp_path / "logits")
    alone = recorded_set(
        ensemble, data, config.Transfer(keep="statistics"), tmp_path / "statistics", rows=6, statistics=kept
    )
    ids = np.arange(27)
    one, other = (each.statistics(loss, np.asarray([5.0, 1.0]), with_auxiliary=True) for each in (whole, alone))
    for level in range(2):
        np.testing.assert_allclose(one(level, CLEAN, ids), other(level, CLEAN, ids), rtol=1e-5)
    assert not alone.train.logits
    assert not list((tmp_path / "statistics").glob("0/clean*"))
    sizes = {num: transfer.said_bytes(config.Transfer(keep="statistics"), num, 3, kept) for num in (10, 1000)}
    assert sizes[10] == sizes[1000] == 2 * 4 * loss.statistics_size(3)
    with pytest.raises(
        DataError, match=r"no statistics for DirichletNLL at temperature 2, and .* transfer\.keep=logits"
    ):
        alone.statistics(loss, np.asarray([2.0]), with_auxiliary=False)(0, CLEAN, ids[:20])
