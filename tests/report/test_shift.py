"""The picture of shift by severity: which sets it shows, and where its lines are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.testing import assert_allclose

from end2_tf import report
from end2_tf.report import shift, style, tables
from end2_tf.report.inputs import Evaluation

SEVERITIES = {"c_2": ["all", 2], "c_1": ["all", 1], "c_3": ["all", 3], "fog_4": ["fog", 4], "fog_1": ["fog", 1]}
GROWTH = {"error": 0.1, "nll": 0.2, "ece": 0.02, "knowledge_mean": 0.01}
SPREAD = {"error": 0.01, "nll": None, "ece": 0.001, "knowledge_mean": 0.002}


def _rows() -> list[dict]:
    """Every metric grows by `GROWTH` a severity; the last student has a spread, and knowledge as the ensemble has."""
    rows = []
    for place, model in enumerate(("single", "ensemble", "end", "end2_aux", "bayes")):
        for dataset, (_, severity) in ({"test": ["", 0]} | SEVERITIES | {"jpeg": ["", 1]}).items():
            if model == "bayes" and dataset != "test":
                continue
            for metric, growth in GROWTH.items():
                if metric != "knowledge_mean" or model in ("ensemble", "end2_aux"):
                    sd = SPREAD[metric] if model == "end2_aux" else None
                    value = growth * (1 + severity) + 0.001 * place
                    rows.append(
                        {"model": model, "dataset": dataset, "metric": metric, "value": value, "sd": sd, "n": 3}
                    )
    return rows


def _write(folder: Path, **fields: object) -> Evaluation:
    folder.mkdir(exist_ok=True)
    results = {"rows": _rows(), "severities": SEVERITIES} | fields
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return Evaluation(folder)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects figures instead of turning them into PNG."""
    figures: list[Figure] = []
    monkeypatch.setattr(style, "png", lambda fig: figures.append(fig) or b"")
    return figures


def test_sets_are_grouped_by_shift_and_ordered_by_severity(tmp_path: Path):
    assert _write(tmp_path).shifts == {
        "all": {0: "test", 1: "c_1", 2: "c_2", 3: "c_3"},
        "fog": {0: "test", 1: "fog_1", 4: "fog_4"},
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"severities": {}},
        {"severities": None},  # results of earlier versions
        {"severities": {"c_1": ["all", 1], "fog_1": ["fog", 1]}},  # nothing at two severities
        {"severities": {"c_1": ["all", 1], "lost": ["all", 2]}},  # the other wasn't measured
    ],
)
def test_one_severity_is_no_curve(tmp_path: Path, fields: dict):
    evaluation = _write(tmp_path / "evaluation", **fields)
    assert not shift.has_severities(evaluation)
    report.build(evaluation.folder, tmp_path / "out")
    assert not (tmp_path / "out" / "report").exists()


def test_lines_are_the_rows(tmp_path: Path, drawn: list[Figure]):
    evaluation = _write(tmp_path)
    shift.draw(evaluation)
    panels = drawn[0].axes
    assert len(panels) == 8
    assert [ax.get_title() for ax in panels[:4]] == [
        "Error (%)",
        "NLL (nats)",
        "ECE (%)",
        "Knowledge mean (nats)",
    ]
    assert [panels[3].get_xlabel(), panels[7].get_xlabel()] == ["Severity: all", "Severity: fog"]
    for ax, metric in zip(panels, [*GROWTH] * 2, strict=True):
        severities = np.array([0, 1, 2, 3] if ax in panels[:4] else [0, 1, 4])
        found = {line.get_label(): line.get_xydata() for line in ax.get_lines()}
        models = ("ensemble", "end2_aux") if metric == "knowledge_mean" else ("single", "ensemble", "end", "end2_aux")
        assert set(found) == {evaluation.label(m) for m in models}  # no posterior: it was measured on one set
        for model in models:
            values = [evaluation.value(model, metric, "test")]
            names = ["c_1", "c_2", "c_3"] if ax in panels[:4] else ["fog_1", "fog_4"]
            values += [evaluation.value(model, metric, name) for name in names]
            expected = style.metric(metric).scale * np.array(values)
            assert_allclose(found[evaluation.label(model)], np.stack([severities, expected], axis=1))


def test_bands_are_a_standard_deviation_wide(tmp_path: Path, drawn: list[Figure]):
    evaluation = _write(tmp_path)
    shift.draw(evaluation)
    for ax, metric in zip(drawn[0].axes, [*GROWTH] * 2, strict=True):
        if SPREAD[metric] is None:
            assert not ax.collections
            continue
        (band,) = ax.collections  # of the student alone
        middle = evaluation.value("end2_aux", metric, "test")
        at_zero = [y for x, y in band.get_paths()[0].vertices if x == 0]
        scale = style.metric(metric).scale
        assert_allclose(max(at_zero), scale * (middle + SPREAD[metric]))
        assert_allclose(min(at_zero), scale * (middle - SPREAD[metric]))


def test_a_far_away_nll_flattens_no_other(tmp_path: Path, drawn: list[Figure]):
    rows = [dict(r, value=20 * r["value"]) if (r["model"], r["metric"]) == ("end", "nll") else r for r in _rows()]
    for folder, changed in (("near", _rows()), ("far", rows)):
        shift.draw(_write(tmp_path / folder, rows=changed))
    near, far = (figure.axes[1].get_ylim()[1] for figure in drawn)
    assert near > 0.8  # at severity 3
    assert 0.8 < far < 3
    assert drawn[1].axes[0].get_ylim() == drawn[0].axes[0].get_ylim()


def test_the_table_shows_the_strongest_and_sets_of_no_severity(tmp_path: Path):
    heads, lines = tables.shifted(_write(tmp_path))
    assert list(dict.fromkeys(column.group for column in heads)) == ["test", "c_3", "fog_4", "jpeg"]
    assert [line.cells[4].text for line in lines] == ["40.00", "40.10", "40.20", "40.30"]


def test_on_the_page(tmp_path: Path):
    evaluation = _write(tmp_path / "evaluation")
    text = report.build(evaluation.folder, tmp_path / "out").read_text(encoding="utf-8")
    assert "Does it notice when inputs change?" in text
    assert "on the test set, severity 0" in text
    (target,) = re.findall(r'<a href="#([^"]*)">drawn below</a>', text)
    assert f'<h2 id="{target}">Does it notice when inputs change?' in text
    pixels = imread(tmp_path / "out" / "report" / "shift.png")[..., :3]
    assert 1000 < pixels.shape[1] <= 1700
    assert 0.02 < np.mean(pixels.min(axis=-1) < 0.9) < 0.95
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert border.min() == 1.0
