"""Members and students as single tasks, above all those that train under bfloat16."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from end2_tf import config, ensemble, registry, training, transfer
from end2_tf.ensemble import stacked
from end2_tf.errors import ConfigError
from end2_tf.stages import Run
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Workdir, read_json

MIXED = (
    "ensemble.num_members=2",
    "ensemble.epochs=2",
    'ensemble.options={"hidden": [16, 16]}',
    "ensemble.mixed_precision=true",
    "student.epochs=2",
    "student.mixed_precision=true",
    "data.max_test=200",
    "data.max_train=400",
)


def _trainer(tmp_path, *changes):
    experiment = config.override(registry.experiments()["spirals_mlp_end2"], [*MIXED, *changes])
    trainer = Trainer(experiment, Workdir(tmp_path))
    trainer.plan.ensemble.begin()
    return trainer


@pytest.fixture
def bfloat16(monkeypatch):
    """A machine with bfloat16 units, as far as the package can tell."""
    monkeypatch.setattr(training, "has_bfloat16", lambda: True)


@pytest.fixture
def trained(monkeypatch):
    """Notes the networks that are trained."""
    found = []
    fit, train = training.fit, stacked.train

    def noting_fit(model, *args, **kwargs):
        found.append(model)
        return fit(model, *args, **kwargs)

    def noting_train(members, *args, prototype=None, **kwargs):
        found.append(prototype)
        return train(members, *args, prototype=prototype, **kwargs)

    monkeypatch.setattr(training, "fit", noting_fit)
    monkeypatch.setattr(stacked, "train", noting_train)
    return found


def _policies(model):
    return [layer.dtype_policy.name for layer in model._flatten_layers(include_self=False) if layer.weights]


def _logits(model, inputs):
    """What the network's weights come to in float64; bfloat16 is a hundred times further off than the tests allow."""
    x = inputs.astype(np.float64)
    layers = [layer for layer in model.layers if layer.weights or isinstance(layer, keras.layers.Normalization)]
    normalisation, *dense = layers
    x = (x - np.asarray(normalisation.mean)) / np.sqrt(np.asarray(normalisation.variance))
    for number, layer in enumerate(dense):
        x = x @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias, np.float64)
        x = np.maximum(x, 0) if number < len(dense) - 1 else x
    return x


def _assert_is_float32(model, inputs):
    assert set(_policies(model)) == {"float32"}
    assert all(w.dtype == "float32" for w in model.weights)
    got = np.asarray(model(inputs, training=False))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, _logits(model, inputs), atol=2e-5)


