"""The notebooks in examples/ run, and what is kept in them is what they show."""

from __future__ import annotations

import base64
import copy
import importlib.util
import re
import struct
from pathlib import Path

import nbformat
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = {path.stem: path for path in EXAMPLES.glob("*.ipynb")}
PYTORCH = "distil_a_pytorch_ensemble"

# How far a number may be from the kept one. Trainings end elsewhere on another processor; published models don't.
RELATIVE = {"distil_your_keras_ensemble": 0.25, PYTORCH: 0.25}
PUBLISHED = 0.02

# What the notebooks claim of what they train: a pattern with a number, and the number's range.
CLAIMS = {
    "distil_your_keras_ensemble": [
        (r"error of a member +([\d.]+) %", 12, 18),
        (r"student ([\d.]+) %\nmean KL", 12, 15.5),
        (r"mean KL.* ([\d.]+) nats", 0, 0.015),
        (r"rank correlation of knowledge +([\d.]+)", 0.6, 1),
        (r"AUROC +five ([\d.]+) %", 95, 100),
        (r"AUROC.*\n +student ([\d.]+) %", 95, 100),
    ],
    PYTORCH: [
        (r"student +error ([\d.]+) %", 5, 9.5),
        (r"student .*AUROC ([\d.]+) %", 90, 100),
        (r"on test digits: ([\d.]+)", 0.8, 1),
    ],
}

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
_ABSOLUTE = re.compile(r"(?<![\w.…/:])/(?:[\w.-]+/)+|\b[A-Za-z]:\\\\")


def _script(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def _texts(notebook):
    """Yields what each cell prints, but for those tagged `varies`: with times, or another in every training."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "varies" not in cell.metadata.get("tags", []):
            yield "".join(output.text for output in cell.outputs if output.output_type == "stream")


def _pictures(cell):
    return [base64.b64decode(o.data["image/png"]) for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]


def _check_same(now, kept, relative):
    """Asserts that two texts are the same up to spaces and the digits of numbers."""
    assert _NUMBER.sub("#", " ".join(now.split())) == _NUMBER.sub("#", " ".join(kept.split()))
    for ours, theirs in zip(_NUMBER.findall(now), _NUMBER.findall(kept), strict=True):
        digits = max(len(text.partition(".")[2]) for text in (ours, theirs))
        values = [float(text.replace(",", "")) for text in (ours, theirs)]
        np.testing.assert_allclose(*values, rtol=relative, atol=1.5 * 10.0**-digits if digits else 0, err_msg=kept)


def test_texts_are_compared_by_their_numbers():
    kept = "error of the five    13.5 %, of 9,000 points"
    _check_same("error of the five  13.6 %, of 9,000 points", kept, 0.0)
    for other in ("error of the five 13.8 %, of 9,000 points", "error of the six 13.5 %, of 9,000 points"):
        with pytest.raises(AssertionError):
            _check_same(other, kept, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_it_runs_and_shows_what_is_kept(name, tmp_path):
    now, kept = _script("run").execute(NOTEBOOKS[name], tmp_path), _read(name)
    for ours, theirs in zip(_texts(now), _texts(kept), strict=True):
        _check_same(ours, theirs, RELATIVE.get(name, PUBLISHED))
    assert [len(_pictures(cell)) for cell in now.cells] == [len(_pictures(cell)) for cell in kept.cells]
    text = "".join(_texts(now))
    for pattern, lowest, highest in CLAIMS.get(name, []):
        value = float(re.search(pattern, text)[1])
        assert lowest <= value <= highest, pattern
    if name == PYTORCH:  # the kept logits are of what --write_inputs writes for its settings
        with np.load(tmp_path / "runs" / "inputs.npz") as asked, np.load(EXAMPLES / "torch_logits.npz") as answered:
            np.testing.assert_array_equal(answered["digests"], asked["digests"])


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_what_is_kept(name):
    notebook = _read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    tidied = _script("run").tidied(copy.deepcopy(notebook))
    for cell in (*tidied.cells, *notebook.cells):
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    assert tidied == notebook
    assert not _ABSOLUTE.search(nbformat.writes(notebook))


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_every_picture_is_small_and_followed_by_what_to_see(name):
    notebook = _read(name)
    numbers = [number for number, cell in enumerate(notebook.cells) if _pictures(cell)]
    assert numbers
    for number in numbers:
        for picture in _pictures(notebook.cells[number]):
            assert len(picture) <= 150_000
            assert struct.unpack(">I", picture[16:20])[0] <= 860
        assert "**What to see" in notebook.cells[number + 1].source


def test_absolute_paths_are_noticed():
    for parts in (["", "home", "someone", "a.npz"], ["in ", "tmp", "x", "y"]):
        assert _ABSOLUTE.search("/".join(parts))
    assert _ABSOLUTE.search('"' + r"\\".join(["C:", "Users", "x"]))
    for text in ("runs/a.npz", "mean/std", "./a/b", "https://a.org/b/c", "2/3"):
        assert not _ABSOLUTE.search(text), text


def test_torch_members_write_what_is_read(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch isn't installed; only who makes the members anew needs it")
    from end2_tf.ensemble import recorded

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(30) % 10)
    asked = images[..., None]
    np.savez(tmp_path / "inputs.npz", inputs=asked, digests=recorded.digests(asked))
    script = _script("torch_members")
    monkeypatch.setattr(script, "NUM_MEMBERS", 2)
    monkeypatch.setattr(script, "EPOCHS", 1)
    flags = {"data": "data.npz", "inputs": "inputs.npz", "output": "logits.npz"}
    monkeypatch.setattr("sys.argv", ["torch_members.py", *(f"--{k}={tmp_path / v}" for k, v in flags.items())])
    script.main()
    teacher = recorded.load(str(tmp_path / "logits.npz"), (8, 8, 1))
    assert teacher.predict_logits(asked[::-1]).shape == (30, 2, 10)
