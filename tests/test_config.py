import dataclasses
import typing

import pytest

from end2_tf import config, registry
from end2_tf.config import Source, overrides
from end2_tf.errors import ConfigError

FOG = {"kind": "fog", "severity": 1}


@pytest.fixture
def experiment():
    return registry.experiments()["spirals_mlp_end2"]


def test_every_experiment_is_valid_and_its_smoke_version_too():
    for name, experiment in registry.experiments().items():
        config.check(experiment)
        smoke = config.override(experiment, experiment.smoke)
        assert smoke != experiment, name


def test_round_trip_through_dict(experiment):
    assert config.from_dict(config.to_dict(experiment)) == experiment


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("student.epochs=3", ("student", "epochs"), 3),
        ("student.methods=end,end2", ("student", "methods"), ("end", "end2")),
        ("student.mixed_precision=True", ("student", "mixed_precision"), True),
        ("ensemble.mixed_precision=true", ("ensemble", "mixed_precision"), True),
        ("data.max_train=none", ("data", "max_train"), None),
        ("data.path=12", ("data", "path"), "12"),
        ("student.optimizer.learning_rate=1e-2", ("student", "optimizer", "learning_rate"), 0.01),
        ("methods.end2_nll.temperature=5", ("methods", "end2_nll", "temperature"), 5.0),
        ("ensemble.options.hidden=[8,8]", ("ensemble", "options", "hidden"), [8, 8]),
        ("data.auxiliary=cifar100", ("data", "auxiliary", "name"), "cifar100"),
    ],
)
def test_set_is_typed(experiment, text, path, value):
    found = config.override(experiment, [text])
    for name in path:
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_none_takes_out_what_has_a_name(experiment):
    names = set(experiment.data.ood)
    first = min(names)
    changed = config.override(experiment, [f"data.ood.{first}=none"])
    assert set(changed.data.ood) == names - {first}
    with pytest.raises(ConfigError, match=rf"data\.ood has 'nothing', which isn't a name\. .*{first}"):
        config.override(experiment, ["data.ood.nothing=none"])


def test_set_ood_by_names(experiment):
    changed = config.override(experiment, ["data.ood=svhn_cropped,mnist"])
    assert changed.data.ood == {n: config.Source(n) for n in ("svhn_cropped", "mnist")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student.epoch=3", "Did you mean 'epochs'"),
        ("studnt.epochs=3", "Did you mean 'student'"),
        ("student.epochs=-1", "student.epochs is -1. Allowed: at least 1"),
        ("student.epochs=many", "Allowed: a whole number"),
        ("student.epochs=2.5", "Allowed: a whole number"),
        ("student.epochs.x=3", "student.epochs has no fields"),
        ("student.epochs", "Write --set path.to.field=value"),
        ("student.mixed_precision=maybe", "Allowed: true or false"),
        ("ensemble.mixed_precision=7", "Allowed: true or false"),
        ("student.optimizer.schedule=foo", "'constant', 'cosine' or 'one_cycle'"),
        ("student.methods=edn", "Did you mean 'end'"),
        ("student.seeds_of.edn2=3", "Did you mean 'end2'"),
        ("student.seeds_of.end2=0", "student.seeds_of.end2 is 0"),
        ("methods.end2.loss=mean_precison", "Did you mean 'mean_precision'"),
        ("methods.end2_nll.temperature=0.5", "Allowed: at least 1"),
        ("methods.end2_nll.temperature_cycle=0", "nothing to anneal over"),
        ("ensemble.backbone=mpl", "Did you mean 'mlp'"),
        ("student.backbone=resnet", "isn't a backbone"),
        ("ensemble=3", "ensemble is 3"),
        ("data.validation_fraction=1", "Allowed: below 1"),
        ("data.auxiliary=none", "needs auxiliary data"),
        ("ensemble.optimizer.learning_rate=nan", "Allowed: a finite number"),
        ("seed=-1", "seed is -1"),
        ("student.epochs=true", "student.epochs is True. Allowed: a number"),
        ("data.ood.test.name=ring", "data.ood has 'test', which can't be the name of an OOD set"),
        ("data.shifted.test.name=ring", "data.shifted has 'test', which can't be the name of a shifted set"),
        ("data.shifted.ring_500.name=spirals", "different sets under the name 'ring_500'"),
        ("methods.ensemble.loss=mean_precision", "methods has 'ensemble', which can't be the name of a method"),
        ("student.methods=end2,end2", "has 'end2' twice"),
        ("methods.single_matched.auxiliary=true", "needs labels, which auxiliary data don't have"),
        ("methods.end2.augmentation.jitter=0.1", "learns from members, on the views of the transfer set"),
        ("methods.single_matched.labels=0.1", "its loss 'cross_entropy' has no other target"),
        ("methods.end2_nll.labels=0.1", "labels have no temperature"),
        ("ensemble.models=", "ensemble.models is ''"),
        ("methods.end2=5", "Allowed: fields and values"),
    ],
)
def test_wrong_values_are_one_line_that_helps(experiment, text, message):
    with pytest.raises(ConfigError) as caught:
        config.override(experiment, [text])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _numeric_fields(kind, path=()):
    for name, hint in typing.get_type_hints(kind).items():
        plain = overrides._without_none(hint)
        if dataclasses.is_dataclass(plain) and isinstance(plain, type):
            yield from _numeric_fields(plain, (*path, name))
        elif plain in (int, float):
            yield ".".join((*path, name))