@pytest.mark.parametrize("engine", ["sequential", "stacked"])
def test_members_train_under_bfloat16_and_are_kept_in_float32(tmp_path, trained, bfloat16, engine):
    trainer = _trainer(tmp_path, f"ensemble.engine={engine}")
    settings, folder = trainer.experiment.ensemble, trainer.plan.ensemble.path
    if engine == "sequential":
        for index in range(2):
            trainer.train(Task("member", index), lambda *args: None)
        first = trained[0]
    else:
        ensemble.train_stack(settings, trainer.data, folder, [0, 1], seed=0)
        (first,) = trained
    assert {"mixed_bfloat16"} < set(_policies(first))  # the logits' layer is float32 on purpose
    assert first.layers[2].compute_dtype == "bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32"
    inputs = trainer.data.test.inputs
    for index in range(2):
        member = keras.saving.load_model(folder / f"member_{index:03d}.keras")
        _assert_is_float32(member, inputs)
        start = ensemble.build_member(settings, trainer.data, ensemble.seed_of(0, index))
        assert not np.allclose(member.layers[2].kernel, start.layers[2].kernel, atol=1e-3)  # it was trained
    if engine == "sequential":
        for saved, network in zip(
            keras.saving.load_model(folder / "member_000.keras").get_weights(), first.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(saved, network)
    logits = trainer.ensemble.predict_logits(inputs)
    np.testing.assert_allclose(logits[:, 1], _logits(member, inputs), atol=2e-5)
    assert trainer.ensemble.model.compute_dtype == "float32"


def test_bfloat16_members_are_other_networks(tmp_path, bfloat16):
    digests = set()
    for mixed in ("true", "false"):
        trainer = _trainer(tmp_path, "ensemble.engine=sequential", f"ensemble.mixed_precision={mixed}")
        trainer.train(Task("member", 0), lambda *args: None)
        digests.add(read_json(trainer.plan.ensemble.path / "member_000.json")["weights"])
    assert len(digests) == 2


def test_a_student_trains_under_bfloat16_and_is_published_in_float32(tmp_path, trained, bfloat16):
    trainer = _trainer(tmp_path)
    task, seen = Task("student", 0, "single_matched"), []
    trainer.train(task, lambda *report: seen.append(report))
    assert [report[:3] for report in seen] == [("training", 1, 2), ("training", 2, 2)]
    assert trained[0].layers[2].compute_dtype == "bfloat16"
    folder = trainer.artefact(task).path
    model = keras.saving.load_model(folder / "model.keras")
    _assert_is_float32(model.backbone, trainer.data.test.inputs)
    for saved, network in zip(model.backbone.get_weights(), trained[0].get_weights(), strict=True):
        np.testing.assert_array_equal(saved, network)
    outputs = model.predict(trainer.data.test.inputs, verbose=0)
    assert all(values.dtype == np.float32 for values in outputs.values())
    np.testing.assert_allclose(outputs["logits"], _logits(model.backbone, trainer.data.test.inputs), atol=2e-5)


def test_without_bfloat16_units_training_is_in_float32(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(training, "has_bfloat16", lambda: False)
    trainer = _trainer(tmp_path, "ensemble.engine=sequential")
    trainer.train(Task("member", 0), lambda *args: None)
    trainer.train(Task("student", 0, "single_matched"), lambda *args: None)
    assert [set(_policies(network)) for network in trained] == [{"float32"}, {"float32"}]


@pytest.mark.parametrize("slower", [0.4, 1.3, 12.0])
def test_bfloat16_is_used_where_it_is_not_much_slower(monkeypatch, slower):
    now = [0.0]

    def gradient(input, **kwargs):
        now[0] += slower if input.dtype == tf.bfloat16 else 1.0
        return input

    monkeypatch.setattr(tf.raw_ops, "Conv2DBackpropFilter", gradient)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert training.has_bfloat16.__wrapped__() == (slower < 2)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True), (None, False)])
def test_of_a_gpu_bfloat16_is_known_by_its_generation(monkeypatch, capability, expected):
    details = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    assert training.has_bfloat16.__wrapped__() == expected


def test_policy_is_put_back():
    def fail():
        with training.precision(True):
            assert keras.layers.Dense(2).compute_dtype == "bfloat16"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert keras.layers.Dense(2).compute_dtype == "float32"
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with training.precision(False):
            assert keras.layers.Dense(2).compute_dtype == "float32"
        assert keras.layers.Dense(2).compute_dtype == "bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_tasks_have_names():
    assert str(Task("member", 3)) == "member 3"
    assert str(Task("student", 1, "end2_aux")) == "student end2_aux, seed 1"
    assert str(Task("student", 1, "end2_aux", "4 views")) == "student end2_aux, seed 1 of '4 views'"


def _variant(root, *changes):
    return Trainer(config.override(registry.experiments()["spirals_mlp_end2"], [*MIXED, *changes]), root)


def test_who_only_trains_opens_no_test_sets(tmp_path):
    experiment = config.override(registry.experiments()["spirals_mlp_end2"], ["data.max_test=50", "data.max_train=60"])
    trainer, run = Trainer(experiment, Workdir(tmp_path)), Run("x", experiment, Workdir(tmp_path))
    assert not trainer.data.ood
    assert set(run.data.ood) == {"ring_410", "ring_500", "ring_800"}
    np.testing.assert_array_equal(trainer.data.train.inputs, run.data.train.inputs)
    np.testing.assert_array_equal(trainer.data.validation.inputs, run.data.validation.inputs)


