"""The benchmark of stacked training."""

from __future__ import annotations

from pathlib import Path

import pytest
import stacked


def test_the_target_is_for_the_fastest_peer_and_for_kerass_fit():
    rates = {
        stacked.OURS: [300.0, 320.0, 310.0],
        stacked.KERAS: [5.0, 5.0, 5.0],
        "torch vmap": [100.0, 100.0, 100.0],
        "jax vmap": [200.0, 160.0, 155.0],
    }
    rows = {row.what: row for row in stacked._rows(rates, {stacked.OURS: 0.135, stacked.KERAS: 0.14})}
    assert rows["end2_tf / jax vmap"].values == (1.5, 2.0, 2.0)
    assert (rows["end2_tf / jax vmap"].target, rows["end2_tf / torch vmap"].target) == (1.8, None)
    assert rows["end2_tf / jax vmap"].is_met
    assert rows["end2_tf / keras fit"].values == (60.0, 64.0, 62.0)
    assert not rows["end2_tf / keras fit"].is_met
    assert rows["end2_tf: error of members"].median == 13.5


@pytest.mark.slow
def test_both_of_this_environment_take_their_turns(monkeypatch):
    monkeypatch.setattr(stacked, "PEERS", Path("nowhere"))
    rows = {row.what: row for row in stacked.measure(quick=True)}
    assert all(value > 0 for row in rows.values() for value in row.values)
    assert len(rows["end2_tf / keras fit"].values) == 2
    assert rows["end2_tf: error of members"].median < 67  # chance is 66.7


def test_a_child_that_fails_is_named(tmp_path):
    with (
        pytest.raises(stacked.ModelError, match=r"^keras fit ended with exit code 1\. Run its script"),
        stacked._child("keras fit", [stacked.sys.executable, "stacked_keras.py", tmp_path / "none.npz"]),
    ):
        pass
