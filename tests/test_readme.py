"""README's code runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_python_snippet_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        names = {}
        exec(compile(block, "README.md", "exec"), names)  # the point is to run what readers copy
        assert set(names["measures"]) >= {"probs", "alphas", "logits", "knowledge_uncertainty"}
        np.testing.assert_allclose(
            names["again"].predict(names["x"], verbose=0)["probs"], names["measures"]["probs"], atol=1e-6
        )


@pytest.mark.parametrize("command", re.findall(r"main\.py (--experiment=\S+)", README))
def test_experiments_named_in_it_exist(command):
    from end2_tf import registry

    assert command.removeprefix("--experiment=") in registry.experiments()
