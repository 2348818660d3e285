import keras
import numpy as np
import pytest

from end2_tf import cli, config, ensemble
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.ensemble import stacked
from end2_tf.placement import Placement

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def data():
    labels = np.arange(70) % 3
    inputs = (RNG.normal(size=(70, 2)) + 2 * labels[:, None]).astype(np.float32)
    examples = Examples(inputs, labels)
    return DataSet(examples, examples, examples, None, {}, ("a", "b", "c"))


def _member(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8, "relu")(inputs)))


def _train(data, seeds, checkpoint=None, epochs=4, **settings):
    members = [_member(seed) for seed in seeds]
    chosen = config.Ensemble(epochs=epochs, batch_size=16, optimizer=config.Optimizer(learning_rate=1e-2), **settings)
    histories = stacked.train(members, data, chosen, seeds=seeds, checkpoint=checkpoint)
    return [m.get_weights() for m in members], histories


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_a_member_does_not_depend_on_who_shares_its_stack(data, jitter):
    augmentation = config.Augmentation(jitter=jitter)
    together, _ = _train(data, [1, 2, 3], augmentation=augmentation)
    alone, _ = _train(data, [3], augmentation=augmentation)
    for a, b in zip(together[2], alone[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_many_members_are_two_stacks_and_each_is_as_if_it_were_one(data, monkeypatch, tmp_path):
    whole, histories = _train(data, [1, 2, 3, 4, 5])
    monkeypatch.setattr(stacked, "MANY", 5)
    made = []
    monkeypatch.setattr(stacked, "_Stack", lambda *args, own=stacked._Stack: made.append(own(*args)) or made[-1])
    halves, again = _train(data, [1, 2, 3, 4, 5], checkpoint=tmp_path / "c.npz")
    assert [stack.seeds for stack in made] == [[1, 2, 3], [4, 5]]
    for one, other in zip(whole, halves, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose([h[-1]["loss"] for h in histories], [h[-1]["loss"] for h in again], rtol=1e-5)
    resumed, _ = _train(data, [1, 2, 3, 4, 5], checkpoint=tmp_path / "c.npz")  # the checkpoint of all epochs
    for one, other in zip(resumed, halves, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_members_learn_and_differ(data):
    weights, histories = _train(data, [1, 2], epochs=20)
    assert all(h[-1]["loss"] < 0.8 * h[0]["loss"] for h in histories)
    assert not np.allclose(weights[0][0], weights[1][0])


def test_one_step_is_adams(data):
    """The first epoch in one batch against Keras' own fit from the same weights."""
    full = config.Ensemble(
        epochs=1, batch_size=70, optimizer=config.Optimizer(learning_rate=1e-2, schedule="constant", clip_norm=0.1)
    )
    ours, theirs = _member(5), _member(5)
    stacked.train([ours, _member(6)], data, full, seeds=[5, 6])
    theirs.compile(
        keras.optimizers.Adam(1e-2, global_clipnorm=0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    theirs.fit(data.train.inputs, data.train.labels, batch_size=70, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_interrupted_stack_goes_on(data, tmp_path, monkeypatch):
    expected, histories = _train(data, [1, 2])
    monkeypatch.setattr("end2_tf.checkpoint.SECONDS_BETWEEN", 0.0)

    def stop(epoch, epochs, row):
        if epoch == 2:
            raise KeyboardInterrupt

    path = tmp_path / "c.npz"
    settings = config.Ensemble(epochs=4, batch_size=16, optimizer=config.Optimizer(learning_rate=1e-2))
    with pytest.raises(KeyboardInterrupt):
        stacked.train([_member(1), _member(2)], data, settings, seeds=[1, 2], checkpoint=path, progress=stop)
    resumed, again = _train(data, [1, 2], checkpoint=path)
    assert again == histories
    for a, b in zip(expected, resumed, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_stack_is_averaged_member_by_member(data):
    average = config.Optimizer(learning_rate=1e-2, schedule="constant", average=0.9)
    together, alone = ([_member(seed) for seed in seeds] for seeds in ([1, 2], [2]))
    settings = config.Ensemble(epochs=10, batch_size=16, optimizer=average)
    stacked.train(together, data, settings, seeds=[1, 2])
    stacked.train(alone, data, settings, seeds=[2])
    last, _ = _train(data, [2], epochs=10)
    for a, b, c in zip(together[1].get_weights(), alone[0].get_weights(), last[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.abs(b - c).max() > 1e-3


def test_a_stack_that_was_killed_while_it_was_written_is_not_trained_again(data, tmp_path, monkeypatch):
    settings = config.Ensemble(
        backbone="mlp", options={"hidden": [8]}, num_members=3, epochs=2, batch_size=16, engine="stacked"
    )
    write = ensemble._write_member

    def killed(folder, index, *more):
        if index == 1:
            raise KeyboardInterrupt
        write(folder, index, *more)

    monkeypatch.setattr(ensemble, "_write_member", killed)
    with pytest.raises(KeyboardInterrupt):
        ensemble.train_stack(settings, data, tmp_path, [0, 1, 2], seed=0)
    first = (tmp_path / "member_000.keras").read_bytes()
    monkeypatch.setattr(ensemble, "_write_member", write)
    assert ensemble.missing(settings, tmp_path) == [1, 2]
    epochs = []
    ensemble.train_stack(settings, data, tmp_path, [0, 1, 2], seed=0, progress=lambda *row: epochs.append(row))
    assert not epochs
    assert ensemble.missing(settings, tmp_path) == []
    assert (tmp_path / "member_000.keras").read_bytes() == first
    assert not list(tmp_path.glob(".stack_*"))


# One stack; the second of two; and what one lacked.
@pytest.mark.parametrize("begun", [[0, 1, 2, 3, 4], [2, 3, 4], [3, 4]])
def test_interrupted_stacks_are_found_however_many_they_were(data, tmp_path, monkeypatch, begun):
    settings = config.Ensemble(backbone="mlp", options={"hidden": [4]}, num_members=5, epochs=4)
    absent = list(begun) if begun == [3, 4] else list(range(5))

    def stop(epoch, epochs, row):
        raise KeyboardInterrupt

    assert ensemble.num_begun(tmp_path, range(5), absent) is None
    with pytest.raises(KeyboardInterrupt):
        ensemble.train_stack(settings, data, tmp_path, begun, seed=0, progress=stop)
    assert ensemble.num_begun(tmp_path, range(5), absent) == (2 if begun == [2, 3, 4] else 1)


def test_members_that_another_job_has_trained_meanwhile_are_left_alone(data, tmp_path):
    settings = config.Ensemble(backbone="mlp", options={"hidden": [4]}, num_members=2, epochs=1)
    ensemble.train_stack(settings, data, tmp_path, [0, 1], seed=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ensemble.train_stack(settings, data, tmp_path, [0, 1], seed=0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("epochs", "members", "processes", "expected"), [(10**9, 6, 4, 4), (10**9, 3, 4, 3), (10**9, 6, 1, 1), (5, 6, 4, 1)]
)
def test_stacks_are_side_by_side_where_training_is_long(data, epochs, members, processes, expected):
    settings = config.Ensemble(backbone="mlp", options={"hidden": [8]}, epochs=epochs)
    assert ensemble.num_stacks(settings, data, members, processes) == expected


@pytest.mark.slow
def test_stacks_side_by_side_are_the_members_of_one(tmp_path, monkeypatch):
    changes = ("num_members=5", "epochs=3", "options.hidden=[16,16]")
    sets = ["--set=data.max_train=600", *(f"--set=ensemble.{change}" for change in changes)]
    command = ["main.py", "--experiment=spirals_mlp_end2", "--stage=ensemble", *sets]
    assert cli.main([*command, f"--workdir={tmp_path / 'one'}", "--jobs=1"]) == 0
    monkeypatch.setattr(ensemble, "WORTH_PROCESSES", 0.0)
    arguments = [*command, f"--workdir={tmp_path / 'two'}", "--jobs=2"]
    assert cli.main(arguments) == 0
    (one,), (two,) = ((tmp_path / name).glob("ensemble/*") for name in ("one", "two"))
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert len(names) == 11
    for name in (name for name in names if name.endswith(".keras")):
        first, second = (keras.saving.load_model(folder / name).get_weights() for folder in (one, two))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    asked = []
    monkeypatch.setattr(Placement, "do", lambda self, trainer, tasks, *more: asked.extend(map(str, tasks)) or 1 / 0)
    (two / "manifest.json").unlink()
    (two / "member_003.json").unlink()
    with pytest.raises(ZeroDivisionError):
        cli.main(arguments)
    assert asked == ["members 2 to 4"]  # the other stack is whole
