"""What a command says: words or one JSON object, colour on a terminal alone."""

import io
import json
from pathlib import Path

import pytest

from end2_tf import console
from end2_tf.console import Answer
from end2_tf.stages import Outcome


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_text_ends_in_one_newline(capsys):
    Answer("a\nb").show(as_json=False)
    Answer("c\n").show(as_json=False)
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_what_has_been_said_is_not_said_again(capsys):
    Answer(data={"a": 1}).show(as_json=False)
    Answer("words").show(as_json=True)
    assert capsys.readouterr().out == ""


def test_json_is_strict_and_one_line(capsys):
    outcome = Outcome("report", True, Path("runs/x"), 1.5, "é\n")
    Answer(data={"stages": (outcome,), "nan": float("nan"), "inf": float("inf"), 3: None}).show(as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out, parse_constant=pytest.fail) == {
        "stages": [{"stage": "report", "was_ready": True, "path": "runs/x", "seconds": 1.5, "summary": "é\n"}],
        "nan": None,
        "inf": None,
        "3": None,
    }


def test_a_terminal_is_painted():
    assert console.paint("x", "red", _Terminal()) == "\033[31mx\033[0m"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_unless_its_user_says_no(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert console.paint("x", "red", _Terminal()) == "x"


def test_files_are_not_painted():
    assert console.paint("x", "red", io.StringIO()) == "x"
