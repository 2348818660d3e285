"""What a study is: a grid of one experiment, one thing varied at a time, for choices made on validation data.

A `Study` names its experiment; a `Template` is made into one for whatever experiment it is asked of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from pydantic.dataclasses import dataclass

from end2_tf import config, registry
from end2_tf.config import Count, Experiment, Source
from end2_tf.errors import ConfigError, unknown

ANY_EXPERIMENT = "of any experiment, with --experiment=NAME"

Changes = Mapping[str, Any] | list[str]  # as `config.override` takes them

COLUMNS = (
    "error",
    "nll",
    "kl_to_ensemble",
    "prr",
    "ece",
    "knowledge_rank_correlation",
    "knowledge_mean_ratio",
    "ood_auroc_total",
    "ood_auroc_knowledge",
)


_FREE = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True, config=_FREE)
class Axis:
    """The quantity that a study varies: its picture has it from left to right."""

    label: str  # with its unit
    positions: dict[str, float]  # label of a variant → its value
    is_log: bool = False  # whether equal ratios, not differences, are equally far apart


@dataclass(frozen=True, config=_FREE)
class Study:
    """A question to an experiment, and what is tried to answer it.

    Changes are field paths and values, as for `config.override`. Those of a variant come after `base`, those of
    `smoke` after the experiment's own of that name; `experiments` says in which order all are made.
    """

    title: str
    question: str  # in one sentence
    experiment: str
    methods: tuple[str, ...]  # that every variant's students are trained by, unless it sets student.methods
    variants: dict[str, dict[str, Any]]  # label → changes
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_seeds: Count = 1
    columns: tuple[str, ...] = COLUMNS  # metrics of the tables; those that begin with ood_ are given for each OOD set
    smoke: dict[str, Any] = dataclasses.field(default_factory=dict)
    axis: Axis | None = None  # without one, the variants are categories
    reference: str = ""  # what the paper found, for the page
    is_made: bool = False  # of a template, for an experiment as it is after smoke and --set

    @property
    def plain_variants(self) -> dict[str, dict[str, Any]]:
        """The variants with lists instead of tuples, and of dataclasses what isn't their default."""
        return _PLAIN.dump_python(self.variants, mode="json", exclude_defaults=True)

    @property
    def plain_base(self) -> dict[str, Any]:
        """`base` in the same form."""
        return _PLAIN.dump_python(self.base, mode="json", exclude_defaults=True)


@dataclass(frozen=True, config=_FREE)
class Template:
    """A question that can be put to any experiment."""

    question: str  # in one sentence
    make: Callable[[str, Experiment], Study]  # of an experiment's name and its values


def make(name: str, experiment: str | None, *, smoke: bool = False, changes: Changes | None = None) -> Study:
    """Returns a study by its name; of a template, the one of the experiment given.

    Args:
        name: Of the study.
        experiment: Which a template's variants are made for, as it is after its `smoke` and `changes`.
        smoke: Whether the one-minute version is meant.
        changes: Overrides of the experiment.

    Raises:
        ConfigError: there is none of that name, the experiment is missing, unknown or not to be chosen, or has nothing
            that the study could vary.
    """
    found = find(name)
    if isinstance(found, Study):
        if experiment is not None:
            raise ConfigError(
                f"--study and --experiment were both given, but {name!r} is a study of {found.experiment!r} alone. "
                "Leave --experiment out."
            )
        return found
    if experiment is None:
        raise ConfigError(
            f"--study={name} can be asked of any experiment, but --experiment is missing. Experiments: "
            f"{', '.join(sorted(registry.experiments()))}."
        )
    original = _original(experiment, "--experiment")
    start = config.override(config.override(original, original.smoke if smoke else {}), changes or {})
    return dataclasses.replace(found.make(experiment, start), is_made=True)


_PLAIN: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Any)  # dataclasses among changes become dicts


