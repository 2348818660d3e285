"""What an experiment is: dataclasses with types, ranges and choices that stand once, here.

The same declarations serve `--set path.to.field=value`, `--describe`, the error messages and the tests that try every
wrong value. Nothing here imports TensorFlow.

    fields      the dataclasses
    checks      what one field alone can't say
    overrides   from and to plain values; field paths and command-line texts
    digests     of values
    faults      pydantic's complaints as one line of ours
"""

from end2_tf.config.checks import check, check_exported
from end2_tf.config.digests import digest
from end2_tf.config.faults import build
from end2_tf.config.fields import (
    OTHER_METHODS,
    Augmentation,
    Count,
    CountOrZero,
    Data,
    Ensemble,
    Evaluation,
    Expected,
    Experiment,
    Export,
    Figure,
    Fraction,
    Method,
    NonNegative,
    Optimizer,
    Positive,
    Published,
    ShareBelowOne,
    Source,
    Student,
    Transfer,
    default_methods,
    with_auxiliary,
)
from end2_tf.config.overrides import from_dict, override, to_dict

__all__ = [
    "OTHER_METHODS",
    "Augmentation",
    "Count",
    "CountOrZero",
    "Data",
    "Ensemble",
    "Evaluation",
    "Expected",
    "Experiment",
    "Export",
    "Figure",
    "Fraction",
    "Method",
    "NonNegative",
    "Optimizer",
    "Positive",
    "Published",
    "ShareBelowOne",
    "Source",
    "Student",
    "Transfer",
    "build",
    "check",
    "check_exported",
    "default_methods",
    "digest",
    "from_dict",
    "override",
    "to_dict",
    "with_auxiliary",
]
