"""Training curves from histories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from end2_tf.report import style, training
from end2_tf.report.inputs import Evaluation

HEAD = "epoch,loss,learning_rate,temperature,alpha0,validation_error,validation_nll\n"


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    (tmp_path / "results.json").write_text(json.dumps({"rows": []}), encoding="utf-8")
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "end.csv").write_text(HEAD + "1,2.0,0.1,2.5,,0.50,1.5\n2,1.0,0.1,2.5,,0.25,1.0\n")
    (tmp_path / "history" / "end2.csv").write_text(
        HEAD + "1,-2,0.1,10,3.5,0.5,1.5\n2,-3,0.1,1,,0.2,0.9\n3,-4,0.1,1,7,0.1,0.8\n"
    )
    (tmp_path / "history" / "end2_aux.csv").write_text(HEAD)  # stopped before its first epoch
    return Evaluation(tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "png", lambda fig: figures.append(fig) or b"")
    return figures


def test_history(evaluation: Evaluation):
    assert list(evaluation.histories) == ["end", "end2"]
    assert_array_equal(evaluation.histories["end2"]["alpha0"], [3.5, np.nan, 7.0])


def test_losses_have_panels_of_their_own(evaluation: Evaluation, drawn: list[Figure]):
    training.losses(evaluation)
    assert [ax.get_title() for ax in drawn[0].axes] == ["EnD", "EnD²"]
    assert_array_equal(drawn[0].axes[1].get_lines()[0].get_xydata(), [[1, -2], [2, -3], [3, -4]])


def test_the_ensembles_history_is_called_its_members(tmp_path: Path, drawn: list[Figure]):
    (tmp_path / "results.json").write_text(json.dumps({"rows": [], "num_members": 7}), encoding="utf-8")
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "ensemble.csv").write_text(HEAD + "1,2.0,0.1,1,,0.50,1.5\n")
    training.losses(Evaluation(tmp_path))
    training.shared(Evaluation(tmp_path))
    assert [ax.get_title() for ax in drawn[0].axes] == ["Members, mean of 7"]
    assert [text.get_text() for text in drawn[1].legends[0].get_texts()] == ["Members, mean of 7"]


def test_shared_panels(evaluation: Evaluation, drawn: list[Figure]):
    training.shared(evaluation)
    panels = {ax.get_title(): ax for ax in drawn[0].axes}
    (precision,) = panels["Mean precision α₀ (validation)"].get_lines()  # EnD has none
    assert_array_equal(precision.get_xydata(), [[1, 3.5], [3, 7.0]])
    errors = panels["Validation error (%)"].get_lines()
    assert_allclose(errors[0].get_ydata(), [50, 25])
    assert panels["Mean precision α₀ (validation)"].get_yscale() == "log"
