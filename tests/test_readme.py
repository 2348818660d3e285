"""README's code runs as it stands."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(text):
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "docs" / "pages.py")
    pages = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return pages.blocks(text)


def test_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in _blocks(README) if block.language == "python"]
    spaces = []
    for block in blocks:
        spaces.append({})
        exec(compile(block.code, "README.md", "exec"), spaces[-1])  # the point is to run what readers copy
        assert set(spaces[-1]["measures"]) >= {"probs", "alphas", "logits", "knowledge_uncertainty"}
    own, zoo = spaces
    ours, theirs = (zoo[name]["knowledge_uncertainty"] for name in ("measures", "theirs"))
    assert ours[1] > 0.2 > 0.1 > ours[0]  # beside the spirals, and between them
    np.testing.assert_allclose(ours, theirs, atol=0.1)
    again = own["again"].predict(own["x"], verbose=0)
    np.testing.assert_allclose(again["probs"], own["measures"]["probs"], atol=1e-6)


@pytest.mark.parametrize("command", re.findall(r"main\.py (--experiment=\S+)", README))
def test_experiments_named_in_it_exist(command):
    from end2_tf import registry

    assert command.removeprefix("--experiment=") in registry.experiments()