def test_tasks_of_variants_are_done_by_their_trainers(tmp_path):
    root = Workdir(tmp_path)
    trainer = _variant(root)
    longer = _variant(root, "student.epochs=3")
    trainer.variants = {"longer": longer}
    task = Task("student", 0, "single_matched", "longer")
    assert trainer.artefact(task) is longer.plan.student("single_matched", 0)
    seen = []
    trainer.train(task, lambda *report: seen.append(report[:3]))
    assert seen[-1] == ("training", 3, 3)
    assert longer.plan.student("single_matched", 0).manifest() is not None
    assert trainer.plan.student("single_matched", 0).manifest() is None


def test_what_is_open_is_shared_where_it_is_the_same(tmp_path):
    root = Workdir(tmp_path)
    first = _variant(root)
    data, first.ensemble = first.data, object()
    _ = first.plan.prints
    same, other, seeded = (_variant(root, change) for change in ("student.epochs=9", "data.max_train=300", "seed=1"))
    for trainer in (same, other, seeded):
        trainer.borrow(first)
    assert same.data is data
    assert same.ensemble is first.ensemble
    assert same.plan.prints is first.plan.prints
    assert not {"data", "ensemble"} & set(vars(other))
    assert other.plan.prints != first.plan.prints
    assert not {"data", "ensemble"} & set(vars(seeded))
    same.forget()
    assert not {"data", "ensemble"} & set(vars(same))
    assert first.data is data


@pytest.mark.parametrize("mode", ["online", "clean"])
def test_a_student_learns_from_the_first_members_alone(tmp_path, mode):
    root, weights = Workdir(tmp_path), []
    for changes in (["transfer.num_members=1"], ["transfer.num_members=1", "ensemble.num_members=3"], []):
        changes = ["ensemble.num_members=2", f"transfer.mode={mode}", "transfer.augmentation.jitter=0", *changes]
        trainer = _variant(root, *changes, "student.mixed_precision=false", "ensemble.epochs=1")
        if trainer.plan.ensemble.manifest() is None:
            trainer.plan.ensemble.begin()
            number = trainer.experiment.ensemble.num_members
            for index in range(number):
                trainer.train(Task("member", index), lambda *args: None)
            trainer.plan.ensemble.finish()
        if mode == "clean" and trainer.plan.transfer.manifest() is None:
            recording, folder = trainer.plan.transfer, trainer.plan.transfer.begin()
            inside, _ = transfer.make_views(trainer.experiment.transfer, trainer.data.train.inputs, None, 0)
            transfer.record(trainer.ensemble, inside, trainer.experiment.transfer, folder)
            recording.finish(**transfer.details(trainer.experiment.transfer, inside, trainer.ensemble))
        task = Task("student", 0, "end")
        trainer.train(task, lambda *args: None)
        weights.append(keras.saving.load_model(trainer.artefact(task).path / "model.keras").get_weights())
    for one, again in zip(*weights[:2], strict=True):
        np.testing.assert_allclose(one, again, atol=1e-5)  # a third member changes nothing
    assert any(np.abs(one - other).max() > 1e-4 for one, other in zip(weights[0], weights[2], strict=True))


def test_a_method_can_change_options_of_its_students_network(tmp_path):
    plain = _trainer(tmp_path)
    trainer = _trainer(tmp_path, "methods.end2.options.hidden=[4]")
    sizes = {name: trainer.student_backbone(name).layers[2].units for name in ("end2", "end")}
    assert sizes == {"end2": 4, "end": 16}
    assert trainer.plan.student("end2", 0).digest != plain.plan.student("end2", 0).digest
    assert trainer.plan.student("end", 0).digest == plain.plan.student("end", 0).digest
    wrong = _trainer(tmp_path, "methods.end2.options.hiden=[4]")
    with pytest.raises(ConfigError, match=r"methods\.end2\.options.*Did you mean 'hidden'"):
        wrong.student_backbone("end2")
    own = _trainer(tmp_path, "methods.end2.options.hidden=[4]", "ensemble.models=members/*.keras")
    with pytest.raises(ConfigError, match="copies your members' layers"):
        own.student_backbone("end2")


