from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "transfer.py"


@pytest.fixture(scope="module")
def transfer():
    spec = importlib.util.spec_from_file_location("transfer_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_written_is_what_arithmetic_says(transfer):
    found = transfer.imagenet(50, 20, 30)
    assert found["logits"] == pytest.approx(50 * 20 * 30 * 2, rel=0.01)
    assert found["statistics"] == pytest.approx(50 * 31 * 4, rel=0.03)
    table = transfer.imagenet_table(found, 50, 20, 30)
    assert "20 × 30 × 2 bytes each: 1.54 GB" in table


@pytest.mark.slow
def test_a_step_is_the_same_however_many_members(transfer):
    turns = []
    found = transfer.members((2, 4), 600, 3, 1, turns.append)
    assert len(turns) == len(found[2]["step_seconds"]) == len(found[4]["peak"]) == 1
    assert all(0 < seconds < 1 for each in found.values() for seconds in each["step_seconds"])
    assert "2 members" in transfer.members_table(found)


@pytest.mark.slow
def test_stages_on_so_many_examples(transfer, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "SHARD_ROWS", 500)
    rows = transfer.examples((1200,), tmp_path, lambda text: None)
    assert [(row["stage"], row["shard_rows"]) for row in rows] == [
        ("transfer", 500),
        ("student", 500),
        ("transfer", None),
        ("student", None),
    ]
    assert all(row["peak"] > 1e8 for row in rows)
    assert len(transfer.examples_table(rows).splitlines()) == 5
