"""What a study is: a grid of one experiment, one thing varied at a time, for choices made on validation data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic.dataclasses import dataclass

from end2_tf import config, registry
from end2_tf.config import Count, Experiment, Source
from end2_tf.errors import ConfigError, unknown

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


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Study:
    """A question to an experiment, and what is tried to answer it.

    Changes are field paths and values, as for `config.override`. Those of a variant come after `base`, those of
    `smoke` after the experiment's own of that name.
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

    @property
    def plain_variants(self) -> dict[str, dict[str, Any]]:
        """The variants with lists instead of tuples, and of dataclasses what isn't their default."""
        return _PLAIN.dump_python(self.variants, mode="json", exclude_defaults=True)


_PLAIN: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Any)  # dataclasses among changes become dicts


def find(name: str) -> Study:
    """Returns a study by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    known = registry.studies()
    if name not in known:
        raise ConfigError(unknown("--study", name, "a study", known, "See --study=list."))
    study = known[name]
    if not isinstance(study, Study):
        raise ConfigError(f"study {name!r} is no end2_tf.grid.Study. Change its file.")
    return study


def experiments(
    study: Study, *, smoke: bool = False, changes: Mapping[str, Any] | list[str] | None = None
) -> dict[str, Experiment]:
    """Returns a study's experiments by its variants' labels, in its order.

    Args:
        study: Which.
        smoke: Whether to make the one-minute versions.
        changes: More overrides, which come last.

    Raises:
        ConfigError: an override doesn't fit, a variant would be measured on test data, or there are no variants.
    """
    known = registry.experiments()
    if study.experiment not in known:
        raise ConfigError(unknown("a study's experiment", study.experiment, "an experiment", known, "See --list."))
    original = known[study.experiment]
    if not isinstance(original, Experiment):
        raise ConfigError(f"experiment {study.experiment!r} is no end2_tf.config.Experiment. Change its file.")
    if not study.variants:
        raise ConfigError(f"the study {study.title!r} has no variants. Give it at least one.")
    common = {
        "student.methods": study.methods,
        "student.num_seeds": study.num_seeds,
        "student.seeds_of": {},
        **study.base,
    }
    found = {}
    for label, own in study.variants.items():
        last = {**original.smoke, **study.smoke} if smoke else {}
        variant = config.override(original, _PLAIN.dump_python(_merged(common, own, last), mode="json"))
        variant = config.override(variant, changes or {})
        _check_unseen(label, original, variant)
        found[label] = variant
    return found


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
    if variant.data.auxiliary is not None:
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
