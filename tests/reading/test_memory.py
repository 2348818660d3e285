from __future__ import annotations

import pytest

from end2_tf.errors import DataError
from end2_tf.reading import memory


def test_what_is_left_is_plausible():
    left = memory.available_bytes()
    assert left is None or 1e6 < left < 1e14


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\nfile 1400000\ninactive_file 900000\nactive_file 300000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_bytes() == 4_200_000  # files that were read are let go when memory is asked for
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() != 4_200_000


def test_message_names_need_and_rest(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2_000_000_000)
    memory.check_fits(2_000_000_000, "a set", "Use less.")
    with pytest.raises(DataError, match=r"^a set needs 3\.5 GB of memory; 2\.0 GB are left\. Use less\.$"):
        memory.check_fits(3_500_000_000, "a set", "Use less.")
    monkeypatch.setattr(memory, "available_bytes", lambda: 30_000_000)
    with pytest.raises(DataError, match=r"^a set needs 2\.5 GB of memory; 30\.0 MB are left"):
        memory.check_fits(2_500_000_000, "a set", "Use less.")


def test_unknown_memory_is_no_obstacle(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.check_fits(10**18, "a set", "Use less.")
