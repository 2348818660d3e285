"""Errors, calibration and knowledge uncertainty as inputs change more and more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_PANELS = ("error", "nll", "ece", "knowledge_mean")


def shifts(evaluation: Evaluation) -> dict[str, dict[int, str]]:
    """Returns the data set at each severity of each shift that was measured at several; 0 is the in-domain set."""
    found: dict[str, dict[int, str]] = {}
    for dataset, (shift, severity) in evaluation.results["severities"].items():
        if dataset in evaluation.shifted_names:
            found.setdefault(shift, {0: evaluation.split})[int(severity)] = dataset
    return {shift: dict(sorted(sets.items())) for shift, sets in found.items() if len(sets) > 2}


def has_severities(evaluation: Evaluation) -> bool:
    return bool(shifts(evaluation))


def draw(evaluation: Evaluation) -> bytes:
    """Draws each shift as a row of panels, a metric each, against the severity."""
    rows = shifts(evaluation)
    fig = style.figure(9.8, 2.5 * len(rows) + 0.9)
    grid = fig.subplots(len(rows), len(_PANELS), squeeze=False, sharex="row")
    handles: dict[str, Any] = {}
    for line, (shift, sets) in zip(grid, rows.items(), strict=True):
        for ax, metric in zip(line, _PANELS, strict=True):
            how = style.metric(metric)
            for model in evaluation.models:
                _draw_model(ax, evaluation, model, metric, sets)
            ax.set_title(f"{how.label} ({how.unit})")
            ax.set_xticks(list(sets))
            ax.set_ylim(bottom=0)
            handles |= {label: drawn for drawn, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        line[0].set_ylabel(shift)
    for ax in grid[-1]:
        ax.set_xlabel("Severity")
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
        ax.fill_between(x, y - sd, y + sd, color=look.colour, alpha=0.15, linewidth=0)


def _spread(evaluation: Evaluation, model: str, metric: str, dataset: str) -> float:
    """Returns the standard deviation over members or seeds; 0 where there was one."""
    row = evaluation.row(model, metric, dataset)
    sd = None if row is None else row.get("sd")
    return float(sd) if sd is not None and math.isfinite(sd) else 0.0
