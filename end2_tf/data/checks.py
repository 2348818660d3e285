"""What arrays must be before anything is computed from them; each fault is one line with array, index and value."""

from __future__ import annotations

import numpy as np

from end2_tf.data.streams import Stream
from end2_tf.errors import DataError
from end2_tf.reading import texts

_CHUNK = 65536  # rows looked at together; bounds the temporaries


def check_inputs(inputs: np.ndarray | Stream, name: str) -> None:
    """Raises DataError unless `inputs` is uint8 (n, h, w, c) or finite float32 (n, d), with at least one example.

    Args:
        inputs: The array; what a stream holds is looked at when it is read.
        name: What to call it in the message, for instance "spirals train inputs".
    """
    shape = inputs.shape
    if not ((inputs.ndim == 4 and inputs.dtype == np.uint8) or (inputs.ndim == 2 and inputs.dtype == np.float32)):
        raise DataError(
            f"{name} are {inputs.dtype} of shape {shape}. Allowed: uint8 images (n, height, width, channels) or "
            "float32 features (n, features)."
        )
    if len(inputs) == 0:
        raise DataError(f"{name} have no example: the shape is {shape}. At least one is needed.")
    if 0 in shape:
        raise DataError(f"{name} are empty: the shape is {shape}. Every dimension must be at least 1.")
    if isinstance(inputs, np.ndarray) and inputs.dtype == np.float32:
        check_finite(inputs, name)


def check_finite(values: np.ndarray, name: str, numbers: np.ndarray | None = None) -> None:
    """Raises DataError at the first nan or infinity of an (n, ...) array, rows of `name` with these or all numbers."""
    for start in range(0, len(values), _CHUNK):
        finite = np.isfinite(values[start : start + _CHUNK])
        if not finite.all():
            row, *rest = (int(i) for i in np.argwhere(~finite)[0])
            number = start + row if numbers is None else int(numbers[start + row])
            where = ", ".join(map(str, (number, *rest)))
            raise DataError(
                f"{name}[{where}] is {values[(start + row, *rest)]}. Values must be finite: drop example {number} or "
                "mend it."
            )


def check_labels(labels: np.ndarray, num_examples: int, num_classes: int, name: str) -> None:
    """Raises DataError unless `labels` are `num_examples` whole numbers in [0, num_classes)."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        hint = " For one-hot rows use np.argmax(labels, axis=1)." if labels.ndim == 2 and labels.shape[1] > 1 else ""
        raise DataError(
            f"{name} are {labels.dtype} of shape {labels.shape}. "
            f"Allowed: whole numbers of shape ({num_examples},).{hint}"
        )
    if len(labels) != num_examples:
        raise DataError(f"{name} are {len(labels)}, but there are {num_examples} inputs. Each input needs one label.")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        index = int(wrong[0])
        hint = ""
        if labels.min() == 1 and labels.max() == num_classes:
            hint = " They seem to count from 1: subtract 1."
        raise DataError(
            f"{name}[{index}] is {labels[index]}. Allowed: 0 to {num_classes - 1}, for {num_classes} classes.{hint}"
        )


def check_class_names(class_names: tuple[str, ...], name: str) -> None:
    """Raises DataError where a class can't be called so in tables and pages, or two are called the same."""
    for number, each in enumerate(class_names):
        if not texts.is_name(each):
            raise DataError(f"{name}: class {number} is {texts.why_no_name(each)}. Rename it.")
    if len(set(class_names)) < len(class_names):
        twice = next(each for each in class_names if class_names.count(each) > 1)
        raise DataError(f"{name} have two classes of the name {twice!r}. Rename one.")


def check_every_class(labels: np.ndarray, class_names: tuple[str, ...], name: str) -> None:
    """Raises DataError if there are fewer than two classes, or one of them has no example."""
    if len(class_names) < 2:
        raise DataError(f"{name} have {len(class_names)} class. At least two are needed.")
    counts = np.bincount(labels, minlength=len(class_names))
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        index = int(missing[0])
        hint = " They seem to count from 1: subtract 1." if missing.size == 1 and index == 0 else ""
        raise DataError(
            f"{name} have no example of class {index} ({class_names[index]!r}). Every class from 0 to "
            f"{len(class_names) - 1} must occur; number the classes without gaps from 0.{hint}"
        )
