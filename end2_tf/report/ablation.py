"""A study's picture: each metric against what was varied, beside the ensemble and a single member.

A quantity goes along the horizontal axis, a curve a method; categories are rows, a dot each. Spreads are standard
deviations over students (seeds), or over members where a member stands for all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from end2_tf.grid import Axis
from end2_tf.report import style

ENSEMBLE, SINGLE, TEACHER = "ensemble", "single", "teacher"
OOD = "ood_"

_COLUMNS = 4  # panels beside one another along an axis; rows of categories, whose names need room, have one less
_WIDTH = 9.8  # inches; at 150 a page's 1280 pixels show it at 87 %
_ROW = 0.2  # inches a category
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_APART = 0.012  # of the axis: what curves are moved by, so that their bars don't lie on one another
_FAR = 0.8  # of the range of students and ensemble: a member farther away than this is named at the border instead
_ARROWS = {-1: " ↓", 0: "", 1: " ↑"}


class Measured(Protocol):
    """One model of a study."""

    @property
    def label(self) -> str: ...
    @property
    def variant(self) -> str: ...  # "" where the model is every variant's
    @property
    def model(self) -> str: ...
    def row(self, dataset: str, metric: str) -> Mapping[str, Any] | None:
        """Returns `value`, `sd` and `n` of a metric, or None."""


Panel = tuple[str, str]  # data set, metric


def draw(
    lines: Sequence[Measured],
    *,
    title: str,
    inside: str,
    sets: Sequence[str],
    columns: Sequence[str],
    axis: Axis | None = None,
) -> bytes:
    """Draws a panel a metric, as PNG.

    Args:
        lines: The study's models.
        title: Of the picture.
        inside: The in-domain set of the metrics.
        sets: The OOD sets.
        columns: Metrics; those that begin with `ood_` are drawn for each OOD set.
        axis: What is varied, if it is a quantity.
    """
    shared = {line.model: line for line in lines if not line.variant}
    varied = [line for line in lines if line.variant]
    wanted = [(inside, metric) for metric in columns if not metric.startswith(OOD)]
    outside = [(name, metric) for name in sets for metric in columns if metric.startswith(OOD)]
    groups = [[panel for panel in group if _values(varied, panel)] for group in (wanted, outside)]
    with matplotlib.rc_context(style.RC):
        number = _COLUMNS if axis is not None else _COLUMNS - 1
        rows = sum(-(-len(group) // number) for group in groups)
        height = 1.95 if axis is not None else 0.75 + _ROW * len(varied)
        fig = style.figure(_WIDTH, rows * height + 0.9)
        grid = fig.subplots(rows, number, squeeze=False)
        places = _places(groups, number)
        for position, ax in enumerate(grid.flat):
            row, column = divmod(position, number)
            panel = places.get((row, column))
            if panel is None:
                ax.set_axis_off()
                continue
            _title(ax, panel, inside)
            if axis is not None:
                _curves(ax, panel, varied, shared, axis)
                if (row + 1, column) not in places:
                    ax.set_xlabel(axis.label)
            else:
                _dots(ax, panel, varied, shared)
                ax.set_yticks(range(len(varied)), [line.label for line in varied] if column == 0 else [])
        handles = {str(h.get_label()): h for ax in fig.axes for h in ax.get_legend_handles_labels()[0]}
        fig.suptitle(title, fontsize=10.5)
        fig.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, handlelength=2.6)
        return style.png(fig)


def _values(lines: Sequence[Measured], panel: Panel) -> list[float]:
    rows = (line.row(*panel) for line in lines)
    return [row["value"] for row in rows if row is not None and row["value"] is not None]


def _places(groups: Sequence[Sequence[Panel]], columns: int) -> dict[tuple[int, int], Panel]:
    """Returns where each panel is, (row, column); a group begins in a new row."""
    found: dict[tuple[int, int], Panel] = {}
    row = 0
    for group in groups:
        for number, panel in enumerate(group):
            found[row + number // columns, number % columns] = panel
        row += -(-len(group) // columns)
    return found


def _title(ax: Axes, panel: Panel, inside: str) -> None:
    dataset, metric = panel
    how = style.metric(metric)
    label = how.label if dataset == inside else f"{dataset}: {how.label.removeprefix('OOD ')}"
    ax.set_title(f"{label}{f' ({how.unit})' if how.unit else ''}{_ARROWS[how.better]}", fontsize=8.5)


def _curves(ax: Axes, panel: Panel, varied: Sequence[Measured], shared: Mapping[str, Measured], axis: Axis) -> None:
    scale = style.metric(panel[1]).scale
    models = [model for model in style.in_order(line.model for line in varied) if model != ENSEMBLE]
    low, high = min(axis.positions.values()), max(axis.positions.values())
    if axis.is_log:
        ax.set_xscale("log")
    reach: list[float] = []
    for number, model in enumerate(models):
        points = _points([line for line in varied if line.model == model], panel, axis)
        if model == TEACHER and ENSEMBLE in shared:  # of all members it is the ensemble
            points += _points([shared[ENSEMBLE]], panel, axis, high)
        if not points:
            continue
        x, y, sd, n = (np.array(part) for part in zip(*points, strict=True))
        aside = _APART * (number - (len(models) - 1) / 2)
        x = x * (high / low) ** aside if axis.is_log else x + aside * (high - low)
        look = style.of(model, models)
        ax.errorbar(
            x,
            scale * y,
            yerr=scale * sd,
            color=look.colour,
            linestyle=look.line,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=1.1,
            capsize=2,
            label=f"{look.label}{_counted(set(n.tolist()))}",
        )
        reach += [*(scale * (y - sd)), *(scale * (y + sd))]
    ax.set_xticks(sorted(axis.positions.values()), [f"{x:.3g}" for x in sorted(axis.positions.values())])
    ax.xaxis.set_minor_locator(NullLocator())
    _references(ax, panel, shared, reach, across=True)


def _points(
    lines: Sequence[Measured], panel: Panel, axis: Axis, position: float | None = None
) -> list[tuple[float, float, float, int]]:
    """Returns (position, value, sd or 0, n) of lines that have the metric, from left to right."""
    found = []
    for line in lines:
        row = line.row(*panel)
        if row is not None and row["value"] is not None:
            where = axis.positions[line.variant] if position is None else position
            found.append((where, row["value"], row["sd"] or 0.0, row["n"]))
    return sorted(found)


def _counted(counts: Collection[int]) -> str:
    return "" if max(counts) == 1 else f", n = {_range(counts)}"


def _dots(ax: Axes, panel: Panel, varied: Sequence[Measured], shared: Mapping[str, Measured]) -> None:
    scale = style.metric(panel[1]).scale
    models = [line.model for line in varied]
    reach: list[float] = []
    for place, line in enumerate(varied):
        row = line.row(*panel)
        if row is None or row["value"] is None:
            continue
        value, sd = scale * row["value"], scale * (row["sd"] or 0.0)
        look = style.of(line.model, models)
        ax.errorbar(
            value,
            place,
            xerr=sd,
            color=look.colour,
            marker="o",
            markersize=4.5,
            elinewidth=1.4,
            capsize=2,
            linestyle="none",
            label=f"{look.label}{_counted({row['n']})}",
        )
        reach += [value - sd, value + sd]
    ax.set_ylim(len(varied) - 0.4, -0.6)
    ax.locator_params(axis="x", nbins=5)
    _references(ax, panel, shared, reach, across=False)


def _references(ax: Axes, panel: Panel, shared: Mapping[str, Measured], reach: list[float], *, across: bool) -> None:
    """Draws the ensemble and a single member as lines, and sets the limits of the values.

    Args:
        ax: The panel.
        panel: What it shows.
        shared: The models that all variants have in common.
        reach: Values that must be within the limits.
        across: Whether lines are horizontal.
    """
    scale = style.metric(panel[1]).scale
    line, band = (ax.axhline, ax.axhspan) if across else (ax.axvline, ax.axvspan)
    found = {model: shared[model].row(*panel) for model in (ENSEMBLE, SINGLE) if model in shared}
    rows = {model: row for model, row in found.items() if row is not None and row["value"] is not None}
    if ENSEMBLE in rows:
        value = scale * rows[ENSEMBLE]["value"]
        reach.append(value)
        look = style.of(ENSEMBLE)
        line(value, color=look.colour, linewidth=1.1, zorder=1.5, label=shared[ENSEMBLE].label.capitalize())
    low, high = min(reach), max(reach)
    width = high - low or abs(high) or 1.0
    if SINGLE in rows:
        row, look = rows[SINGLE], style.of(SINGLE)
        value, sd = scale * row["value"], scale * (row["sd"] or 0.0)
        if low - _FAR * width <= value <= high + _FAR * width:
            line(value, color=look.colour, linewidth=1.1, zorder=1.4, label=_member_label(row))
            band(value - sd, value + sd, color=look.colour, alpha=0.15, linewidth=0, zorder=1)
            low, high = min(low, value), max(high, value)
        else:
            _name_at_the_border(ax, style.number(row["value"], panel[1]), is_above=value > high, across=across)
    margin = 0.07 * (high - low or abs(high) or 1.0)
    (ax.set_ylim if across else ax.set_xlim)(low - margin, high + margin)


def _member_label(row: Mapping[str, Any]) -> str:
    return f"{style.of(SINGLE).label}{_counted({row['n']})}"


def _name_at_the_border(ax: Axes, value: str, *, is_above: bool, across: bool) -> None:
    """Writes a single member's value where its line would be beyond the panel."""
    if across:
        text, x, y = f"single {value} {'↑' if is_above else '↓'}", 0.98, 0.97 if is_above else 0.03
    else:
        text, x, y = (f"single {value} →", 0.98, 0.02) if is_above else (f"← single {value}", 0.02, 0.02)
    horizontal, vertical = "right" if x > 0.5 else "left", "top" if y > 0.5 else "bottom"
    ax.text(x, y, text, transform=ax.transAxes, fontsize=7, color="#666666", ha=horizontal, va=vertical)


