import dataclasses
import typing

import pytest

from end2_tf import config, registry
from end2_tf.errors import ConfigError


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
        ("student.optimizer.schedule=foo", "'constant', 'cosine' or 'one_cycle'"),
        ("student.methods=edn", "Did you mean 'end'"),
        ("student.methods=", "student.methods is empty"),
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
        ("methods.ensemble.loss=mean_precision", "methods has 'ensemble', which can't be the name of a method"),
        ("student.methods=end2,end2", "has 'end2' twice"),
        ("methods.single_matched.auxiliary=true", "needs labels, which auxiliary data don't have"),
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
        plain = config._without_none(hint)
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
