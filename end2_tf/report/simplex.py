"""The students' Dirichlet densities on the triangle of three classes, under the members' predictions."""

from __future__ import annotations

import functools
import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
_PIXELS = 200  # across the triangle, about as many as the picture has
_SAMPLES = 4  # per pixel and axis; the largest is shown, so that peaks narrower than a pixel (alpha0 above 1e5) are too
_DECADES = 3  # of density that the colours show on each side of the flat Dirichlet's
_MOST_STUDENTS = 4
_MOST_INPUTS = 8
_MEMBER_COLOUR = "#D55E00"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def has_simplex(evaluation: Evaluation) -> bool:
    return bool(_students(evaluation)) and evaluation.has("simplex.npz", "member_probs")


def density(alphas: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """Returns the log-density of a Dirichlet over three classes, relative to the flat one (1, 1, 1).

    Args:
        alphas: Concentrations, (3,), above 0. Those of three among more classes give the density of the three's
            probabilities after renormalising.
        log_probs: Logarithms of probabilities inside the simplex, (..., 3).

    Returns:
        Nats, (...); 0 is the flat Dirichlet's density, which is 2.
    """
    a = np.asarray(alphas, np.float64)
    constant = math.lgamma(a.sum()) - sum(math.lgamma(v) for v in a) - math.log(2.0)
    return constant + log_probs @ (a - 1.0)


def draw(evaluation: Evaluation) -> bytes:
    """Draws one row per chosen input, itself on the left, and one column per Dirichlet student."""
    students = _students(evaluation)
    alphas = {student: evaluation.array("simplex.npz", f"alphas/{student}") for student in students}
    names = evaluation.array("simplex.npz", "names")
    members = evaluation.array("simplex.npz", "member_probs")
    inputs = evaluation.array("simplex.npz", "inputs")
    num_inputs = min(len(members), _MOST_INPUTS)
    corner_names = _corner_names(evaluation, num_inputs)
    symbol = "precision of the three" if len(evaluation.results["class_names"]) > 3 else "α₀"
    fig = style.figure(2.1 * len(students) + 1.6, 2.15 * num_inputs + 1.0)
    grid = fig.subplots(num_inputs, 1 + len(students), squeeze=False, width_ratios=[0.75] + [1.0] * len(students))
    for row, axes in enumerate(grid):
        _draw_input(axes[0], evaluation, inputs[row])
        axes[0].set_title(textwrap.fill(str(names[row]), 17), fontweight="bold")
        for ax, student in zip(axes[1:], students, strict=True):
            picture = panel(ax, alphas[student][row], members[row], corner_names[row], symbol)
            if row == 0:
                ax.set_title(evaluation.label(student), fontweight="bold")
    explain(fig, picture, grid[:, 1:])
    return style.png(fig)


def panel(ax: Axes, alphas: np.ndarray, members: np.ndarray, names: list[str], symbol: str = "α₀") -> Any:
    """Draws one Dirichlet on the triangle, with the members' predictions and its own mean.

    Args:
        ax: Where.
        alphas: Concentrations, (3,).
        members: Members' probabilities, (members, 3).
        names: Of the corners, three.
        symbol: What the sum of the concentrations is called under the triangle.

    Returns:
        The picture of the density, as `explain` wants it.
    """
    picture = _draw_density(ax, alphas)
    _draw_members(ax, members, alphas)
    _draw_corners(ax, names)
    ax.text(0.5, -0.2, f"{symbol} = {_rounded(float(alphas.sum()))}", ha="center", va="top", fontsize=8)
    return picture


def explain(fig: Figure, picture: Any, panels: np.ndarray) -> None:
    """Adds the scale of the colours and what the marks are, below an array of panels."""
    bar = fig.colorbar(picture, ax=panels, location="bottom", extend="both", shrink=0.7, aspect=35, pad=0.03)
    bar.set_label("Student's density (1 = flat Dirichlet)")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)


def _students(evaluation: Evaluation) -> list[str]:
    """Returns the Dirichlet students to draw, the recommended one first."""
    prefix = "alphas/"
    found = style.in_order(k[len(prefix) :] for k in evaluation.keys("simplex.npz") if k.startswith(prefix))
    preferred = [m for m in style.PREFERRED_STUDENTS if m in found]
    return [*preferred, *(m for m in found if m not in preferred)][:_MOST_STUDENTS]


