from __future__ import annotations

import numpy as np
import pytest

from end2_tf.data import checks
from end2_tf.errors import DataError


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 3)), r"x are float64 of shape \(2, 3\)\. Allowed: uint8 images .* or float32 features"),
        (np.zeros((2, 3), np.uint8), r"x are uint8 of shape \(2, 3\)"),
        (np.zeros((2, 3, 3, 1), np.float32), r"x are float32 of shape \(2, 3, 3, 1\)"),
        (np.zeros((0, 3), np.float32), r"x have no example: the shape is \(0, 3\)"),
        (np.zeros((2, 0, 3, 1), np.uint8), r"x are empty: the shape is \(2, 0, 3, 1\)"),
    ],
)
def test_inputs_of_another_kind(inputs, message):
    with pytest.raises(DataError, match=message):
        checks.check_inputs(inputs, "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_arent_finite_are_located(value):
    inputs = np.zeros((70000, 3), np.float32)
    inputs[66000, 2] = value
    with pytest.raises(DataError, match=rf"x\[66000, 2\] is {value}\. Values must be finite: drop example 66000"):
        checks.check_inputs(inputs, "x")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1, 5]), r"y\[2\] is 5\. Allowed: 0 to 2, for 3 classes\.$"),
        (np.array([0, -1, 2]), r"y\[1\] is -1\. Allowed: 0 to 2"),
        (np.array([1, 2, 3]), r"y\[2\] is 3\. .*They seem to count from 1: subtract 1"),
        (np.array([0, 1]), r"y are 2, but there are 3 inputs"),
        (np.array([0.0, 1.0, 2.0]), r"y are float64 of shape \(3,\)\. Allowed: whole numbers of shape \(3,\)\.$"),
        (np.eye(3, dtype=int), r"of shape \(3, 3\)\. .*For one-hot rows use np\.argmax\(labels, axis=1\)"),
    ],
)
def test_labels(labels, message):
    with pytest.raises(DataError, match=message):
        checks.check_labels(labels, 3, 3, "y")


def test_classes_without_example():
    names = ("a", "b", "c")
    checks.check_every_class(np.array([2, 0, 1]), names, "y")
    with pytest.raises(DataError, match=r"y have no example of class 1 \('b'\)\. Every class from 0 to 2 must occur"):
        checks.check_every_class(np.array([2, 0, 0]), names, "y")
    with pytest.raises(DataError, match=r"class 0 .*They seem to count from 1: subtract 1"):
        checks.check_every_class(np.array([2, 1, 1]), names, "y")
    with pytest.raises(DataError, match=r"y have 1 class\. At least two"):
        checks.check_every_class(np.array([0, 0]), ("a",), "y")
