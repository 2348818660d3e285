import numpy as np
import pytest

from end2_tf.config import Augmentation
from end2_tf.data import pipeline
from end2_tf.data.examples import Examples
from end2_tf.data.pipeline import Batches, Order, Share, label_targets
from end2_tf.data.views import CLEAN, Views
from end2_tf.errors import ConfigError


def _images(num=10):
    return np.arange(num * 8 * 8, dtype=np.uint8).reshape(num, 8, 8, 1)


def test_an_epoch_shows_every_example_once_in_a_new_order():
    order = Order(num_examples=10, batch_size=4, seed=3)
    epochs = [np.concatenate([order.batch(e * 3 + i) for i in range(3)]) for e in range(2)]
    assert order.steps_per_epoch == 3
    assert len(order.batch(2)) == 2  # the short last batch
    for ids in epochs:
        assert sorted(ids) == list(range(10))
    assert not np.array_equal(*epochs)
    assert not np.array_equal(epochs[0], np.concatenate([Order(10, 4, seed=4).batch(i) for i in range(3)]))


@pytest.mark.parametrize(("share", "expected"), [(0.5, 4), (0.25, 1), (0.75, 12), (0.01, 1)])
def test_auxiliary_share_of_a_batch(share, expected):
    order = Order(10, 4, seed=0, num_auxiliary=7, auxiliary_share=share)
    ids = order.batch(0)
    assert (ids >= 10).sum() == expected
    assert (ids < 10).sum() == 4


def test_auxiliary_inputs_are_all_used_before_any_again():
    order = Order(10, 4, seed=0, num_auxiliary=7, auxiliary_share=0.5)
    shown = np.concatenate([b[b >= 10] for b in map(order.batch, range(7))]) - 10
    for start in range(0, 28, 7):
        assert sorted(shown[start : start + 7]) == list(range(7))


def _collect(batches, num_steps, first_step=0, **share):
    return [[part.numpy() for part in each] for each in batches.dataset(first_step, num_steps, **share)]


def test_resuming_at_a_step_gives_the_same_batches():
    augmentation = Augmentation(flip=True, shift=2, rotation=10, mixup=0.5)
    examples, auxiliary = Examples(_images(), None), Examples(_images(6), None)
    order = Order(10, 4, seed=1, num_auxiliary=6, auxiliary_share=0.5)

    def run(first):
        views = Views(augmentation, examples.inputs, 5)
        extra = Views(Augmentation(invert=0.5, mixup=0.5), auxiliary.inputs, 5, partners=examples.inputs)
        look_up = lambda epoch, view, ids: ids.astype(np.float32)
        return _collect(Batches(views, order, look_up, auxiliary=extra), 9, first)

    whole, rest = run(0), run(4)
    assert len(whole) == 9
    for before, after in zip(whole[4:], rest, strict=True):
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    assert whole[0][0].dtype == np.uint8
    assert [float(size) for *_, size, _ in whole] == [8, 8, 6] * 3
    assert [int(epoch) for *_, epoch in whole] == [0] * 3 + [1] * 3 + [2] * 3


