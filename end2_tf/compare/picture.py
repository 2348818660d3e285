"""The comparison's picture: how well every method tells OOD inputs, by knowledge and by total uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes

from end2_tf.compare.runs import KINDS, Kind, Run
from end2_tf.report import style

_COLUMNS = 3  # panels beside each other; a fourth would make 1000 pixels too few for the labels
_LINE = 0.235  # inches a method
_COLOURS: dict[Kind, str] = {"total": "#E69F00", "knowledge": "#7A1F6B"}
_MARKERS: dict[Kind, str] = {"total": "D", "knowledge": "o"}
_LINES: dict[Kind, str] = {"total": "--", "knowledge": "-"}
_OFFSETS: dict[Kind, float] = {"total": 0.16, "knowledge": -0.16}


def draw(runs: Sequence[Run]) -> bytes | None:
    """Draws a panel a data set and OOD set, methods from top to bottom; None where no run has an OOD set."""
    runs = [run for run in runs if run.ood]
    if not runs:
        return None
    columns = min(_COLUMNS, max(len(run.ood) for run in runs))
    rows = [(run, run.ood[start : start + columns]) for run in runs for start in range(0, len(run.ood), columns)]
    heights = [_LINE * len(_methods(run)) + 0.75 for run, _ in rows]
    with matplotlib.rc_context(style.RC):
        fig = style.figure(1.9 + 2.7 * columns, sum(heights) + 0.6)
        grid = fig.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for (run, names), panels in zip(rows, grid, strict=True):
            for position, ax in enumerate(panels):
                if position < len(names):
                    _panel(ax, run, names[position], is_first=position == 0)
                else:
                    ax.set_axis_off()
        handles = {str(h.get_label()): h for ax in fig.axes for h in ax.get_legend_handles_labels()[0]}
        fig.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
        return style.png(fig)


def _methods(run: Run) -> list[str]:
    return [model for model in run.models if model != "ensemble"]


def _panel(ax: Axes, run: Run, dataset: str, is_first: bool) -> None:
    methods = _methods(run)
    for kind in KINDS:
        metric, colour = f"ood_auroc_{kind}", _COLOURS[kind]
        teacher = run.value("ensemble", metric, dataset)
        if teacher is not None:
            label = f"Ensemble, by {kind} uncertainty"
            ax.axvline(100 * teacher, color=colour, linestyle=_LINES[kind], linewidth=1.3, label=label)
        for line, model in enumerate(methods):
            value, sd = run.value(model, metric, dataset), run.sd(model, metric, dataset)
            if value is None:
                continue
            ax.errorbar(
                100 * value,
                line + _OFFSETS[kind],
                xerr=None if sd is None else 100 * sd,
                color=colour,
                marker=_MARKERS[kind],
                markersize=4.5,
                linewidth=1.4,
                label=f"By {kind} uncertainty, mean ± sd over seeds (single: members)",
            )
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.set_yticks(range(len(methods)), [run.label(m) for m in methods] if is_first else [""] * len(methods))
    ax.set_xlabel("AUROC (%)")
    distance = run.distance(dataset)
    ax.set_title(f"{run.name}\n{dataset}{f' ({distance})' if distance else ''}")
