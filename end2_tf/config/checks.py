"""What one field alone can't say: fields that contradict each other, names without a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from end2_tf import registry
from end2_tf.config.fields import Data, Experiment, Method, Transfer
from end2_tf.errors import ConfigError, unknown

# In files' names, tables and pages.
_NAME = re.compile(r"[^\W_][\w.+: -]{0,99}")


def check(experiment: Experiment) -> None:
    """Raises ConfigError where two fields contradict each other, or a name has no file. Imports no TensorFlow."""
    registry.check("backbone", experiment.ensemble.backbone, "ensemble.backbone")
    if experiment.student.backbone is not None:
        registry.check("backbone", experiment.student.backbone, "student.backbone")
    _check_names("data.ood", "an OOD set", experiment.data.ood, ("test", "validation", "map"))
    _check_names("data.shifted", "a shifted set", experiment.data.shifted, ("test", "validation", "map"))
    for name, source in experiment.data.shifted.items():
        if experiment.data.ood.get(name, source) != source:
            raise ConfigError(
                f"data.shifted and data.ood have different sets under the name {name!r}. Give one of them another name."
            )
    if experiment.evaluation.split == "validation":
        _check_leaves_test_alone(experiment.data)
    _check_teacher(experiment)
    taught = experiment.transfer.num_members
    if taught is not None and not experiment.ensemble.is_brought and taught > experiment.ensemble.num_members:
        raise ConfigError(
            f"transfer.num_members is {taught}, but ensemble.num_members is {experiment.ensemble.num_members}. "
            "Allowed: at most that many, or none for all."
        )
    _check_names("methods", "a method", experiment.methods, ("bayes", "single", "ensemble", "teacher"))
    for name, method in experiment.methods.items():
        registry.check("loss", method.loss, f"methods.{name}.loss")
        if method.auxiliary and registry.is_on_labels(method.loss) and not registry.knows_outside(method.loss):
            raise ConfigError(
                f"methods.{name}.auxiliary is true, but its loss {method.loss!r} needs labels, which auxiliary data "
                f"don't have. Set methods.{name}.auxiliary=false."
            )
        if method.augmentation is not None and not registry.is_on_labels(method.loss):
            raise ConfigError(
                f"methods.{name}.augmentation is set, but its loss {method.loss!r} learns from members, on the views "
                "of the transfer set. Set transfer.augmentation instead."
            )
        if method.labels:
            _check_labels(name, method, experiment.transfer)
        if method.temperature_schedule == "anneal" and method.temperature_cycle == 0:
            raise ConfigError(
                f"methods.{name}.temperature_cycle is 0, so there is nothing to anneal over. Allowed: above 0, at most "
                f"1; or set methods.{name}.temperature_schedule=constant."
            )
    twice = [name for name in experiment.student.methods if experiment.student.methods.count(name) > 1]
    if twice:
        raise ConfigError(
            f"student.methods has {twice[0]!r} twice. Name each once; student.num_seeds=2 trains it twice."
        )
    for name in experiment.student.seeds_of:
        if name not in experiment.methods:
            raise ConfigError(unknown("student.seeds_of", name, "a method", experiment.methods))
    for name in experiment.student.methods:
        if name not in experiment.methods:
            raise ConfigError(
                unknown(
                    "student.methods",
                    name,
                    "a method",
                    experiment.methods,
                    f"Define it with --set methods.{name}.loss=…",
                )
            )
        if experiment.methods[name].auxiliary and experiment.data.auxiliary is None:
            raise ConfigError(
                f"student.methods has {name!r}, which needs auxiliary data, but data.auxiliary is none. "
                f"Set data.auxiliary=NAME, or leave {name!r} out of student.methods."
            )


def check_exported(experiment: Experiment) -> None:
    """Raises ConfigError where a run hasn't what it should export; asked only by who exports."""
    known = ("single", "ensemble", *experiment.student.methods)
    for name in experiment.export.models:
        if name not in known:
            raise ConfigError(unknown("export.models", name, "an exportable model", known))
    if not experiment.export.models:
        raise ConfigError(f"export.models is empty, so there is nothing to export. Allowed: {', '.join(known)}.")