@pytest.mark.parametrize("path", list(_numeric_fields(config.Experiment)))
@pytest.mark.parametrize("value", ["text", "nan", "-1e9", "[1]", "{}", "true"])
def test_every_number_refuses_what_is_none(experiment, path, value):
    with pytest.raises(ConfigError) as caught:
        config.override(experiment, [f"{path}={value}"])
    assert path in str(caught.value)


def test_digest_depends_on_values_only(experiment):
    again = config.from_dict(config.to_dict(experiment))
    assert config.digest(experiment.student) == config.digest(again.student)
    changed = config.override(experiment, ["student.epochs=3"])
    assert config.digest(experiment.student) != config.digest(changed.student)


def test_a_field_at_its_default_is_no_part_of_a_digest():
    """So that a field which a later version adds leaves what was trained before as it is."""
    nested = config.Ensemble(optimizer=config.Optimizer(learning_rate=0.5))
    assert config.digest(nested) == config.digest({"optimizer": {"learning_rate": 0.5}})
    assert config.digest([nested, {"a": nested}]) != config.digest([nested, {"a": config.Ensemble()}])


def test_a_student_cannot_learn_from_more_members_than_there_are(experiment):
    assert config.override(experiment, ["transfer.num_members=100"]).transfer.num_members == 100
    with pytest.raises(
        ConfigError, match=r"transfer\.num_members is 101, but ensemble\.num_members is 100\. Allowed: at"
    ):
        config.override(experiment, ["transfer.num_members=101"])
    config.override(experiment, ["transfer.num_members=101", "ensemble.models=*.keras"])  # who knows how many


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["transfer.inputs=seen"], r"transfer\.inputs is 'seen', but ensemble\.held_out_fraction is 0"),
        (
            ["ensemble.held_out_fraction=0.5", "data.shard_rows=100"],
            r"ensemble\.held_out_fraction is 0\.5, but data\.shard_rows keeps train in files",
        ),
    ],
)
def test_inputs_are_held_out_where_they_can_be(experiment, changes, message):
    with pytest.raises(ConfigError, match=message):
        config.override(experiment, changes)