def find(name: str) -> Study | Template:
    """Returns a study or a template by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    known = registry.studies()
    if name not in known:
        raise ConfigError(unknown("--study", name, "a study", known, "See --study=list."))
    study = known[name]
    if not isinstance(study, Study | Template):
        raise ConfigError(f"study {name!r} is no end2_tf.grid.Study or Template. Change its file.")
    return study


def _original(name: str, field: str) -> Experiment:
    known = registry.experiments()
    if name not in known:
        raise ConfigError(unknown(field, name, "an experiment", known, "See --list."))
    original = known[name]
    if not isinstance(original, Experiment):
        raise ConfigError(f"experiment {name!r} is no end2_tf.config.Experiment. Change its file.")
    return original


def experiments(study: Study, *, smoke: bool = False, changes: Changes | None = None) -> dict[str, Experiment]:
    """Returns a study's experiments by its variants' labels, in its order.

    What comes later counts: what all variants have in common, a variant's own changes, `smoke`, `changes`. Where the
    study was made for its experiment, the variants fit a small or changed one too, and come last.

    Args:
        study: Which.
        smoke: Whether to make the one-minute versions.
        changes: More overrides.

    Raises:
        ConfigError: an override doesn't fit, a variant would be measured on test data, there are no variants, or none
            is left of what they vary.
    """
    original = _original(study.experiment, "a study's experiment")
    if not study.variants:
        raise ConfigError(f"the study {study.title!r} has no variants. Give it at least one.")
    common = {
        "student.methods": study.methods,
        "student.num_seeds": study.num_seeds,
        "student.seeds_of": {},
        **study.base,
    }
    _check_not_varied(study, changes or {})
    small, own_small = (original.smoke, study.smoke) if smoke else ({}, {})
    found = {}
    for label, own in study.variants.items():
        first, last = ((small, common, own_small), own) if study.is_made else ((common, own, small, own_small), {})
        variant = config.override(original, _plain(_merged(*first)))
        variant = config.override(config.override(variant, changes or {}), _plain(last))
        _check_unseen(label, original, variant)
        found[label] = variant
    if study.is_made:
        _check_different(study, found)
    return found


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    return _PLAIN.dump_python(dict(changes), mode="json")


def _check_not_varied(study: Study, changes: Changes) -> None:
    """Raises ConfigError where of a change and a variant's own, which is of the same field, one would be lost."""
    varied = {path for own in study.variants.values() for path in own}
    for change in changes:
        path = change.partition("=")[0].strip()
        # A part of a field may be changed after the whole, not before; variants made for an experiment come last.
        if any(_is_in(path, other) if study.is_made else _is_in(other, path) for other in varied):
            raise ConfigError(f"--set has {change!r}, but {path} is what the study varies. Leave it out.")


def _is_in(path: str, field: str) -> bool:
    return path == field or path.startswith(f"{field}.")


def _check_different(study: Study, found: Mapping[str, Experiment]) -> None:
    """Raises ConfigError where two variants train the same students: by none of the methods that they differ in."""
    seen: dict[str, str] = {}
    for label, each in found.items():
        used = {name: each.methods[name] for name in each.student.methods}
        digest = config.digest(dataclasses.replace(each, methods=used, smoke={}))
        if digest in seen:
            raise ConfigError(
                f"student.methods is {', '.join(used)}, by which the variants {seen[digest]!r} and {label!r} are the "
                f"same. Allowed: at least one of {', '.join(study.methods)}, or leave it out."
            )
        seen[digest] = label


def _merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all changes in the order of their parts: one that comes again counts where it comes last."""
    merged: dict[str, Any] = {}
    for part in parts:
        for path, value in part.items():
            merged.pop(path, None)
            merged[path] = value
    return merged


def _check_unseen(label: str, original: Experiment, variant: Experiment) -> None:
    """Raises ConfigError where a variant would look at what the experiment is judged by in the end."""
    if variant.evaluation.split != "validation":
        raise ConfigError(
            f"variant {label!r} has evaluation.split {variant.evaluation.split!r}, but a study is for choosing, which "
            "test data mustn't take part in. Set evaluation.split=validation."
        )
    tests = [source for named in (original.data.ood, original.data.shifted) for source in named.values()]
    fields = {f"data.ood.{name}": source for name, source in variant.data.ood.items()}
    fields |= {f"data.shifted.{name}": source for name, source in variant.data.shifted.items()}
    # An experiment's own auxiliary set may share a name with a test set, whose split is another: so is its protocol.
    if variant.data.auxiliary is not None and variant.data.auxiliary != original.data.auxiliary:
        fields["data.auxiliary"] = variant.data.auxiliary
    for field, source in fields.items():
        if any(_is_same(part, test) for part in source.parts() for test in tests):
            raise ConfigError(
                f"variant {label!r} has {field} {source.name!r}, a test set of the experiment, which mustn't take part "
                "in choosing. Name another set."
            )


def _is_same(one: Source, other: Source) -> bool:
    """Returns whether two sources are one: sets of TFDS by their name, made ones by their options too."""
    if one.name in registry.names("data source"):
        return one == other
    return one.name.partition(":")[0] == other.name.partition(":")[0]
