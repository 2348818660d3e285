"""The load script against a small model: figures that fit together, and what it refuses."""

import importlib.util
from pathlib import Path

import pytest

from end2_tf.errors import ConfigError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.fixture(scope="module")
def serving():
    spec = importlib.util.spec_from_file_location("serving", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root():
    return Path(__file__).parents[2] / "zoo"


@pytest.mark.slow
def test_figures_fit_together(serving, root, monkeypatch):
    monkeypatch.setattr(serving, "CONCURRENCY", (2,))
    result = serving.measure(root, ["spirals_mlp_end2_aux"], inputs=3, seconds=0.3)
    rows = {row["way"]: row for row in result["rows"]}
    assert list(rows) == ["loop", "batches", "rest", "grpc"]
    for way, row in rows.items():
        size = {"batches": 6}.get(way, 3)
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        in_flight = row["concurrency"]
        # Little's law: what is in flight is rate times time. The mean isn't the median, and the end is cut.
        assert row["rate"] * row["p50"] / 1e3 / size <= 3 * in_flight
        assert row["rate"] == pytest.approx(row["n"] * size / 0.3, rel=0.5)
    text = serving.table(result)
    assert "Inputs a request: 3." in text
    assert len(text.splitlines()) == 1 + 4 + 2


def test_what_cant_be_measured(serving, root):
    with pytest.raises(ConfigError, match=r"^--inputs is 0\. Allowed: 1 or more\.$"):
        serving.measure(root, [], inputs=0)
    with pytest.raises(ConfigError, match=r"has no model 'x'\. Models: .*spirals_mlp_end2_aux"):
        serving.measure(root, ["x"])