@pytest.mark.parametrize("field", ["ood", "shifted"])
@pytest.mark.parametrize("of", ["spirals", {"name": "spirals", "options": {"noise": 0.4}}])
def test_on_validation_the_test_split_is_left_alone(experiment, field, of):
    fog = {"name": "corrupted", "options": {"of": of, "kind": "fog", "severity": 1}}
    held_out = {"name": "corrupted", "options": {**fog["options"], "split": "validation"}}
    elsewhere = {"name": "corrupted", "options": {**fog["options"], "of": "cifar10"}}
    config.override(experiment, {f"data.{field}": {"fog": fog}})
    changed = config.override(experiment, {"evaluation.split": "validation", f"data.{field}": {"fog": held_out}})
    assert changed.evaluation.split == "validation"
    config.override(changed, {f"data.{field}": {"fog": elsewhere}})
    with pytest.raises(
        ConfigError, match=rf"data\.{field}\.fog is the in-domain test split, corrupted, but .*Set data\."
    ):
        config.override(changed, {f"data.{field}": {"fog": fog}})
    catalogue = {"data.name": "cifar10", f"data.{field}": {"fog": {"name": "cifar10_corrupted/fog_1"}}}
    config.override(experiment, catalogue)
    with pytest.raises(
        ConfigError, match=rf"data\.{field}\.fog is the in-domain test split, corrupted, .*take the source 'corrupted'"
    ):
        config.override(changed, catalogue)


@pytest.mark.parametrize("field", ["ood", "shifted"])
@pytest.mark.parametrize(
    ("data", "source", "message"),
    [
        (
            "cifar10:3.0.2",
            Source("corrupted", {"of": "cifar10", **FOG}),
            r"x is .*Set data\.\w+\.x\.options\.split=val",
        ),
        ("cifar10", Source("corrupted", {"of": {"name": "cifar10:3.0.2"}, **FOG}), "x is the in-domain test split"),
        (
            "cifar10",
            Source("corrupted", {"of": {"name": "several", "options": {"of": ["cifar10"]}}, **FOG}),
            "x is the",
        ),
        (
            "cifar10",
            Source("several", {"of": ["mnist", {"name": "corrupted", "options": {"of": "cifar10", **FOG}}]}),
            "x has in it the in-domain test split, corrupted, .*Set split=validation there",
        ),
        ("cifar10:3.0.2", Source("cifar10_corrupted:1.0.0"), r"x is .*Leave it out, or take the source 'corrupted'"),
        (
            "mnist",
            Source("several", {"of": ["mnist_corrupted/fog"]}),
            "x has in it the in-domain test split, corrupted",
        ),
    ],
)
def test_on_validation_the_test_split_is_left_alone_among_several_and_in_any_version(
    experiment, field, data, source, message
):
    changes = {"data.name": data, "data.options": {}, f"data.{field}": {"x": source}}
    config.override(experiment, changes)
    on_validation = {"evaluation.split": "validation", **changes}
    with pytest.raises(ConfigError, match=message):
        config.override(experiment, on_validation)
    config.override(experiment, {**on_validation, "data.name": "cifar100"})


def test_unknown_splits_and_taken_names(experiment):
    with pytest.raises(ConfigError, match=r"evaluation\.split is 'tset'\. Allowed: 'test' or 'validation'"):
        config.override(experiment, ["evaluation.split=tset"])
    with pytest.raises(ConfigError, match=r"data\.ood has 'validation'"):
        config.override(experiment, ["data.ood.validation.name=ring"])


def test_labels_need_recorded_members(experiment):
    with pytest.raises(ConfigError, match=r"methods\.end2\.labels is 0\.1, but transfer\.mode is 'online'"):
        config.override(experiment, ["transfer.mode=online", "methods.end2.labels=0.1"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["ensemble.predictions=said.npz", "transfer.mode=clean"], r"ensemble\.predictions have no weights"),
        (["ensemble.kind=dropout", "ensemble.options.dropout=0.3"], "members of kind 'dropout' share theirs"),
    ],
)
def test_students_start_as_members_that_have_weights_of_their_own(experiment, changes, why):
    config.override(experiment, changes)
    with pytest.raises(ConfigError, match=rf"student\.start is 'member', but {why}\. Allowed: random\. "):
        config.override(experiment, [*changes, "student.start=member"])


def test_no_methods_at_all(experiment):
    for text in ("student.methods=", "student.methods=none"):
        assert config.override(experiment, [text]).student.methods == ()
