"""Errors, calibration and knowledge uncertainty as inputs change more and more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_PANELS = ("error", "nll", "ece", "knowledge_mean")
_COLUMNS = 2
_FAR = 2.5  # times the median over models: an NLL above that would flatten all others


def has_severities(evaluation: Evaluation) -> bool:
    return bool(evaluation.shifts)


def draw(evaluation: Evaluation) -> bytes:
    """Draws each shift as four panels, a metric each, against the severity."""
    per_shift = len(_PANELS) // _COLUMNS
    fig = style.figure(4.8 * _COLUMNS, 2.6 * per_shift * len(evaluation.shifts) + 0.7)
    grid = fig.subplots(per_shift * len(evaluation.shifts), _COLUMNS, squeeze=False)
    handles: dict[str, Any] = {}
    for number, (shift, sets) in enumerate(evaluation.shifts.items()):
        mine = grid[number * per_shift : (number + 1) * per_shift]
        for ax, metric in zip(mine.flat, _PANELS, strict=True):
            how = style.metric(metric)
            for model in evaluation.models:
                _draw_model(ax, evaluation, model, metric, sets)
            ax.set_title(f"{how.label} ({how.unit})")
            ax.set_xticks(list(sets))
            _scale(ax, metric)
            handles |= {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in mine[-1]:
            ax.set_xlabel(f"Severity: {shift}")
    ordered = {label: handles[label] for label in map(evaluation.label, evaluation.models) if label in handles}
    fig.legend(ordered.values(), ordered.keys(), loc="outside lower center", ncols=4, handlelength=2.8)
    return style.png(fig)


def _draw_model(ax: Axes, evaluation: Evaluation, model: str, metric: str, sets: dict[int, str]) -> None:
    """Draws one model's line where it was measured at several severities, within its spread over members or seeds."""
    how, look = style.metric(metric), evaluation.style(model)
    values = {s: v for s, name in sets.items() if (v := evaluation.value(model, metric, name)) is not None}
    if len(values) < 2:
        return
    x, y = np.array(list(values)), how.scale * np.array(list(values.values()))
    above = 2.0 if look.line == "-" else 2.5  # dashes over lines, so that both show where they coincide
    ax.plot(x, y, color=look.colour, linestyle=look.line, label=evaluation.label(model), zorder=above)
    sd = how.scale * np.array([_spread(evaluation, model, metric, sets[s]) for s in values])
    if sd.any():
        ax.fill_between(x, y - sd, y + sd, color=look.colour, alpha=0.1, linewidth=0)


def _scale(ax: Axes, metric: str) -> None:
    """Begins at 0 where 0 is the best there can be and near; keeps a far-away NLL from flattening all others."""
    if metric in ("ece", "knowledge_mean"):
        ax.set_ylim(bottom=0)
    if metric == "nll" and ax.get_lines():
        highest = [float(np.max(line.get_ydata())) for line in ax.get_lines()]
        ax.set_ylim(top=min(ax.get_ylim()[1], _FAR * float(np.median(highest))))


def _spread(evaluation: Evaluation, model: str, metric: str, dataset: str) -> float:
    """Returns the standard deviation over members or seeds; 0 where there was one."""
    row = evaluation.row(model, metric, dataset)
    sd = None if row is None else row.get("sd")
    return float(sd) if sd is not None and math.isfinite(sd) else 0.0
