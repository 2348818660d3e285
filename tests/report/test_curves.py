"""Reliability, rejection, histograms: what is drawn, beside what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from end2_tf.report import curves, histograms, style
from end2_tf.report.inputs import Evaluation


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects figures instead of turning them into PNG."""
    figures: list[Figure] = []
    monkeypatch.setattr(style, "png", lambda fig: figures.append(fig) or b"")
    return figures


def _lines(figure: Figure, axes: int, prefix: str) -> np.ndarray:
    (line,) = [line for line in figure.axes[axes].get_lines() if line.get_label().startswith(prefix)]
    return np.asarray(line.get_xydata())


def test_rejection_curve_starts_at_the_error_and_ends_at_nothing(spirals_folder: Path, drawn: list[Figure]):
    evaluation = Evaluation(spirals_folder)
    curves.rejections(evaluation)
    for model in ("single", "ensemble", "end2_aux"):
        line = _lines(drawn[0], 0, evaluation.picture_label(model) + " (PRR")
        wrong = evaluation.probs(model, "test").argmax(axis=1) != evaluation.labels
        assert_allclose(line[[0, -1]], [[0, 100 * wrong.mean()], [100, 0]], atol=1e-9)
        assert np.all(np.diff(line[:, 1]) <= 1e-9)
    error = _lines(drawn[0], 0, "Ensemble")[0, 1]
    oracle = _lines(drawn[0], 0, "Oracle")
    assert_allclose(np.interp(error, *oracle.T), 0, atol=0.05)  # as many rejections as there are errors
    assert_allclose(_lines(drawn[0], 0, "Random")[:, 1], [error, 0])


def test_reliability_dots_are_the_bins_accuracies(images_folder: Path, drawn: list[Figure]):
    evaluation = Evaluation(images_folder)
    curves.reliability(evaluation)
    axes = next(ax for ax in drawn[0].axes if ax.get_title().startswith("Ensemble"))
    probs, labels = evaluation.probs("ensemble", "test"), evaluation.labels
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    for x, y in axes.collections[-1].get_offsets():
        inside = np.ceil(confidence * 15) == np.ceil(x / 100 * 15)  # bins (lower, upper]
        assert x == pytest.approx(100 * confidence[inside].mean(), abs=1e-3)
        assert y == pytest.approx(100 * right[inside].mean(), abs=1e-3)


def test_histograms_hold_all_inputs_and_name_the_auroc(images_folder: Path, drawn: list[Figure]):
    evaluation = Evaluation(images_folder)
    histograms.draw(evaluation)
    assert len(drawn[0].axes) == 4  # two models, two OOD sets
    for axes, (model, name) in zip(
        drawn[0].axes,
        [(m, d) for m in ("ensemble", "end2_aux") for d in ("svhn_cropped", "lsun")],
        strict=True,
    ):
        measured = evaluation.value(model, "ood_auroc_knowledge", name)
        assert axes.get_title().endswith(f"AUROC {100 * measured:.1f} %")
        assert name in axes.get_title()
        assert evaluation.label(model) in axes.get_title()
        assert [patch.get_data().values.sum() for patch in axes.patches] == pytest.approx([100.0] * 4)
        assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    "values", [np.zeros(5), np.array([0.0, 1e-30, 0.5]), np.array([0.3, 0.3]), np.geomspace(1e-9, 1)]
)
def test_histogram_edges_rise_and_span_six_decades_at_most(values: np.ndarray):
    edges = histograms._edges([values])
    assert np.all(np.diff(edges) > 0)
    assert edges[0] > 0
    assert edges[-1] >= values.max()
    assert edges[-1] / edges[0] < 1.1e6


@pytest.mark.parametrize("count", [1, 2, 37, 30_001])
def test_thinned_curves_keep_their_ends(count: int):
    kept = curves._thinned(count)
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) <= curves._POINTS
    assert np.all(np.diff(kept) > 0)