@pytest.mark.parametrize("num", [3, 8, 21, 24])  # fewer than a batch, one, some and a rest, some
@pytest.mark.parametrize("most", [1, 2, 32])
def test_steps_made_in_one_call_are_those_made_alone(monkeypatch, num, most):
    monkeypatch.setattr(pipeline, "MAX_STEPS", most)
    order = Order(num, 8, 0, num_auxiliary=3, auxiliary_share=0.2)
    views = [Views(Augmentation(flip=True, shift=1), _images(size), seed) for seed, size in enumerate((num, 3))]
    asked = []

    def targets(epoch, view, ids):
        asked.append(len(ids))
        return ids + 100 * view

    batches = Batches(views[0], order, targets, auxiliary=views[1], num_views=2)
    total = 3 * order.steps_per_epoch
    for first in range(total):
        asked.clear()
        made = _collect(batches, total, first)
        assert most == 1 or len(asked) <= 1 + 2 * (total // order.steps_per_epoch) * -(-order.steps_per_epoch // most)
        assert len(made) == total - first
        for step, (inputs, found, weights, size, epoch) in enumerate(made, first):
            expected = batches.arrays(step)
            np.testing.assert_array_equal(inputs, expected[0])
            np.testing.assert_array_equal(found, expected[1])
            assert weights.shape == found.shape
            assert (weights == 1).all()
            assert (size, epoch) == (len(found), step // order.steps_per_epoch)


@pytest.mark.parametrize("total", [2, 3])
def test_replicas_share_each_batch(total):
    images, auxiliary = _images(), _images(3) + 100
    order = Order(9, 4, 0, num_auxiliary=3, auxiliary_share=0.2)  # 4 + 1, 4 + 1, 1 + 1 examples
    extra = Views(Augmentation(), auxiliary, 0)
    batches = Batches(Views(Augmentation(), images[:9], 0), order, lambda e, v, ids: ids, auxiliary=extra)
    whole = _collect(batches, 6)
    parts = [_collect(batches, 6, share=Share(replica, 1, total)) for replica in range(total)]
    together = _collect(batches, 6, share=Share(0, total, total))  # of one process, in turn
    for step, (inputs, ids, weights, size, _) in enumerate(whole):
        mine = [each[step] for each in parts]
        for a, b in zip(together[step * total : (step + 1) * total], mine, strict=True):
            np.testing.assert_array_equal(a[1], b[1])
        counted = [(x[w > 0], y[w > 0]) for x, y, w, _, _ in mine]
        assert sorted(np.concatenate([y for _, y in counted])) == sorted(ids)
        for x, y in counted:
            np.testing.assert_array_equal(x, inputs[np.asarray([list(ids).index(i) for i in y], int)])
        assert {float(s) for *_, s, _ in mine} == {float(size)} == {len(ids)} == {weights.sum()}
        assert all(len(y) for _, y, *_ in mine)  # also where there are fewer examples than replicas


def test_a_digest_tells_batches_apart():
    batches = Batches(Views(Augmentation(), _images(), 0), Order(10, 4, 0), lambda e, v, ids: ids)
    digests = [batches.digest(step) for step in range(6)]
    assert len(set(digests)) == 6
    assert batches.digest(2) == digests[2]


def test_targets_get_the_view_that_the_inputs_show():
    examples = Examples(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), None)
    views = Views(Augmentation(jitter=0.1), examples.inputs, 7)
    seen = []

    def look_up(epoch, view, ids):
        seen.append((epoch, view))
        return Views(views.augmentation, examples.inputs, 7).array(view)[ids]

    for x, y, *_ in _collect(Batches(views, Order(6, 3, 0), look_up, num_views=3), 8):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert set(seen) >= {(0, 0), (1, 1), (2, 2), (3, 0)}


def test_auxiliary_inputs_have_an_augmentation_of_their_own():
    images, auxiliary = _images(), _images(3) + 100
    order = Order(10, 10, 0, num_auxiliary=3, auxiliary_share=0.25)
    views = Views(Augmentation(shift=3), images, 0)
    ids_as_targets = lambda e, v, ids: ids
    x, ids = _collect(Batches(views, order, ids_as_targets, auxiliary=Views(Augmentation(), auxiliary, 0)), 1)[0][:2]
    np.testing.assert_array_equal(x[ids >= 10], auxiliary[ids[ids >= 10] - 10])
    assert not np.array_equal(x[ids < 10], images[ids[ids < 10]])
    other = Views(Augmentation(invert=1.0), auxiliary, 0)
    x, ids = _collect(Batches(views, order, ids_as_targets, auxiliary=other), 1)[0][:2]
    np.testing.assert_array_equal(x[ids >= 10], 255 - auxiliary[ids[ids >= 10] - 10])


def test_clean_view_changes_nothing():
    views = Views(Augmentation(flip=True, shift=2, mixup=1.0), _images(), 0)
    np.testing.assert_array_equal(views.array(CLEAN), _images())


def test_a_mixture_is_of_two_inputs_in_their_views():
    images = _images()
    plain = Views(Augmentation(shift=2), images, 4).array(3).astype(float)
    views = Views(Augmentation(shift=2, mixup=0.7), images, 4)
    partners, weights = views.mixture(3)
    weights = weights[:, None, None, None]
    np.testing.assert_allclose(views.array(3), weights * plain + (1 - weights) * plain[partners], atol=0.501)
    assert 0 < (weights < 1).sum() < 10
    outside = Views(Augmentation(mixup=1.0), _images(4), 4, partners=images)
    partners, weights = outside.mixture(0)
    weights = weights[:, None, None, None]
    np.testing.assert_allclose(outside.array(0), weights * _images(4) + (1 - weights) * images[partners], atol=0.501)


def test_a_view_can_leave_a_share_of_the_inputs_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (400, 6, 6, 1)).astype(np.uint8)
    views = Views(Augmentation(invert=1.0, shift=1.5, mixup=0.5, share=0.6), images, 4)
    same = (views.array(3) == images).all((1, 2, 3))
    assert same.mean() == pytest.approx(0.4, abs=0.08)
    _, weights = views.mixture(3)
    assert (weights[same] == 1).all()
    assert (weights < 1).mean() == pytest.approx(0.3, abs=0.08)
    whole = Views(Augmentation(invert=1.0, shift=1.5, mixup=0.5), images, 4)
    alone = weights == 1
    np.testing.assert_array_equal(views.array(3)[alone & ~same], whole.array(3)[alone & ~same])
    other = (views.array(2) == images).all((1, 2, 3))
    assert (other != same).any()
    assert np.shares_memory(Views(Augmentation(shift=2, share=0.0), images, 4).array(1), images)


