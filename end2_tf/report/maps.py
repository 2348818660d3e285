"""Maps of the plane for two-dimensional data: who predicts what, and where each kind of uncertainty lives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from end2_tf.errors import DataError
from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_KINDS = ("total", "data", "knowledge")
_RING_LINES: tuple[Any, ...] = ("--", ":", "-.", (0, (1, 4)))
_MOST_POINTS = 1500  # of an overlay; more would hide the map


class Plane:
    """The grid of the map and the points that belong on it."""

    def __init__(self, evaluation: Evaluation) -> None:
        def stored(key: str) -> np.ndarray:
            return evaluation.array("map.npz", key) if evaluation.has("map.npz", key) else np.zeros(0)

        def points(key: str) -> np.ndarray:
            return stored(key).astype(np.float64).reshape(-1, 2)

        self.x, self.y = stored("x").astype(np.float64), stored("y").astype(np.float64)
        self.train, self.train_labels = points("train_inputs"), stored("train_labels").astype(int)
        prefix = "ood/"
        ood = {key[len(prefix) :]: points(key) for key in evaluation.keys("map.npz") if key.startswith(prefix)}
        others = {"auxiliary": points("auxiliary_inputs"), **ood}
        self.others = {name: found for name, found in others.items() if len(found)}

    @property
    def exists(self) -> bool:
        return len(self.x) > 1 and len(self.y) > 1

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Borders of the outer pixels, whose centres are the grid's ends."""
        dx, dy = (self.x[1] - self.x[0]) / 2, (self.y[1] - self.y[0]) / 2
        return (self.x[0] - dx, self.x[-1] + dx, self.y[0] - dy, self.y[-1] + dy)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Returns values on the grid, (y, x, ...), from values in C order of meshgrid(x, y), (y · x, ...).

        Raises:
            DataError: there is not one value per place.
        """
        if len(values) != len(self.x) * len(self.y):
            raise DataError(
                f"map.npz has {len(self.y)} × {len(self.x)} places, but predictions there are {len(values)}. "
                "Delete the evaluation and run it again."
            )
        return values.reshape(len(self.y), len(self.x), *values.shape[1:])

    def rings(self) -> list[tuple[str, float]]:
        """Point sets on a thin ring around the origin (sd of distance below 15 % of its mean), with their radii.

        Rings of nearly the same radius become one, named after all of them.
        """
        found: list[tuple[str, float]] = []
        for name, points in self.others.items():
            distance = np.linalg.norm(points, axis=1)
            radius = float(np.median(distance))
            if distance.std() >= 0.15 * distance.mean():
                continue
            if found and abs(found[-1][1] / radius - 1) < 0.05:
                found[-1] = (f"{found[-1][0]}, {_name(name)}", found[-1][1])
            else:
                found.append((_name(name), radius))
        return found

    def prepare(self, ax: Axes) -> None:
        ax.set_xlim(*self.extent[:2])
        ax.set_ylim(*self.extent[2:])
        ax.set_aspect("equal")
        ax.grid(False)
        ax.locator_params(nbins=5)
        ax.tick_params(labelsize=7)


def data(evaluation: Evaluation, plane: Plane) -> bytes:
    """Draws the training points, auxiliary and OOD inputs, and what ensemble, student and posterior predict."""
    models = _shown(evaluation, "map/probs")
    columns = min(1 + len(models), 2)
    rows = -(-(1 + len(models)) // columns)
    fig = style.figure(3.9 * columns, 3.9 * rows + 0.4, square=True)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[1 + len(models) :]:
        ax.set_axis_off()
    for ax in axes[::columns]:
        ax.set_ylabel("second input")
    for ax in axes[-columns:]:
        ax.set_xlabel("first input")
    _draw_points(axes[0], plane, evaluation.results["class_names"])
    for ax, model in zip(axes[1:], models, strict=False):
        probs = evaluation.probs(model, "map")
        # Mixing the classes' colours by probability shows a border as sharp or soft as the model thinks it.
        colours = np.array([to_rgb(style.class_colour(k)) for k in range(probs.shape[1])])
        mixed = np.clip(probs.astype(np.float64) @ colours, 0, 1)
        ax.imshow(plane.image(mixed), extent=plane.extent, origin="lower")
        ax.set_title(f"{evaluation.label(model)}: prediction")
        plane.prepare(ax)
        _draw_rings(ax, plane)
    return style.png(fig)


def _draw_points(ax: Axes, plane: Plane, class_names: list[Any]) -> None:
    plane.prepare(ax)
    keep = _some(len(plane.train))
    for k in np.unique(plane.train_labels):
        chosen = plane.train[keep][plane.train_labels[keep] == k]
        name = style.class_name(class_names[k] if k < len(class_names) else k)
        ax.plot(*chosen.T, ".", color=style.class_colour(k), markersize=2, label=name)
    for (name, points), colour in zip(plane.others.items(), ("#999999", "#222222", "#CC3311", "#009988"), strict=False):
        ax.plot(*points[_some(len(points))].T, ".", color=colour, markersize=1.5, alpha=0.6, label=_name(name))
    ax.set_title("Training, auxiliary and OOD inputs")
    ax.figure.legend(loc="outside lower center", ncols=4, markerscale=4, handletextpad=0.1, columnspacing=1.2)


def uncertainty(evaluation: Evaluation, plane: Plane) -> bytes:
    """Draws total, data and knowledge uncertainty (columns) of ensemble, student and true posterior (rows)."""
    models = _shown(evaluation, "map/knowledge_uncertainty")
    fig = style.figure(9.6, 3.1 * len(models) + 0.9, square=True)
    grid = fig.subplots(len(models), 3, sharex=True, sharey=True, squeeze=False)
    for column, kind in enumerate(_KINDS):
        maps = {m: evaluation.uncertainty(m, "map", kind) for m in models}
        highest = max(float(np.quantile(v, 0.999)) for v in maps.values())
        for row, model in enumerate(models):
            ax = grid[row, column]
            plane.prepare(ax)
            if row == 0:
                ax.set_title(f"{kind.capitalize()} uncertainty", fontweight="bold")
            if column == 0:
                ax.set_ylabel(evaluation.label(model), fontsize=10, fontweight="bold")
            picture = _draw_map(ax, plane, maps[model], _scale(kind, highest))
            _draw_rings(ax, plane)
        bar = fig.colorbar(picture, ax=grid[:, column], orientation="horizontal", shrink=0.85, aspect=28, pad=0.02)
        bar.set_label("nats (logarithmic)" if kind == "knowledge" else "nats")
    _name_rings(fig, plane)
    return style.png(fig)


def knowledge(evaluation: Evaluation, plane: Plane) -> bytes:
    """Draws knowledge uncertainty of the ensemble and of every student that has it, on one colour scale."""
    models = _with_knowledge(evaluation)
    columns = min(3, len(models))
    rows = -(-len(models) // columns)
    fig = style.figure(3.1 * columns + 0.6, 3.0 * rows, square=True)
    grid = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    maps = {m: evaluation.uncertainty(m, "map", "knowledge") for m in models}
    highest = max(float(np.quantile(v, 0.999)) for v in maps.values())
    for ax, model in zip(grid.flat, models, strict=False):
        plane.prepare(ax)
        ax.set_title(evaluation.label(model))
        picture = _draw_map(ax, plane, maps[model], _scale("knowledge", highest))
        _draw_rings(ax, plane)
    for ax in grid.flat[len(models) :]:
        ax.set_axis_off()
    fig.colorbar(picture, ax=grid, shrink=0.8, aspect=30).set_label("Knowledge uncertainty (nats, logarithmic)")
    _name_rings(fig, plane)
    return style.png(fig)


def has_uncertainty(evaluation: Evaluation) -> bool:
    return bool(_shown(evaluation, "map/knowledge_uncertainty"))


def has_several(evaluation: Evaluation) -> bool:
    """Says whether more than one student has knowledge uncertainty on the map, so that there is a comparison."""
    return sum(style.is_student(m) for m in _with_knowledge(evaluation)) > 1


def _with_knowledge(evaluation: Evaluation) -> list[str]:
    key = "map/knowledge_uncertainty"
    return [m for m in evaluation.pictured if m != "bayes" and evaluation.has_prediction(m, key)]


def _shown(evaluation: Evaluation, key: str) -> list[str]:
    """Returns the models worth a row: ensemble, recommended student, true posterior, where they have `key`."""
    wanted = ("ensemble", evaluation.recommended, "bayes")
    return [m for m in wanted if m in evaluation.pictured and evaluation.has_prediction(m, key)]


def _scale(kind: str, highest: float) -> Normalize:
    """Returns the colour scale: linear from 0; for knowledge uncertainty, which spans decades, three of them."""
    highest = max(highest, 1e-6)
    return LogNorm(highest / 1000, highest) if kind == "knowledge" else Normalize(0, highest)


def _draw_map(ax: Axes, plane: Plane, values: np.ndarray, scale: Normalize) -> Any:
    values = np.maximum(values, scale.vmin or 0.0)  # what is below the scale has its darkest colour
    picture = ax.imshow(plane.image(values), extent=plane.extent, origin="lower", cmap="viridis", norm=scale)
    points = plane.train[_some(len(plane.train))]
    ax.plot(*points.T, ".", color="white", markersize=1.1, alpha=0.3, markeredgewidth=0)
    return picture


def _draw_rings(ax: Axes, plane: Plane) -> None:
    """Draws rings in white with a dark rim, which shows on light and dark maps alike."""
    angle = np.linspace(0, 2 * np.pi, 200)
    rim = [patheffects.withStroke(linewidth=2, foreground="#00000099")]
    for (_, radius), line in zip(plane.rings(), itertools.cycle(_RING_LINES)):
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        ax.plot(x, y, color="white", linewidth=1, linestyle=line, path_effects=rim)


def _name_rings(fig: Figure, plane: Plane) -> None:
    """Adds a legend that tells the rings apart and gives their radii."""
    rings = zip(plane.rings(), itertools.cycle(_RING_LINES))
    handles = [Line2D([], [], color="#333333", linewidth=1, linestyle=line) for _, line in rings]
    labels = [f"{name}, radius {radius:.3g}" for name, radius in plane.rings()]
    if handles:
        fig.legend(handles, labels, loc="outside lower center", ncols=min(4, len(handles)), handlelength=3)


def _name(points: str) -> str:
    return "auxiliary" if points == "auxiliary" else f"OOD {points}"


def _some(count: int) -> np.ndarray:
    """Returns positions of at most `_MOST_POINTS` of `count` points, the same ones every time."""
    return np.sort(np.random.default_rng(0).permutation(count)[:_MOST_POINTS])