def _check_leaves_test_alone(data: Data) -> None:
    """Refuses corrupted copies of the in-domain test split, alone or among several."""
    in_domain = data.name.partition(":")[0]  # whatever the version
    named = {f"data.ood.{name}": source for name, source in data.ood.items()}
    named |= {f"data.shifted.{name}": source for name, source in data.shifted.items()}
    for field, part in ((field, part) for field, source in named.items() for part in source.parts()):
        is_whole = part is named[field]
        how = "is" if is_whole else "has in it"
        said = f"{field} {how} the in-domain test split, corrupted, but evaluation.split is 'validation'."
        shows_test = part.name == "corrupted" and part.options.get("split", "test") == "test"
        if shows_test and any(of.name.partition(":")[0] == in_domain for of in part.parts()):
            where = f"{field}.options.split=validation" if is_whole else "split=validation there"
            raise ConfigError(f"{said} Set {where}, or leave it out.")
        if re.split("[/:]", part.name)[0] == f"{in_domain}_corrupted":  # TFDS's, of cifar10, mnist, imagenet2012
            raise ConfigError(f"{said} Leave it out, or take the source 'corrupted' with split=validation.")


def _check_labels(name: str, method: Method, transfer: Transfer) -> None:
    """Raises ConfigError where a true label can't be part of a method's target."""
    field = f"methods.{name}.labels"
    if registry.is_on_labels(method.loss):
        raise ConfigError(
            f"{field} is {method.labels:g}, but its loss {method.loss!r} has no other target. Set it to 0."
        )
    if method.temperature != 1:
        raise ConfigError(
            f"{field} is {method.labels:g} and methods.{name}.temperature {method.temperature:g}, but labels have no "
            f"temperature. Set {field}=0 or methods.{name}.temperature=1."
        )
    if transfer.mode == "online":
        raise ConfigError(
            f"{field} is {method.labels:g}, but transfer.mode is 'online', where targets are what members say alone. "
            "Set transfer.mode=views or clean."
        )


def _check_teacher(experiment: Experiment) -> None:
    """Raises ConfigError where the fields that say what the members are contradict each other."""
    settings, mode = experiment.ensemble, experiment.transfer.mode
    if settings.models is not None and settings.predictions is not None:
        raise ConfigError(
            f"ensemble.models is {settings.models!r} and ensemble.predictions is {settings.predictions!r}. Allowed: "
            "one of them. Leave the other out."
        )
    if settings.kind != "deep" and settings.is_brought:
        raise ConfigError(
            f"ensemble.kind is {settings.kind!r}, which is for training members, but the members are brought. Leave it "
            "out."
        )
    if settings.kind != "deep" and settings.engine == "stacked":
        raise ConfigError(
            f"ensemble.engine is 'stacked', but with ensemble.kind={settings.kind} one network is trained. Leave "
            "engine out."
        )
    if experiment.transfer.inputs != "all" and settings.held_out_fraction == 0:
        raise ConfigError(
            f"transfer.inputs is {experiment.transfer.inputs!r}, but ensemble.held_out_fraction is 0, so members see "
            "all of train. Set ensemble.held_out_fraction, for instance to 0.5, or transfer.inputs=all."
        )
    if settings.held_out_fraction and experiment.data.shard_rows is not None:
        raise ConfigError(
            f"ensemble.held_out_fraction is {settings.held_out_fraction:g}, but data.shard_rows keeps train in files, "
            "which aren't divided. Leave one of them out."
        )
    if settings.predictions is not None and mode != "clean":
        raise ConfigError(
            f"transfer.mode is {mode!r}, but ensemble.predictions are of inputs as they are. Set transfer.mode=clean; "
            "with ensemble.models members can be asked about others."
        )
    if experiment.student.start == "member" and (settings.predictions is not None or settings.kind == "dropout"):
        why = (
            "ensemble.predictions have no weights" if settings.predictions else "members of kind 'dropout' share theirs"
        )
        raise ConfigError(f"student.start is 'member', but {why}. Allowed: random. Leave student.start out.")


def _check_names(field: str, kind: str, names: Mapping[str, Any], reserved: tuple[str, ...]) -> None:
    """Refuses names that mean something else in results and files."""
    for name in names:
        if name in reserved or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{field} has {name[:100]!r}, which can't be the name of {kind}: {', '.join(reserved)} are taken, and "
                "names are up to 100 letters, digits, '_', '-', '.', '+', ':' or spaces, a letter or digit first. "
                "Choose another name."
            )