def _corner_names(evaluation: Evaluation, num_inputs: int) -> list[list[str]]:
    """Returns three class names per input; where there are more than three classes, each input has its own three."""
    class_names = evaluation.results["class_names"]
    ids = np.tile(np.arange(3), (num_inputs, 1))
    if evaluation.has("simplex.npz", "class_ids"):
        ids = evaluation.array("simplex.npz", "class_ids")[:num_inputs]
    return [[style.class_name(class_names[k] if k < len(class_names) else k) for k in three] for three in ids]


def _rounded(value: float) -> str:
    """Returns three digits, with thousands separated: 16,100; 0.596; 1.7 × 10⁶."""
    if value >= 1e6:
        exponent = math.floor(math.log10(value))
        return f"{value / 10**exponent:.1f} × 10{str(exponent).translate(_SUPERSCRIPTS)}"
    if value >= 100:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    return f"{value:.3g}"


@functools.cache
def _log_grid() -> np.ndarray:
    """Returns log-probabilities on a fine grid over the triangle's box, (y, x, 3); NaN outside the triangle."""
    height = CORNERS[2, 1]
    columns, rows = (_SAMPLES * int(_PIXELS * side) for side in (1.0, height))
    x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows * height)
    third = y / height
    second = x - third / 2
    probs = np.stack([1 - second - third, second, third], axis=-1)
    return np.log(np.where(probs.min(axis=-1, keepdims=True) > 0, probs, np.nan))


def _draw_density(ax: Axes, alphas: np.ndarray) -> Any:
    fine = density(alphas, _log_grid())
    rows, columns = (side // _SAMPLES for side in fine.shape)
    blocks = fine.reshape(rows, _SAMPLES, columns, _SAMPLES)
    largest = np.fmax.reduce(np.fmax.reduce(blocks, axis=3), axis=1)  # fmax passes over what is outside
    # A decade of slack on each side keeps out-of-range values finite; the colour bar marks them by its arrows.
    limit = (_DECADES + 1) * math.log(10)
    image = np.exp(np.clip(largest, -limit, limit))
    norm = LogNorm(10.0**-_DECADES, 10.0**_DECADES)
    box = (0, 1, 0, CORNERS[2, 1])
    return ax.imshow(image, extent=box, origin="lower", cmap="YlGnBu", norm=norm, interpolation="nearest")


def _draw_members(ax: Axes, probs: np.ndarray, alphas: np.ndarray) -> None:
    x, y = (probs @ CORNERS).T
    name = "a member's prediction"
    ax.scatter(x, y, s=16, color=_MEMBER_COLOUR, edgecolors="white", linewidths=0.6, zorder=3, label=name)
    x, y = alphas / alphas.sum() @ CORNERS
    for colour, width, label in (("white", 3.4, None), ("black", 1.5, "the student's mean")):
        ax.scatter([x], [y], s=95, facecolors="none", edgecolors=colour, linewidths=width, zorder=4, label=label)


def _draw_corners(ax: Axes, names: list[str]) -> None:
    ax.plot(*CORNERS[[0, 1, 2, 0]].T, color="#555555", linewidth=0.9)
    ax.text(-0.03, -0.065, names[0], ha="center", va="top", fontsize=7)
    ax.text(1.03, -0.065, names[1], ha="center", va="top", fontsize=7)
    ax.text(0.5, CORNERS[2, 1] + 0.06, names[2], ha="center", va="bottom", fontsize=7)
    ax.set_xlim(-0.18, 1.18)
    ax.set_ylim(-0.3, CORNERS[2, 1] + 0.16)
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_input(ax: Axes, evaluation: Evaluation, value: np.ndarray) -> None:
    """Draws an image, or a place in the plane among the training points; for other inputs the panel stays empty."""
    ax.set_axis_off()
    if value.ndim >= 2:
        value = style.pixels(value)
        if value.dtype != np.uint8:
            value = (value - value.min()) / max(float(np.ptp(value)), 1e-12)
        ax.imshow(value, cmap="gray")
    elif value.shape == (2,):
        if evaluation.has("map.npz", "train_inputs"):
            train = evaluation.array("map.npz", "train_inputs")
            ax.plot(*train[:: max(1, len(train) // 600)].T, ".", color="#bbbbbb", markersize=1.5)
        ax.plot(*value, marker="*", color=_MEMBER_COLOUR, markersize=9)
        place = f"at ({value[0]:.3g}, {value[1]:.3g})"
        ax.text(0.5, -0.02, place, transform=ax.transAxes, fontsize=7, ha="center", va="top")
        ax.set_aspect("equal")
        ax.margins(0.1)
