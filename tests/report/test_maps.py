"""The plane: orientation, rings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from end2_tf.errors import DataError
from end2_tf.report import maps
from end2_tf.report.inputs import Evaluation


def _plane(folder: Path, **arrays: np.ndarray) -> maps.Plane:
    (folder / "results.json").write_text(json.dumps({"rows": []}), encoding="utf-8")
    x, y = np.linspace(-2, 2, 5), np.linspace(0, 3, 4)
    np.savez(folder / "map.npz", **{"x": x, "y": y, "train_inputs": np.zeros((0, 2)), **arrays})
    return maps.Plane(Evaluation(folder))


def _ring(radius: float, spread: float = 0.02) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 50)
    r = radius * (1 + spread * np.sin(7 * angle))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def test_only_knowledge_uncertainty_is_logarithmic():
    """A share of the colours each: linear from 0, or three decades; the true posterior's 0 is the darkest."""
    linear, decades = maps._scale("data", 0.5), maps._scale("knowledge", 0.5)
    assert linear(0.25) == pytest.approx(0.5)
    assert decades(0.5 / 1000**0.5) == pytest.approx(0.5)
    assert decades.vmin == pytest.approx(0.0005)


def test_a_value_is_drawn_where_its_input_is(tmp_path: Path):
    plane = _plane(tmp_path)
    grid = np.stack(np.meshgrid(plane.x, plane.y), axis=-1).reshape(-1, 2)
    for place in ([2.0, 0.0], [-2.0, 3.0], [1.0, 2.0]):
        values = (grid == place).all(axis=1).astype(float)
        picture = maps._draw_map(Figure().subplots(), plane, values, maps._scale("total", 1.0))
        row, column = np.argwhere(picture.get_array() == 1.0)[0]
        left, right, bottom, top = picture.get_extent()
        assert picture.origin == "lower"
        assert left + (column + 0.5) * (right - left) / 5 == pytest.approx(place[0])
        assert bottom + (row + 0.5) * (top - bottom) / 4 == pytest.approx(place[1])


def test_rings_are_found_and_equal_ones_joined(tmp_path: Path):
    blob = np.random.default_rng(0).standard_normal((50, 2))
    arrays = {"auxiliary_inputs": _ring(10.0), "ood/near": _ring(10.2), "ood/far": _ring(20.0), "ood/blob": blob}
    rings = _plane(tmp_path, **arrays).rings()
    assert [name for name, _ in rings] == ["auxiliary, OOD near", "OOD far"]
    assert [radius for _, radius in rings] == pytest.approx([10.0, 20.0], rel=0.03)


def test_predictions_that_do_not_fit_the_grid(tmp_path: Path):
    with pytest.raises(DataError, match=r"4 × 5 places, but predictions there are 19.*run it again"):
        _plane(tmp_path).image(np.zeros(19))


def test_no_auxiliary_inputs(tmp_path: Path):
    plane = _plane(tmp_path, auxiliary_inputs=np.zeros((0, 2)))
    assert plane.exists
    assert plane.others == {}
    assert plane.rings() == []


def test_every_class_has_its_name_in_the_legend(tmp_path: Path):
    plane = _plane(tmp_path, train_inputs=np.zeros((3, 2)), train_labels=np.arange(3))
    ax = Figure().subplots()
    maps._draw_points(ax, plane, ["_x", "1", "bag"])
    (legend,) = ax.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["class _x", "class 1", "bag"]
