import numpy as np
import pytest

from end2_tf.config import Augmentation
from end2_tf.data.examples import Examples
from end2_tf.data.pipeline import Order, batches
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


def _collect(pipeline):
    return [(x.numpy(), y.numpy()) for x, y in pipeline]


def test_resuming_at_a_step_gives_the_same_batches():
    augmentation = Augmentation(flip=True, shift=2, rotation=10)
    examples, auxiliary = Examples(_images(), None), Examples(_images(6), None)
    order = Order(10, 4, seed=1, num_auxiliary=6, auxiliary_share=0.5)

    def run(first):
        views = Views(augmentation, examples.inputs, 5)
        look_up = lambda epoch, view, ids: ids.astype(np.float32)
        return _collect(
            batches(examples, order, look_up, views=views, num_steps=9, first_step=first, auxiliary=auxiliary)
        )

    whole, rest = run(0), run(4)
    assert len(whole) == 9
    for (x, y), (x2, y2) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
        assert x.dtype == np.float32


def test_targets_get_the_view_that_the_inputs_show():
    examples = Examples(np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), None)
    views = Views(Augmentation(jitter=0.1), examples.inputs, 7)
    seen = []

    def look_up(epoch, view, ids):
        seen.append((epoch, view))
        return examples.inputs[ids] + views.of(view, ids)

    for x, y in batches(examples, Order(6, 3, 0), look_up, views=views, num_steps=8, num_views=3):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    assert set(seen) >= {(0, 0), (1, 1), (2, 2), (3, 0)}


def test_auxiliary_inputs_are_not_augmented():
    examples, auxiliary = Examples(_images(), None), Examples(_images(3) + 100, None)
    views = Views(Augmentation(shift=3), examples.inputs, 0)
    order = Order(10, 10, 0, num_auxiliary=3, auxiliary_share=0.25)
    pipeline = batches(examples, order, lambda e, v, ids: ids, views=views, num_steps=1, auxiliary=auxiliary)
    x, ids = _collect(pipeline)[0]
    np.testing.assert_array_equal(x[ids >= 10], auxiliary.inputs[ids[ids >= 10] - 10])
    assert not np.array_equal(x[ids < 10], examples.inputs[ids[ids < 10]])


def test_clean_view_changes_nothing():
    views = Views(Augmentation(flip=True, shift=2), _images(), 0)
    changes = views.of(CLEAN, np.arange(10))
    np.testing.assert_array_equal(views.apply(_images(), changes).numpy(), _images())


def test_augmentation_must_fit_the_inputs():
    with pytest.raises(ConfigError, match=r"jitter is 0\.1, but the inputs are images"):
        Views(Augmentation(jitter=0.1), _images(), 0)
    with pytest.raises(ConfigError, match="the inputs aren't images"):
        Views(Augmentation(flip=True), np.zeros((3, 2), np.float32), 0)