def test_labels_are_mixed_as_inputs_are():
    images, labels = _images(), np.arange(10) % 3
    views = Views(Augmentation(mixup=0.7), images, 4)
    partners, weights = views.mixture(2)
    rows = label_targets(labels, views, 3)(2, 2, np.arange(10))
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows[np.arange(10), labels], np.where(labels == labels[partners], 1, weights), rtol=1e-6)
    np.testing.assert_array_equal(
        label_targets(labels, Views(Augmentation(), images, 0), 3)(0, 0, np.arange(4)), labels[:4]
    )


def test_auxiliary_inputs_have_no_label():
    images, labels, ids = _images(), np.arange(10) % 3, np.asarray([4, 10, 0, 13])
    plain = label_targets(labels, Views(Augmentation(), images, 0), 3)(0, 0, ids)
    np.testing.assert_array_equal(plain, [labels[4], -1, labels[0], -1])
    views = Views(Augmentation(mixup=0.7), images, 4)
    rows = label_targets(labels, views, 3)(2, 2, ids)
    assert not rows[[1, 3]].any()
    np.testing.assert_array_equal(rows[[0, 2]], label_targets(labels, views, 3)(2, 2, np.asarray([4, 0])))


def test_views_on_disk_are_read(tmp_path):
    views = Views(Augmentation(flip=True), _images(), 0, folder=tmp_path)
    views.kept(5).write(0, _images() * 0)
    assert not views.array(5).any()
    assert views.array(6).any()


def test_augmentation_must_fit_the_inputs():
    with pytest.raises(ConfigError, match=r"jitter is 0\.1, but the inputs are images"):
        Views(Augmentation(jitter=0.1), _images(), 0)
    with pytest.raises(ConfigError, match="the inputs aren't images"):
        Views(Augmentation(flip=True), np.zeros((3, 2), np.float32), 0)
