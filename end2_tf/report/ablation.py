"""A study's picture: each metric against what was varied, beside the ensemble and a single member.

A quantity goes along the horizontal axis, a curve a method; categories are rows, a dot each. Spreads are standard
deviations over students (seeds), or over members where a member stands for all. A hollow dot is, like a dashed curve, a
student that saw no auxiliary data.
"""

from __future__ import annotations

import dataclasses
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

_NARROW = 0.005  # of values closer together ticks have four decimals, and fewer have room
_COLUMNS = 4  # panels beside one another
_WIDTH = 9.8  # inches; at 150 a page's 1280 pixels show it at 87 %
_ROW = 0.2  # inches a category
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_APART = 0.012  # of the axis: what curves are moved by, so that their bars don't lie on one another
_FAR = 0.8  # of the range of the others: a value farther away than this is named at the border instead
_ROOM = 0.11  # of the range: what a line of text at the border takes
_LINE = 0.8  # categories: what a line of text below them may take
_SMALL = 0.3  # of the range: where all but one place have less than this, that place is outside
_NOTE: dict[str, Any] = {"fontsize": 7, "bbox": {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8}}
_ARROWS = {-1: " ↓", 0: "", 1: " ↑"}


_READING = "In titles, ↓ says that lower is better, ↑ that higher is; a number with an arrow in a panel lies beyond it."


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
        rows = sum(-(-len(group) // _COLUMNS) for group in groups)
        height = 1.95 if axis is not None else 0.75 + _ROW * len(varied)
        fig = style.figure(_WIDTH, rows * height + 0.9)
        num_columns = min(_COLUMNS, max(map(len, groups)))
        grid = fig.subplots(rows, num_columns, squeeze=False)
        places = _places(groups)
        for position, ax in enumerate(grid.flat):
            row, column = divmod(position, num_columns)
            panel = places.get((row, column))
            if panel is None:
                ax.set_axis_off()
                continue
            _title(ax, panel, inside, with_unit=axis is not None)
            if axis is not None:
                _curves(ax, panel, varied, shared, axis)
                if (row + 1, column) not in places:
                    ax.set_xlabel(axis.label, fontsize=8)
            else:
                _dots(ax, panel, varied, shared)
                ax.set_yticks(range(len(varied)), [line.label if column == 0 else "" for line in varied])
        handles = {str(h.get_label()): h for ax in fig.axes for h in ax.get_legend_handles_labels()[0]}
        fig.suptitle(title, fontsize=10.5)
        fig.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, handlelength=2.6)
        return style.png(fig)


def _values(lines: Sequence[Measured], panel: Panel) -> list[float]:
    rows = (line.row(*panel) for line in lines)
    return [row["value"] for row in rows if row is not None and row["value"] is not None]


def _places(groups: Sequence[Sequence[Panel]]) -> dict[tuple[int, int], Panel]:
    """Returns where each panel is, (row, column); a group begins in a new row."""
    found: dict[tuple[int, int], Panel] = {}
    row = 0
    for group in groups:
        for number, panel in enumerate(group):
            found[row + number // _COLUMNS, number % _COLUMNS] = panel
        row += -(-len(group) // _COLUMNS)
    return found


def _title(ax: Axes, panel: Panel, inside: str, *, with_unit: bool) -> None:
    """Writes what a panel shows; its unit belongs there where the axis of the values has no room for it."""
    dataset, metric = panel
    how = style.metric(metric)
    label = how.label if dataset == inside else f"{dataset}: {how.label.removeprefix('OOD ')}"
    unit = f" ({how.unit})" if how.unit and with_unit else ""
    ax.set_title(f"{label}{unit}{_ARROWS[how.better]}", fontsize=8.5)
    if not with_unit:
        ax.set_xlabel(how.unit, fontsize=8)


@dataclasses.dataclass(frozen=True)
class _Point:
    """One value of one model: where it is along the varied axis, and its metric in the unit of the panel."""

    place: float
    value: float
    sd: float  # 0 where there is none
    n: int
    colour: str

    @property
    def ends(self) -> tuple[float, float]:
        return self.value - self.sd, self.value + self.sd


def _point(line: Measured, panel: Panel, place: float, colour: str) -> _Point | None:
    row = line.row(*panel)
    if row is None or row["value"] is None:
        return None
    scale = style.metric(panel[1]).scale
    return _Point(place, scale * row["value"], scale * (row["sd"] or 0.0), row["n"], colour)


def _curves(ax: Axes, panel: Panel, varied: Sequence[Measured], shared: Mapping[str, Measured], axis: Axis) -> None:
    models = [model for model in style.in_order(line.model for line in varied) if model != ENSEMBLE]
    low, high = min(axis.positions.values()), max(axis.positions.values())
    if axis.is_log:
        ax.set_xscale("log")
    drawn: list[_Point] = []
    for number, model in enumerate(models):
        look = style.of(model, models)
        placed = [(line, axis.positions[line.variant]) for line in varied if line.model == model]
        if model == TEACHER and ENSEMBLE in shared:  # of all members it is the ensemble
            placed.append((shared[ENSEMBLE], high))
        placed.sort(key=lambda pair: pair[1])
        points = [p for line, x in placed if (p := _point(line, panel, x, look.colour)) is not None]
        if not points:
            continue
        aside = _APART * (number - (len(models) - 1) / 2)
        moved = [p.place * (high / low) ** aside if axis.is_log else p.place + aside * (high - low) for p in points]
        label = "Ensemble of those members" if model == TEACHER else look.label
        ax.errorbar(
            moved,
            [p.value for p in points],
            yerr=[p.sd for p in points],
            color=look.colour,
            linestyle=look.line,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=1.1,
            capsize=2,
            label=f"{label}{_counted({p.n for p in points})}",
        )
        drawn += points
    positions = sorted(axis.positions.values())
    ax.set_xticks(positions, [f"{x:.0f}" if x >= 10 else f"{x:.3g}" for x in positions])  # a third beside 25 % has room
    ax.xaxis.set_minor_locator(NullLocator())
    _finish(ax, panel, shared, drawn, across=True)


def _counted(counts: Collection[int]) -> str:
    return "" if max(counts) == 1 else f", n = {_range(counts)}"


def _range(counts: Collection[int]) -> str:
    return f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _dots(ax: Axes, panel: Panel, varied: Sequence[Measured], shared: Mapping[str, Measured]) -> None:
    models = [line.model for line in varied]
    drawn: list[_Point] = []
    for place, line in enumerate(varied):
        look = style.of(line.model, models)
        point = _point(line, panel, place, look.colour)
        if point is None:
            continue
        ax.errorbar(
            point.value,
            place,
            xerr=point.sd,
            color=look.colour,
            marker="o",
            markersize=4.5,
            markerfacecolor=look.colour if look.line == "-" else "white",
            elinewidth=1.4,
            capsize=2,
            linestyle="none",
            label=f"{look.label}{_counted({point.n})}",
        )
        drawn.append(point)
    ax.set_ylim(len(varied) - 0.4 + (_LINE if SINGLE in shared else 0.0), -0.6)  # alike in all panels of a row
    _finish(ax, panel, shared, drawn, across=False)
    low, high = ax.get_xlim()
    steps = [1, 2, 5, 10]  # 2.5 would take a further decimal, for which five ticks have no room
    ax.locator_params(axis="x", nbins=5 if high - low > _NARROW else 3, steps=steps)


def _finish(ax: Axes, panel: Panel, shared: Mapping[str, Measured], drawn: Sequence[_Point], *, across: bool) -> None:
    """Draws the ensemble and a single member as lines, and sets the limits of the values.

    What would leave too little room for the rest is outside them: a single member far off, and the points of one place.

    Args:
        ax: The panel.
        panel: What it shows.
        shared: The models that all variants have in common.
        drawn: The points.
        across: Whether values are along the vertical axis, and lines horizontal.
    """
    line, band = (ax.axhline, ax.axhspan) if across else (ax.axvline, ax.axvspan)
    found = {model: _point(shared[model], panel, 0, "") for model in (ENSEMBLE, SINGLE) if model in shared}
    ensemble, single = found.get(ENSEMBLE), found.get(SINGLE)
    always = []
    if ensemble is not None:
        look = style.of(ENSEMBLE)
        line(ensemble.value, color=look.colour, linewidth=1.1, zorder=1.5, label=shared[ENSEMBLE].label.capitalize())
        always = [ensemble.value]
    outlier = _outlier(drawn, always)
    reach = [*always, *(end for point in drawn if point.place != outlier for end in point.ends)]
    low, high = min(reach), max(reach)
    reach += [p.value for p in drawn if p.place == outlier and _is_near(p.value, low, high)]
    low, high = min(reach), max(reach)
    far_single = None
    if single is not None:
        look = style.of(SINGLE)
        if _is_near(single.value, low, high):
            label = f"{look.label}{_counted({single.n})}"
            line(single.value, color=look.colour, linewidth=1.1, zorder=1.4, label=label)
            band(*single.ends, color=look.colour, alpha=0.15, linewidth=0, zorder=1)
            low, high = min(low, single.value), max(high, single.value)
        else:
            far_single = single
    width = high - low or abs(high) or 1.0
    above, below = (
        [p for p in drawn if p.place == outlier and is_beyond(p.value)]
        for is_beyond in (lambda value: value > high + 0.07 * width, lambda value: value < low - 0.07 * width)
    )
    room = _ROOM if across else 0.0  # for a value written at the border
    is_far_above = far_single is not None and far_single.value > high
    texts = [len(below) + (far_single is not None and not is_far_above), len(above) + is_far_above]
    (ax.set_ylim if across else ax.set_xlim)(
        low - (0.07 + room * texts[0]) * width, high + (0.07 + room * texts[1]) * width
    )
    for is_above, named in ((True, above), (False, below)):
        for number, point in enumerate(sorted(named, key=lambda p: p.value, reverse=is_above)):
            _name_point(ax, point, _printed(point, panel), number, is_above=is_above, across=across)
    if far_single is not None:
        taken = len(above if is_far_above else below)
        _name_single(ax, _printed(far_single, panel), taken, is_above=is_far_above, across=across)


def _is_near(value: float, low: float, high: float) -> bool:
    width = high - low or abs(high) or 1.0
    return low - _FAR * width <= value <= high + _FAR * width


def _outlier(drawn: Sequence[_Point], always: Sequence[float]) -> float | None:
    """Returns the place without whose points all others, and `always`, have a small share of the range; or None."""
    found: list[tuple[float, float]] = []
    for place in {point.place for point in drawn}:
        kept = [*always, *(end for point in drawn if point.place != place for end in point.ends)]
        if len({point.place for point in drawn}) > 2:
            found.append((max(kept) - min(kept), place))
    everything = [*always, *(end for point in drawn for end in point.ends)]
    width, place = min(found, default=(np.inf, 0.0))
    return place if width < _SMALL * (max(everything) - min(everything)) else None


def _printed(point: _Point, panel: Panel) -> str:
    digits = style.metric(panel[1]).digits
    spread = f" ± {point.sd:.{digits}f}" if point.sd else ""
    return f"{point.value:.{digits}f}{spread}"


def _name_single(ax: Axes, value: str, taken: int, *, is_above: bool, across: bool) -> None:
    """Writes a single member's value where its line would be beyond the panel.

    Below the `taken` values that stand at that border, or in a row of its own below the categories.
    """
    if across:
        text, x, y = f"single {value} {'↑' if is_above else '↓'}", 0.98, _height(taken, is_above=is_above)
        vertical = "center"
    else:
        text, x, y = (f"single {value} →", 0.98, 0.02) if is_above else (f"← single {value}", 0.02, 0.02)
        vertical = "bottom"
    horizontal = "right" if x > 0.5 else "left"
    ax.text(x, y, text, transform=ax.transAxes, color="#666666", ha=horizontal, va=vertical, **_NOTE)


def _height(number: int, *, is_above: bool) -> float:
    """Returns where the `number`th text at the upper or lower border stands, a share of the panel's height."""
    return 0.95 - 0.09 * number if is_above else 0.05 + 0.09 * number


def _name_point(ax: Axes, point: _Point, value: str, number: int, *, is_above: bool, across: bool) -> None:
    """Writes a point's value at the border that it is beyond, the `number`th of its place."""
    if across:
        low, high = ax.get_xlim()
        is_left = point.place < (np.sqrt(low * high) if ax.get_xscale() == "log" else (low + high) / 2)
        text = f" {'↑' if is_above else '↓'} {value} "
        y = _height(number, is_above=is_above)
        where, horizontal = ax.get_xaxis_transform(), "left" if is_left else "right"
        ax.text(point.place, y, text, transform=where, color=point.colour, ha=horizontal, va="center", **_NOTE)
    else:
        x, text = (0.99, f"{value} →") if is_above else (0.01, f"← {value}")
        where, horizontal = ax.get_yaxis_transform(), "right" if is_above else "left"
        ax.text(x, point.place, text, transform=where, color=point.colour, ha=horizontal, va="center", **_NOTE)


def caption(lines: Sequence[Measured], inside: str, sizes: Mapping[str, int]) -> str:
    """Returns what the picture shows, in sentences.

    Args:
        lines: The study's models.
        inside: The in-domain set.
        sizes: Numbers of inputs of all sets.
    """
    varied = [line for line in lines if line.variant and line.model not in (ENSEMBLE, TEACHER)]
    counts = {row["n"] for line in varied if (row := line.row(inside, "error")) is not None}
    what, over = ("Members", "member") if any(line.model == SINGLE for line in varied) else ("Students", "seed")
    spread = f"one {over} each (n = 1)"
    if max(counts) > 1:
        spread = f"mean ± standard deviation over {over}s, n = {_range(counts)}"
    sets = [f"{name} ({num:,})" for name, num in sizes.items() if name != inside]
    told = f"; OOD AUROC tells {', '.join(sets)} from them" if sets else ""
    shared = {line.model: line for line in lines if not line.variant}
    drawn = [f"Black line: {shared[ENSEMBLE].label}."] if ENSEMBLE in shared else []
    if SINGLE in shared and (row := shared[SINGLE].row(inside, "error")) is not None:
        drawn.append(f"Grey line and band: single members, mean ± standard deviation, n = {row['n']}.")
    return " ".join([f"{what}, {spread}, on {sizes[inside]:,} {inside} inputs{told}.", *drawn, _READING])
