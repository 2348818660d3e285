"""How the students' training went, and the members' beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

# Panels that all models share: the column of the history, its label, and the factor to the unit printed.
_SHARED = (
    ("temperature", "Temperature", 1.0),
    ("alpha0", "Mean precision α₀ (validation)", 1.0),
    ("validation_error", "Validation error (%)", 100.0),
    ("validation_nll", "Validation NLL (nats)", 1.0),
)
_COLUMNS = 4


def losses(evaluation: Evaluation) -> bytes:
    """Draws one panel per model, as losses differ in meaning and scale."""
    histories = {m: h for m, h in evaluation.histories.items() if _has(h, "loss")}
    columns = min(_COLUMNS, len(histories))
    rows = -(-len(histories) // columns)
    fig = style.figure(2.5 * columns + 0.2, 1.9 * rows + 0.1)
    grid = fig.subplots(rows, columns, squeeze=False)
    for ax, (model, history) in zip(grid.flat, histories.items(), strict=False):
        look = evaluation.style(model)
        ax.plot(history["epoch"], history["loss"], color=look.colour)
        ax.set_title(evaluation.training_label(model))
        ax.locator_params(nbins=5)
    for ax in grid[:, 0]:
        ax.set_ylabel("Training loss (nats)")
    _finish(grid, len(histories))
    return style.png(fig)


def shared(evaluation: Evaluation) -> bytes:
    """Draws temperature, precision and validation scores of all models in common panels."""
    panels = [p for p in _SHARED if any(_has(h, p[0]) for h in evaluation.histories.values())]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    fig = style.figure(4.8 * columns, 2.7 * rows + 0.5)
    grid = fig.subplots(rows, columns, squeeze=False)
    for ax, (column, label, scale) in zip(grid.flat, panels, strict=False):
        for model, history in evaluation.histories.items():
            if _has(history, column):
                look = evaluation.style(model)
                known = np.isfinite(history[column])
                x, y = history["epoch"][known], history[column][known] * scale
                above = 2.0 if look.line == "-" else 2.5  # dashes over lines, so that both show where they coincide
                name = evaluation.training_label(model)
                ax.plot(x, y, color=look.colour, linestyle=look.line, label=name, zorder=above)
        ax.set_title(label)
        _scale(ax, column)
    _finish(grid, len(panels))
    handles: dict[str, Any] = {}
    for ax in grid.flat:
        handles |= {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = [evaluation.training_label(model) for model in evaluation.histories]
    ordered = {label: handles[label] for label in labels if label in handles}
    fig.legend(ordered.values(), ordered.keys(), loc="outside lower center", ncols=4, handlelength=2.6)
    return style.png(fig)


def has_losses(evaluation: Evaluation) -> bool:
    return any(_has(h, "loss") for h in evaluation.histories.values())


def has_shared(evaluation: Evaluation) -> bool:
    return any(_has(h, column) for h in evaluation.histories.values() for column, _, _ in _SHARED)


def _has(history: dict[str, np.ndarray], column: str) -> bool:
    return column in history and bool(np.isfinite(history[column]).any())


def _scale(ax: Axes, column: str) -> None:
    """Precision spans decades; the first epochs' scores would flatten all that follow, so the view stops below them."""
    if column == "alpha0":
        ax.set_yscale("log")
    elif column.startswith("validation"):
        values = [np.asarray(line.get_ydata(), float) for line in ax.get_lines()]
        later = np.concatenate([v[len(v) // 5 :] for v in values])
        low, high = float(later.min()), float(later.max())
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        ax.set_ylim(max(0.0, low - margin), high + margin)
    else:
        ax.set_ylim(bottom=0)


def _finish(grid: np.ndarray, used: int) -> None:
    """Names the x axis of the lowest panel of each column and hides panels that are not used."""
    for ax in grid.flat[used:]:
        ax.set_axis_off()
    columns = grid.shape[1]
    for column in range(columns):
        drawn = [i for i in range(column, used, columns)]
        if drawn:
            grid.flat[drawn[-1]].set_xlabel("Epoch")
