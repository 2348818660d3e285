"""Schedules: golden points, continuity, ranges, and purity in the step."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from end2_tf import schedules
from end2_tf.errors import ConfigError

STEPS = 900  # a cycle of 2/3 is 600 steps, half of it 300


def test_one_cycle_golden_points():
    got = schedules.learning_rate("one_cycle", 1e-3, [0, 150, 300, 450, 600, 750, 900], STEPS, 2 / 3)
    assert_allclose(got, [1e-3, 5.5e-3, 1e-2, 5.5e-3, 1e-3, 5.005e-4, 1e-6], rtol=1e-12)


def test_cosine_golden_points():
    got = schedules.learning_rate("cosine", 2.0, [0, 300, 450, 900, 901], STEPS)
    assert_allclose(got, [2.0, 1.5, 1.0, 0.0, 0.0], atol=1e-15)


def test_cosine_ends_at_its_floor():
    got = schedules.learning_rate("cosine", 2.0, [0, 450, 900, 901], STEPS, floor=0.1)
    assert_allclose(got, [2.0, 1.1, 0.2, 0.2], atol=1e-15)


def test_constant_rate():
    assert_array_equal(schedules.learning_rate("constant", 0.1, np.arange(5), 3), np.full(5, 0.1))


def test_one_cycle_without_cycle_or_with_nothing_else():
    assert_allclose(schedules.learning_rate("one_cycle", 1e-3, [0, 900], STEPS, 0.0), [1e-3, 1e-6])
    assert_allclose(schedules.learning_rate("one_cycle", 1e-3, [0, 450, 900], STEPS, 1.0), [1e-3, 1e-2, 1e-3])


def test_cycles_take_two_thirds_unless_told():
    got = schedules.learning_rate("one_cycle", 1e-3, [0, 150, 300, 600, 900], STEPS)
    assert_allclose(got, [1e-3, 5.5e-3, 1e-2, 1e-3, 1e-6], rtol=1e-12)
    assert_allclose(schedules.temperature("anneal", 10.0, [300, 450, 600], STEPS), [10.0, 5.5, 1.0], rtol=1e-12)


def test_one_cycle_ends_no_higher_than_a_tiny_base():
    assert schedules.learning_rate("one_cycle", 1e-8, 900, STEPS) == pytest.approx(1e-8)


def test_anneal_golden_points():
    got = schedules.temperature("anneal", 10.0, [0, 300, 400, 500, 600, 899], STEPS, 2 / 3)
    assert_allclose(got, [10.0, 10.0, 7.0, 4.0, 1.0, 1.0], rtol=1e-12)


def test_without_a_cycle_nothing_is_annealed():
    assert_array_equal(schedules.temperature("anneal", 10.0, [0, 1, 900], STEPS, 0.0), [1.0, 1.0, 1.0])


def test_constant_temperature():
    assert_array_equal(schedules.temperature("constant", 2.5, np.arange(4), 4), np.full(4, 2.5))


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
def test_learning_rate_is_continuous(name):
    rates = schedules.learning_rate(name, 1e-3, np.arange(STEPS + 1), STEPS)
    assert np.abs(np.diff(rates)).max() < 1e-4  # a tenth of the base rate in any step
    assert rates.min() >= 0
    assert rates.max() <= 1e-2


@given(st.floats(1, 50), st.floats(0.01, 1), st.integers(1, 5000), st.data())
def test_temperature_stays_between_its_ends_and_never_rises(t0, cycle, num_steps, data):
    values = schedules.temperature("anneal", t0, np.arange(num_steps + 1), num_steps, cycle)
    assert values.min() >= 1
    assert values[0] == t0
    assert values[-1] == 1
    assert (np.diff(values) <= 1e-12).all()
    step = data.draw(st.integers(0, num_steps))  # resumed at any step: no history
    assert schedules.temperature("anneal", t0, step, num_steps, cycle) == values[step]


def test_levels_descend_geometrically_from_t0_to_one():
    levels = schedules.temperature_levels(10.0, 32)
    assert levels.shape == (32,)
    assert (levels[0], levels[-1]) == (10.0, 1.0)
    assert_allclose(levels[1:] / levels[:-1], 10 ** (-1 / 31))


@pytest.mark.parametrize(("arguments", "level"), [((1.0, 32), 1.0), ((4.0, 1), 4.0), ((4.0, 32, "constant"), 4.0)])
def test_one_level_where_nothing_is_annealed(arguments, level):
    assert_array_equal(schedules.temperature_levels(*arguments), [level])


def test_level_of_is_the_nearest():
    levels = np.array([10.0, 4.0, 2.0, 1.0])
    assert_array_equal(schedules.level_of([[12.0, 7.1, 6.9], [3.0, 1.4, 0.5]], levels), [[0, 0, 1], [1, 3, 3]])
    assert schedules.level_of(2.1, levels) == 2


def test_quantised_temperature_starts_at_t0_and_ends_at_one():
    levels = schedules.temperature_levels(10.0, 32)
    values = schedules.temperature("anneal", 10.0, np.arange(STEPS), STEPS)
    quantised = levels[schedules.level_of(values, levels)]
    assert (quantised[:300] == 10.0).all()
    assert (quantised[600:] == 1.0).all()
    assert np.abs(np.log(quantised / values)).max() < 0.04  # half a level


def test_scalars_in_scalars_out():
    for value in (schedules.learning_rate("cosine", 1.0, 3, 9), schedules.temperature("anneal", 3.0, 3, 9)):
        assert isinstance(value, np.float64)


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"'cosin', which isn't a learning rate schedule. Did you mean 'cosine'"):
        schedules.learning_rate("cosin", 1.0, 0, 1)
    with pytest.raises(ConfigError, match=r"'annealed', which isn't a temperature schedule. Did you mean 'anneal'"):
        schedules.temperature("annealed", 1.0, 0, 1)


def test_importing_schedules_imports_no_tensorflow():
    code = "import sys, end2_tf.schedules; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
