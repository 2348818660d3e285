from __future__ import annotations

import growth
import numpy as np
import pytest

from end2_tf.errors import End2Error


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_exponents_are_those_of_power_laws(power):
    assert growth.exponent({n: 3 * n**power for n in (1, 3, 10, 30, 100)}) == pytest.approx(power, abs=1e-9)


def test_the_upper_half_decides():
    costs = {n: 100.0 + n**2 for n in (1, 3, 1_000, 3_000, 10_000)}
    assert growth.exponent(costs) == pytest.approx(2, abs=1e-3)
    assert growth.exponent({1: 1.0, 10: 5.0, 100: 50.0}) == pytest.approx(1)


def test_one_point_is_no_curve():
    with pytest.raises(End2Error, match=r"has 1 point. Allowed: 2 or more"):
        growth.exponent({3: 1.0})


def test_what_grows_faster_than_in_proportion_is_named(monkeypatch, capsys):
    found = [
        growth.Curve("flat", {1: [1.0, 1.0], 10: [1.1, 1.2]}, {1: 0.0, 10: 10.0}),
        growth.Curve("steep", {1: [1.0, 1.0], 10: [90.0, 110.0]}, {}),
    ]
    monkeypatch.setattr(growth, "curves", lambda quick: iter(found))
    rows = {row.what: row for row in growth.measure(quick=True)}
    assert list(rows) == ["time of flat", "memory of flat", "time of steep"]
    assert rows["memory of flat"].values == pytest.approx((0.0,), abs=1e-9)  # too little to be told from nothing
    assert rows["time of steep"].values == pytest.approx(np.log10([90, 110]))
    assert "Grows faster than in proportion: time of steep." in capsys.readouterr().out


def test_memory_that_a_call_adds():
    size = 50_000_000
    added = growth.added_by(lambda: np.ones(size // 8).sum())
    assert added is None or 0.8 * size < added < 1.5 * size


def test_every_loss_on_members_is_measured_and_reduces_as_much():
    assert {"dirichlet_nll", "mean_precision", "hydra", "logit_gaussian"} < set(growth.losses())
    assert not {"cross_entropy", "prior_network", "self_distribution"} & set(growth.losses())
    sizes = {**growth.FIXED, "batch": 4, "members": 3}
    for name in growth.losses():
        reduced = growth.reduction(name, **sizes)()
        assert reduced.shape == (4, growth.make_loss(name, 3).statistics_size(sizes["classes"]))


def test_a_step_learns():
    step = growth.student_step("mean_precision", **{**growth.FIXED, "batch": 32})
    first = step()
    for _ in range(30):
        last = step()
    assert last < first


@pytest.mark.slow
def test_all_curves_on_two_points(monkeypatch, capsys):
    monkeypatch.setattr(growth, "SECONDS", 0.0)
    rows = growth.measure(quick=True)
    whats = [row.what for row in rows]
    assert len(whats) == len(set(whats))
    for part in ("stacked epoch", "recording", "inference", "measures of members", "measures of alphas"):
        assert any(part in what and what.startswith("time") for what in whats)
    assert all(any(f"time of {name}'s step against classes" == what for what in whats) for name in growth.losses())
    assert all(row.target == growth.LINEAR and np.isfinite(row.values).all() for row in rows)
    assert "recording against members, ms" in capsys.readouterr().out
