"""How every picture of the report looks: one colour, one line and one name per model, and how metrics are printed.

Colours keep a CIELAB distance above 20 under normal vision and simulated deuteranopia, protanopia and tritanopia; a
dashed line says in addition that a student saw no auxiliary data.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

DPI = 150
_PALETTE = 256  # colours of a picture: a third of the bytes, and no difference to see

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
}

_CLASS_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")


@dataclasses.dataclass(frozen=True)
class ModelStyle:
    """The model's name on the page, its colour and its matplotlib line style."""

    label: str
    colour: str
    line: str | tuple[int, tuple[float, ...]] = "-"


_DASHED = (0, (4, 1.6))

MODELS = {
    "single": ModelStyle("Single member", "#8a8a8a"),
    "single_matched": ModelStyle("Single, matched", "#8a8a8a", (0, (1, 1.2))),
    "single_mixup": ModelStyle("Single, students' inputs", "#8a8a8a", _DASHED),
    "ensemble": ModelStyle("Ensemble", "#000000"),
    "teacher": ModelStyle("Teacher, some members", "#000000", (0, (1, 1.2))),
    "prior_network": ModelStyle("Prior Network", "#554422"),
    "self_distribution": ModelStyle("Self-distribution (S2D)", "#554422", (0, (1, 1.2))),
    "logit_gaussian": ModelStyle("Logit Gaussian", "#d8c06c", _DASHED),
    "logit_gaussian_aux": ModelStyle("Logit Gaussian + AUX", "#d8c06c"),
    "hydra": ModelStyle("Hydra", "#a87854", _DASHED),
    "hydra_aux": ModelStyle("Hydra + AUX", "#a87854"),
    "end": ModelStyle("EnD", "#7CC8F2", _DASHED),
    "end_aux": ModelStyle("EnD + AUX", "#0072B2"),
    "end2_nll": ModelStyle("EnD² (NLL)", "#E69F00", _DASHED),
    "end2_nll_aux": ModelStyle("EnD² (NLL) + AUX", "#B34700"),
    "end2_proxy": ModelStyle("EnD² (proxy)", "#7F19E6", _DASHED),
    "end2_proxy_aux": ModelStyle("EnD² (proxy) + AUX", "#240F8A"),
    "end2": ModelStyle("EnD²", "#C77CFF", _DASHED),
    "end2_aux": ModelStyle("EnD² + AUX", "#7A1F6B"),
    "bayes": ModelStyle("True posterior", "#009E73"),
}

# Methods that a user defines in a config get these, by position.
_OTHER_COLOURS = ("#999933", "#CC3311", "#44AA99", "#332288")

NO_STUDENTS = ("single", "single_matched", "single_mixup", "ensemble", "teacher", "bayes")
PREFERRED_STUDENTS = ("end2_aux", "end2", "end2_nll_aux", "end2_nll")


def class_colour(k: int) -> str:
    """Returns the colour of class number k; colours repeat after seven."""
    return _CLASS_COLOURS[k % len(_CLASS_COLOURS)]


def class_name(name: object) -> str:
    """Returns what a class is called in pictures: a number, and what legends leave out (`_x`), after the word class."""
    text = str(name)
    return f"class {text}" if text.isdigit() or text.startswith("_") else text


def pixels(image: np.ndarray) -> np.ndarray:
    """Returns an image with any number of channels as `imshow` takes it: its first three, or of fewer the first."""
    if image.ndim == 2:
        return image
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]


def is_student(model: str) -> bool:
    return model not in NO_STUDENTS


def in_order(models: Iterable[str]) -> list[str]:
    """Returns models in the order of `MODELS`: baselines, teacher, students, unknown ones, the posterior."""
    known = list(MODELS)
    found = set(models)
    ordered = [m for m in known if m in found and m != "bayes"] + sorted(found - set(known))
    return [*ordered, "bayes"] if "bayes" in found else ordered


