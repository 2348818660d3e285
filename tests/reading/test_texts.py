"""Text, JSON and names that are sound; tests/hostile/ has the others."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from end2_tf.errors import ConfigError
from end2_tf.reading import texts


def test_what_python_writes_is_read(tmp_path):
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"c": {}}, "d": math.inf}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert texts.read_json(tmp_path / "a.json", ConfigError, "") == value
    assert math.isnan(texts.parse_json(b"NaN"))


def test_a_hundred_levels_are_read():
    assert texts.parse_json("[" * 100 + "]" * 100)
    with pytest.raises(ValueError, match="more than 100 levels"):
        texts.parse_json('{"a":' * 100 + "{}" + "}" * 100)


def test_a_limit_counts_bytes(tmp_path):
    (tmp_path / "a").write_text("12345")
    assert texts.read_text(tmp_path / "a", ConfigError, "", most=5) == "12345"
    with pytest.raises(ConfigError, match=r"a has more than 4 bytes, so it isn't read\. Cut it\.$"):
        texts.read_text(tmp_path / "a", ConfigError, "Cut it.", most=4)


@pytest.mark.parametrize("name", ["cat", "Maine Coon", "猫", "n01443537", "-1", "T-shirt/top", "x" * 200])
def test_names(name):
    assert texts.is_name(name)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\tb", "\x1b[2J", "a\u202eb", "a\u200bb", "x" * 201, None, 7])
def test_what_is_no_name(name):
    assert not texts.is_name(name)


def test_lists_of_names_are_short():
    assert texts.listed([]) == "none"
    assert texts.listed(["a", "b\n"]) == "a, b\\n"
    assert texts.listed(map(str, range(30))).endswith("18, 19, … (30 in all)")


def test_fitting_says_where():
    @dataclass
    class Wanted:
        name: texts.Name
        sizes: tuple[int, ...]

    found = texts.fit(Wanted, {"name": "a", "sizes": [1, 2], "more": 3}, "m.json", ConfigError, "")
    assert found == Wanted("a", (1, 2))
    with pytest.raises(ConfigError, match=r"^m\.json doesn't hold what it should \(sizes\.1: Input .*\)\. Mend it\.$"):
        texts.fit(Wanted, {"name": "a", "sizes": [1, "x"]}, "m.json", ConfigError, "Mend it.")
