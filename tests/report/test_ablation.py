"""A study's picture: what is drawn where, beside what was measured."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from end2_tf.grid import Axis
from end2_tf.report import ablation, style

COLUMNS = ("error", "nll", "knowledge_rank_correlation", "ood_auroc_total", "ood_auroc_knowledge")
AXIS = Axis("Members", {"2 members": 2, "10 members": 10, "50 members": 50}, is_log=True)


@dataclasses.dataclass(frozen=True)
class Line:
    label: str
    variant: str
    model: str
    rows: dict

    def row(self, dataset, metric):
        found = self.rows.get((dataset, metric))
        return None if found is None else dict(zip(("value", "sd", "n"), found, strict=True))


def _student(variant, error, model="end2_aux", more=None):
    rows = {("validation", "error"): (error, 0.002, 3), ("validation", "nll"): (2 * error, 0.01, 3)}
    rows |= {("ring", "ood_auroc_total"): (0.9, 0.01, 3), ("ring", "ood_auroc_knowledge"): (0.95, 0.02, 3)}
    return Line(f"{variant}: {model}", variant, model, rows | (more or {}))


ENSEMBLE = Line(
    "ensemble of 50",
    "",
    "ensemble",
    {
        ("validation", "error"): (0.08, None, 1),
        ("validation", "nll"): (0.19, None, 1),
        ("ring", "ood_auroc_knowledge"): (0.97, None, 1),
    },
)
SINGLE = Line(
    "one member", "", "single", {("validation", "error"): (0.11, 0.004, 50), ("validation", "nll"): (3.5, 0.1, 50)}
)
LINES = [
    ENSEMBLE,
    SINGLE,
    Line("ensemble of the first 2", "2 members", "teacher", {("validation", "error"): (0.1, None, 1)}),
    _student("2 members", 0.105),
    _student("2 members", 0.12, "end2_nll_aux"),
    _student("10 members", 0.09),
    _student("50 members", 0.082),
    _student("50 members", 0.1, "end2_nll_aux"),
]


@pytest.fixture
def drawn(monkeypatch):
    """Collects figures instead of turning them into PNG."""
    figures: list[Figure] = []
    monkeypatch.setattr(style, "png", lambda fig: figures.append(fig) or b"")
    return figures


def _draw(drawn, lines=LINES, axis=AXIS, sets=("ring",)):
    ablation.draw(lines, title="T", inside="validation", sets=sets, columns=COLUMNS, axis=axis)
    (figure,) = drawn
    return {ax.get_title(): ax for ax in figure.axes if ax.get_title()}


def _points(ax, label):
    """Returns positions, values and the ends of the bars of a curve."""
    (found,) = (c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label() == label)
    ends = np.array([segment for bars in found[2] for segment in bars.get_segments()])
    return *(np.asarray(part, float) for part in found[0].get_data()), ends


def test_curves_are_what_was_measured_with_its_spread(drawn):
    panels = _draw(drawn)
    assert list(panels) == [
        "Error (%) ↓",
        "NLL (nats) ↓",  # no model has a rank correlation, so there is no panel of it
        "ring: AUROC, total (%) ↑",
        "ring: AUROC, knowledge (%) ↑",
    ]
    error = panels["Error (%) ↓"]
    x, y, ends = _points(error, "EnD² + AUX, n = 3")
    assert_allclose(x, [2, 10, 50], rtol=0.05)  # a little aside of the other curves
    assert_allclose(y, [10.5, 9, 8.2])
    assert_allclose(ends[:, :, 1] - y[:, None], [[-0.2, 0.2]] * 3)
    x, y, _ = _points(error, "EnD² (NLL) + AUX, n = 3")
    assert_allclose(y, [12, 10])  # it wasn't trained on 10
    assert error.get_xscale() == "log"
    assert [tick.get_text() for tick in error.get_xticklabels()] == ["2", "10", "50"]


def test_the_teacher_of_all_members_is_the_ensemble(drawn):
    x, y, _ = _points(_draw(drawn)["Error (%) ↓"], "Ensemble of those members")
    assert_allclose(x, [2, 50], rtol=0.05)
    assert_allclose(y, [10, 8])


def test_ensemble_and_member_are_lines_and_a_member_far_off_is_named_at_the_border(drawn):
    panels = _draw(drawn)
    heights = {line.get_label(): line.get_ydata()[0] for line in panels["Error (%) ↓"].get_lines()}
    assert heights["Ensemble of 50"] == pytest.approx(8)
    assert heights["Single member, n = 50"] == pytest.approx(11)
    nll = panels["NLL (nats) ↓"]
    assert not any(line.get_label().startswith("Single") for line in nll.get_lines())
    assert [text.get_text() for text in nll.texts] == ["single 3.500 ± 0.100 ↑"]
    low, high = nll.get_ylim()
    assert low < 0.16 < 0.25 < high < 0.3
    assert not panels["ring: AUROC, total (%) ↑"].texts
    assert not panels["Error (%) ↓"].texts


def test_one_value_far_off_leaves_room_for_the_others_and_is_named(drawn):
    far = {("validation", "nll"): (1.7, 0.3, 3)}
    lines = [line for line in LINES if (line.variant, line.model) != ("2 members", "end2_aux")]
    lines.append(_student("2 members", 0.105, more=far))
    nll = _draw(drawn, lines=[line for line in lines if line.model != "single"])["NLL (nats) ↓"]
    assert [text.get_text().strip() for text in nll.texts] == ["↑ 1.700 ± 0.300"]
    assert nll.texts[0].get_position()[0] == 2
    low, high = nll.get_ylim()
    assert low < 0.154
    assert 0.2 < high < 0.3
    drawn.clear()
    two = {"2 members": 2, "50 members": 50}  # of two places neither is the one that is off
    axis = Axis("Members", two, is_log=True)
    nll = _draw(drawn, lines=[line for line in lines if line.variant in two], axis=axis)["NLL (nats) ↓"]
    assert not nll.texts
    drawn.clear()
    nll = _draw(drawn, lines=lines, axis=None)["NLL ↓"]
    assert [text.get_text() for text in nll.texts] == ["1.700 ± 0.300 →", "single 3.500 ± 0.100 →"]


def test_shares_are_on_a_linear_axis_that_may_begin_at_0(drawn):
    axis = Axis("Share", {"2 members": 0, "10 members": 25, "50 members": 50})
    error = _draw(drawn, axis=axis)["Error (%) ↓"]
    x, _, _ = _points(error, "EnD² + AUX, n = 3")
    assert_allclose(x, [0, 25, 50], atol=1)
    assert error.get_xscale() == "linear"


def test_categories_are_rows_from_top_to_bottom(drawn):
    panels = _draw(drawn, lines=[line for line in LINES if line.model != "teacher"], axis=None)
    error, other = panels["Error ↓"], panels["NLL ↓"]
    assert (error.get_xlabel(), other.get_xlabel()) == ("%", "nats")
    labels = [tick.get_text() for tick in error.get_yticklabels()]
    assert labels == [line.label for line in LINES[3:]]
    assert {tick.get_text() for tick in other.get_yticklabels()} == {""}
    assert error.get_ylim()[0] > error.get_ylim()[1]
    dots = sorted(
        (float(c[0].get_ydata()[0]), float(c[0].get_xdata()[0])) for c in error.containers if len(c[0].get_xdata())
    )
    assert_allclose(dots, [(0, 10.5), (1, 12), (2, 9), (3, 8.2), (4, 10)])
    assert [text.get_text() for text in other.texts] == ["single 3.500 ± 0.100 →"]


def test_without_ood_sets_and_with_many(drawn):
    assert list(_draw(drawn, sets=())) == ["Error (%) ↓", "NLL (nats) ↓"]
    drawn.clear()
    more = {(f"set {i}", "ood_auroc_total"): (0.5, None, 1) for i in range(6)}
    lines = [ENSEMBLE, _student("2 members", 0.1), Line("x", "10 members", "end2", more)]
    panels = _draw(drawn, lines=lines, sets=[f"set {i}" for i in range(6)])
    assert len(panels) == 8
    rows = {title: ax.get_subplotspec().rowspan.start for title, ax in panels.items()}
    assert [rows[f"set {i}: AUROC, total (%) ↑"] for i in range(6)] == [1, 1, 1, 1, 2, 2]
    named = {title for title, ax in panels.items() if ax.get_xlabel()}
    assert named == {f"set {i}: AUROC, total (%) ↑" for i in (2, 3, 4, 5)}


def test_undefined_values_are_left_out(drawn):
    lines = [*LINES, Line("y", "10 members", "end", {("validation", "error"): (None, None, 3)})]
    assert not any("EnD," in c.get_label() for c in _draw(drawn, lines=lines)["Error (%) ↓"].containers)


def test_it_is_wide_enough_for_a_page():
    png = ablation.draw(LINES, title="T", inside="validation", sets=("ring",), columns=COLUMNS, axis=AXIS)
    assert png.startswith(b"\x89PNG")
    assert 1280 <= int.from_bytes(png[16:20], "big") <= 1600


def test_the_caption_says_n_and_what_the_lines_are():
    text = ablation.caption(LINES, "validation", {"validation": 5000, "ring": 2000})
    assert text.startswith(
        "Students, mean ± standard deviation over seeds, n = 3, on 5,000 validation inputs; OOD AUROC"
    )
    assert "tells ring (2,000) from them." in text
    assert "Black line: ensemble of 50." in text
    assert "single members, mean ± standard deviation, n = 50." in text
    once = [Line("a", "a", "end2", {("validation", "error"): (0.1, None, 1)})]
    assert ablation.caption(once, "validation", {"validation": 5}).startswith(
        "Students, one seed each (n = 1), on 5 val"
    )
    members = [Line("a", "a", "single", {("validation", "error"): (0.1, 0.1, 4)})]
    assert ablation.caption(members, "validation", {"validation": 5}).startswith("Members, mean ± standard")


def _boxes(panel):
    """Returns the places of a panel's texts in pixels."""
    panel.figure.draw_without_rendering()
    return [text.get_window_extent() for text in panel.texts]


def test_texts_at_a_border_dont_lie_on_one_another(drawn):
    nll = _draw(drawn, [*LINES[:-1], _student("50 members", 0.95, "end2_nll_aux")])["NLL (nats) ↓"]
    assert sorted(text.get_text().strip() for text in nll.texts) == ["single 3.500 ± 0.100 ↑", "↑ 1.900 ± 0.010"]
    one, other = _boxes(nll)
    assert not one.overlaps(other)


def test_a_member_far_off_has_a_row_of_its_own_below_categories(drawn):
    nll = _draw(drawn, axis=None)["NLL ↓"]
    (box,) = _boxes(nll)
    rows = [c.lines[0].get_ydata()[0] for c in nll.containers if isinstance(c, ErrorbarContainer)]
    assert box.y1 < nll.transData.transform((0, max(rows)))[1]


def test_students_without_auxiliary_data_are_hollow(drawn):
    error = _draw(drawn, [ENSEMBLE, SINGLE, _student("a", 0.09), _student("b", 0.1, "end2")], axis=None)["Error ↓"]
    dots = [c.lines[0] for c in error.containers if isinstance(c, ErrorbarContainer)]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True]