def of(model: str, models: Iterable[str] = ()) -> ModelStyle:
    """Returns a model's style.

    Args:
        model: Its name in results.json.
        models: All models of the evaluation, so that methods without a fixed style get different colours.
    """
    if model in MODELS:
        return MODELS[model]
    others = sorted(set(models) - set(MODELS)) or [model]
    position = others.index(model) if model in others else 0
    line = "-" if model.endswith("_aux") else _DASHED
    label = model.removesuffix("_aux").replace("_", " ") + (" + AUX" if model.endswith("_aux") else "")
    return ModelStyle(label, _OTHER_COLOURS[position % len(_OTHER_COLOURS)], line)


@dataclasses.dataclass(frozen=True)
class MetricStyle:
    """How a metric is printed and which way is better.

    `scale` is 100 where fractions are printed as per cent; `better` is 1 if higher is better, -1 if lower, else 0.
    """

    label: str
    unit: str
    scale: float
    digits: int
    better: int


METRICS = {
    "error": MetricStyle("Error", "%", 100, 2, -1),
    "nll": MetricStyle("NLL", "nats", 1, 3, -1),
    "brier": MetricStyle("Brier score", "0 to 2", 1, 4, -1),
    "ece": MetricStyle("ECE", "%", 100, 2, -1),
    "prr": MetricStyle("PRR", "100 = oracle", 1, 1, 1),
    "misclassification_auroc": MetricStyle("Misclassification AUROC", "%", 100, 1, 1),
    "misclassification_aupr": MetricStyle("Misclassification AUPR", "%", 100, 1, 0),  # grows with the error
    "kl_to_ensemble": MetricStyle("KL to the ensemble", "nats", 1, 4, -1),
    "knowledge_rank_correlation": MetricStyle("Knowledge rank corr.", "-1 to 1", 1, 3, 1),
    "knowledge_mean": MetricStyle("Knowledge mean", "nats", 1, 4, 0),
    "knowledge_mean_ratio": MetricStyle("Knowledge mean ratio", "1 = ensemble's", 1, 3, 0),
    "ood_auroc": MetricStyle("OOD AUROC", "%", 100, 1, 1),
    "ood_aupr": MetricStyle("OOD AUPR", "%", 100, 1, 1),
    "ood_fpr95": MetricStyle("OOD FPR95", "%", 100, 1, -1),
}

_UNKNOWN_METRIC = MetricStyle("", "", 1, 4, 0)


def metric_prefix(metric: str) -> str:
    """Returns the key of `METRICS` that covers a metric, or the metric itself: `ood_auroc_total` → `ood_auroc`."""
    matches = [p for p in METRICS if metric == p or metric.startswith(f"{p}_")]
    return max(matches, key=len) if matches else metric


def metric(name: str) -> MetricStyle:
    """Returns how to print a metric; a prefix's suffix (the uncertainty measure) is added to the label."""
    prefix = metric_prefix(name)
    if prefix not in METRICS:
        return dataclasses.replace(_UNKNOWN_METRIC, label=name.replace("_", " "))
    suffix = name[len(prefix) + 1 :].replace("_", " ")
    found = METRICS[prefix]
    return dataclasses.replace(found, label=f"{found.label}, {suffix}") if suffix else found


def number(value: float | None, name: str) -> str:
    """Returns a metric's value as the page prints it (per cent where `metric` says so); "–" for None and NaN."""
    how = metric(name)
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value * how.scale:.{how.digits}f}"


def figure(width: float, height: float, square: bool = False) -> Figure:
    """Returns an empty figure (inches), independent of pyplot's state; `square` closes gaps between equal panels."""
    return Figure(figsize=(width, height), dpi=DPI, layout="compressed" if square else "constrained")


def png(fig: Figure) -> bytes:
    """Draws a figure as PNG with a palette, with a small margin so that nothing is cut off."""
    drawn, target = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(fig)
    _take_literally(fig)
    fig.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.12, pil_kwargs={"compress_level": 0})
    image: Any = Image.open(drawn).convert("RGB").quantize(_PALETTE, Image.Quantize.MAXCOVERAGE)
    image.save(target, "PNG", optimize=True)
    return target.getvalue()


def _take_literally(fig: Figure) -> None:
    """Leaves formulas to logarithmic axes: a name with two dollars is none."""
    axes = (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis) if axis.get_scale() == "log")
    powers = {label for axis in axes for label in axis.get_ticklabels(which="both")}
    for text in fig.findobj(Text):
        text.set_parse_math(text in powers)
