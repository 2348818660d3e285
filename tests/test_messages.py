"""What users are told, all of it: `docs/messages.py` lists it from the source."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "messages.py"


def _script():
    spec = importlib.util.spec_from_file_location("docs_messages", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


messages = _script()
FOUND = messages.collect()


def test_it_finds_them_all():
    raised = sum(
        len(re.findall(r"raise (?:[A-Z]\w+Error|error)\(", path.read_text(encoding="utf-8")))
        for path in messages.PACKAGE.rglob("*.py")
    )
    ours = [m for m in FOUND if m.error in messages.errors()]
    assert len(ours) > 400
    assert raised * 0.85 < len(ours) < raised * 1.15  # Python's own errors are raised too, and some of ours returned


@pytest.mark.parametrize("message", FOUND, ids=lambda m: f"{m.file}:{m.line}")
def test_a_message_is_one_line_of_sentences(message):
    assert "\n" not in message.text
    assert message.text.endswith((".", "}", "…", "keras-hub", "]'")), message.text
    assert "  " not in message.text
    assert "please" not in message.text.lower()
    assert "!" not in re.sub(r"\{[^}]*\}", "", message.text)
    words = re.sub(r"\{[^{}]*\}", "x", message.text)
    assert len(words) < 400, "too long to be read"


def test_a_template_keeps_what_is_filled_in():
    code = "raise E('a ' + f'is {x!r} of {y}. Set ' 'it.')"
    import ast

    (call,) = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    assert messages.template(call.args[0]) == "a is {x} of {y}. Set it."