@pytest.mark.parametrize("mode", ["float32", "bfloat16"])
def test_students_can_start_as_members(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(training, "has_bfloat16", lambda: mode == "bfloat16")
    trainer = _trainer(tmp_path, "student.start=member", "transfer.mode=online")
    for index in range(2):
        trainer.train(Task("member", index), lambda *args: None)
    trainer.plan.ensemble.finish()
    began, fit = [], training.fit

    def noting_fit(model, *args, **kwargs):
        began.append(model.get_weights())
        return fit(model, *args, **kwargs)

    monkeypatch.setattr(training, "fit", noting_fit)
    for method, seed in [("end2", 0), ("end2", 1), ("end2", 2), ("single_matched", 1)]:
        trainer.train(Task("student", seed, method), lambda *args: None)
    for weights, member in zip(began, (0, 1, 0, 1), strict=True):
        for got, want in zip(weights, trainer.ensemble.member(member).get_weights(), strict=True):
            np.testing.assert_array_equal(got, want)


def test_where_students_start_is_part_of_what_they_are(tmp_path):
    changes = [
        [],
        ["student.start=member"],
        ["student.start=member", "ensemble.epochs=3"],
        ["student.start=member", "transfer.num_members=1"],  # whose students start as members of those
    ]
    plans = [_trainer(tmp_path, *each).plan for each in changes]
    for method in ("end2", "single_matched"):
        assert len({plan.student(method, 0).digest for plan in plans}) == len(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["methods.end2.options.hidden=[4]"],
            r"student of methods\.end2 has .*: one of shape \(2, 4\) instead of \(2, 16\)",
        ),
        (["student.backbone=mlp", 'student.options={"hidden": [16]}'], r"one of shape \(16, 3\) instead of \(16, 16\)"),
        (['methods.end2={"loss": "hydra"}'], r"one of shape \(16, 6\) instead of \(16, 3\)"),
    ],
)
def test_students_that_cant_start_as_members(tmp_path, changes, message):
    trainer = _trainer(tmp_path, *changes, "student.start=member")
    with pytest.raises(ConfigError, match=message):
        trainer.check_start("end2", trainer.student_backbone("end2"))


HELD_OUT = ("ensemble.held_out_fraction=0.25", "data.max_train=403", "student.methods=end2", "ensemble.epochs=1")


@pytest.mark.parametrize("engine", ["stacked", "sequential"])
def test_members_are_trained_without_what_is_held_out(tmp_path, engine):
    """So other labels there change nothing in them."""
    weights = []
    for name in ("once", "again"):
        trainer = _trainer(tmp_path / name, *HELD_OUT, f"ensemble.engine={engine}", "ensemble.mixed_precision=false")
        if weights:
            _, held_out = trainer._divided
            held_out.labels[:] = (held_out.labels + 1) % 3
            index = {tuple(row): i for i, row in enumerate(trainer.data.train.inputs)}
            for row, label in zip(held_out.inputs, held_out.labels, strict=True):
                trainer.data.train.labels[index[tuple(row)]] = label
        assert len(trainer.members_data.train) == 302
        tasks = [Task("stack", 0, last=1)] if engine == "stacked" else [Task("member", 0), Task("member", 1)]
        for task in tasks:
            trainer.train(task, lambda *args: None)
        members = ensemble.open_members(trainer.plan.ensemble.path, 2)
        weights.append([w for i in range(2) for w in members.member(i).get_weights()])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_students_are_shown_the_inputs_that_are_asked_for(tmp_path):
    found = {}
    for inputs in ("all", "held_out", "seen"):
        trainer = _trainer(tmp_path, *HELD_OUT, f"transfer.inputs={inputs}")
        shown = trainer.shown
        ((_, views),) = trainer.views()
        np.testing.assert_array_equal(views.inputs, shown.inputs)
        found[inputs] = {(*row, label) for row, label in zip(shown.inputs.tolist(), shown.labels, strict=True)}
    assert found["held_out"] | found["seen"] == found["all"]
    assert not found["held_out"] & found["seen"]
    assert [len(found[inputs]) for inputs in ("all", "held_out", "seen")] == [403, 101, 302]
    labels = [label for *_, label in found["held_out"]]
    assert np.ptp(np.bincount(labels)) <= 1  # of classes of which there are as many
