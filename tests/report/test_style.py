"""Fixed looks of models, and how numbers are printed."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from end2_tf.report import style

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _lab(colour: str, vision: np.ndarray) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(vision) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_curves_can_be_told_apart_whoever_looks(vision: str):
    drawn = {m: s for m, s in style.MODELS.items() if m != "bayes"}  # only on maps, which need no colour of its own
    labs = {m: _lab(s.colour, VISION[vision]) for m, s in drawn.items()}
    for a, b in itertools.combinations(drawn, 2):
        if drawn[a].colour == drawn[b].colour:
            assert drawn[a].line != drawn[b].line
        else:
            assert np.linalg.norm(labs[a] - labs[b]) > 20, (a, b)


def test_order_is_baselines_teacher_students_posterior():
    models = ["bayes", "zeta", "end2_aux", "ensemble", "end", "single", "alpha"]
    assert style.in_order(models) == ["single", "ensemble", "end", "end2_aux", "alpha", "zeta", "bayes"]


def test_unknown_methods_get_looks_of_their_own():
    models = ["ensemble", "mine", "mine_aux"]
    looks = [style.of(m, models) for m in models]
    assert len({look.colour for look in looks}) == 3
    assert looks[2].label == "mine + AUX"
    assert all(style.is_student(m) for m in ("mine", "end", "end2_aux"))
    assert not any(style.is_student(m) for m in ("single", "single_matched", "ensemble", "bayes"))


@pytest.mark.parametrize(
    ("metric", "prefix"),
    [
        ("error", "error"),
        ("ood_auroc_total", "ood_auroc"),
        ("ood_fpr95_differential_entropy", "ood_fpr95"),
        ("misclassification_aupr", "misclassification_aupr"),
        ("unheard_of", "unheard_of"),
    ],
)
def test_metric_prefix(metric: str, prefix: str):
    assert style.metric_prefix(metric) == prefix


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.04934, "error", "4.93"),
        (0.04934, "nll", "0.049"),
        (66.66, "prr", "66.7"),
        (0.9125, "ood_auroc_knowledge", "91.2"),
        (0.25, "unheard_of", "0.2500"),
        (None, "error", "–"),
        (math.nan, "prr", "–"),
        (math.inf, "nll", "∞"),
    ],
)
def test_number(value: float | None, metric: str, text: str):
    assert style.number(value, metric) == text


@pytest.mark.parametrize(
    ("name", "shown"), [("bag", "bag"), ("3", "class 3"), (3, "class 3"), ("_x", "class _x"), ("a_1", "a_1")]
)
def test_class_names(name: object, shown: str):
    assert style.class_name(name) == shown


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_channels_are_shown(channels: int):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, channels), dtype=np.uint8)
    shown = style.pixels(image)
    np.testing.assert_array_equal(shown, image[..., 0] if channels < 3 else image[..., :3])
    np.testing.assert_array_equal(style.pixels(image[..., 0]), image[..., 0])


def _picture(title: str, scale: str, tick: str = "") -> np.ndarray:
    fig = style.figure(3, 2)
    ax = fig.subplots()
    ax.plot([1, 1000], [0, 1], label=title)
    ax.set_xscale(scale)
    ax.set_yticks([0.5], [tick])
    ax.set_title(title)
    fig.legend()
    return np.asarray(Image.open(io.BytesIO(style.png(fig))).convert("RGB"))


def test_names_with_dollars_are_no_formulas():
    assert _picture("$10% of $20", "linear", "$_ and $^").any()  # a ParseException once


def test_powers_of_ten_are_formulas(monkeypatch: pytest.MonkeyPatch):
    drawn = _picture("x", "log")
    monkeypatch.setattr(style, "_take_literally", lambda fig: None)
    np.testing.assert_array_equal(drawn, _picture("x", "log"))