def caption(lines: Sequence[Measured], inside: str, sizes: Mapping[str, int]) -> str:
    """Returns what the picture shows, in sentences.

    Args:
        lines: The study's models.
        inside: The in-domain set.
        sizes: Numbers of inputs of all sets.
    """
    varied = [line for line in lines if line.variant and line.model not in (ENSEMBLE, TEACHER)]
    counts = {row["n"] for line in varied if (row := line.row(inside, "error")) is not None}
    what, over = ("Members", "members") if any(line.model == SINGLE for line in varied) else ("Students", "seeds")
    spread = f"mean ± standard deviation over {over}, n = {_range(counts)}" if max(counts) > 1 else f"n = 1 of {over}"
    sets = [f"{name} ({num:,})" for name, num in sizes.items() if name != inside]
    told = f"; OOD AUROC tells {', '.join(sets)} from them" if sets else ""
    shared = {line.model: line for line in lines if not line.variant}
    drawn = [f"Black line: {shared[ENSEMBLE].label}."] if ENSEMBLE in shared else []
    if SINGLE in shared and (row := shared[SINGLE].row(inside, "error")) is not None:
        drawn.append(f"Grey line and band: single members, mean ± standard deviation, n = {row['n']}.")
    return " ".join(
        [f"{what}, {spread}, on {sizes[inside]:,} {inside} inputs{told}.", *drawn, "↓ lower is better, ↑ higher is."]
    )


def _range(counts: Collection[int]) -> str:
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
