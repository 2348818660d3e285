"""Students of a later run take their places beside those of the run whose ensemble they share."""

import pytest
from synthetic_runs import QUESTION, full, model, write

from end2_tf.compare import differences, page, runs, saved
from end2_tf.compare.differences import Pair

BROUGHT = {"backbone": "mlp", "models": "zoo/spirals_mlp_ensemble/model.keras"}
LATER = {
    "ensemble": model(0.10, 1.5, 2.5, seeds=1),
    "single": model(0.15, 1.0, seeds=5),
    "end": model(0.10, 1.3),
    "end2": model(0.11, 1.4, 2.4),
}


@pytest.fixture
def earlier(tmp_path):
    """A page of one run, whose EnD and EnD² have one seed."""
    models = full(end=model(0.10, 1.2, seeds=1), end2=model(0.10, 1.4, 2.2, seeds=1))
    root = write(tmp_path / "earlier", models, commit="a" * 40, gaps=[("end2", "nll", 0.1), ("end2_aux", "nll", 0.2)])
    page.build([root], tmp_path / "out", 50)
    return tmp_path / "out" / "end_or_end2.json"


def _later(root, models=LATER, **changes):
    return write(root, models, **{"ensemble": BROUGHT, "commit": "b" * 40, **changes})


def test_students_replace_those_of_the_run_and_the_rest_stays(earlier, tmp_path):
    [(before, found_before)] = saved.read([earlier])
    later = _later(tmp_path / "later", gaps=[("end2", "nll", 0.5)])
    text = page.build([earlier, later], tmp_path / "out", 50).read_text("utf-8")
    [(run, found)] = saved.read([earlier])
    assert run.name == before.name == "spirals_mlp"
    assert run.models == before.models
    assert (run.num_seeds("end"), run.num_seeds("end2"), run.num_seeds("end2_aux")) == (3, 3, 3)
    assert run.value("end2", "error") == pytest.approx(0.11)
    for name in set(before.models) - {"end", "end2"}:
        assert run.value(name, "error") == before.value(name, "error")
    assert {(g.model, g.value) for g in run.gap_closed} == {("end2", 0.5), ("end2_aux", 0.2)}
    of_question = [d for d in found if d.pair == QUESTION]
    assert of_question == [d for d in differences.of(runs.Finished(later), 50) if d.pair == QUESTION]
    assert all(d.outcome != "unknown" for d in of_question)
    assert [d for d in found if d.pair != QUESTION] == [d for d in found_before if d.pair != QUESTION]
    assert [d.pair for d in found] == [d.pair for d in found_before]
    assert (
        "Evaluated at commit aaaaaaa. Of a later run with the same ensemble, evaluated at commit bbbbbbb: EnD, EnD²."
        in (text)
    )


def test_a_page_of_the_joined_run_is_that_page_and_a_whole_run_replaces_it(earlier, tmp_path):
    page.build([earlier, _later(tmp_path / "later")], tmp_path / "out", 50)
    first = (tmp_path / "out" / "end_or_end2.md").read_bytes()
    page.build([earlier], tmp_path / "out", 50)
    assert (tmp_path / "out" / "end_or_end2.md").read_bytes() == first
    whole = write(tmp_path / "whole", full())
    page.build([earlier, whole], tmp_path / "out", 50)
    assert saved.read([earlier])[0][0] == runs.Finished(whole).run


def test_differences_to_a_student_of_the_former_trainings_are_left_out(earlier, tmp_path):
    later = _later(tmp_path / "later", {**LATER, "end2_aux": model(0.10, 1.5, 2.5), "mine": model(0.1, 1.0)})
    page.build([later, earlier], tmp_path / "out", 50)
    [(run, found)] = saved.read([earlier])
    assert run.models[-1] == "mine"
    pairs = {d.pair for d in found}
    assert Pair("end2_aux", "ensemble") in pairs
    assert Pair("end2_nll_aux", "end_aux") in pairs
    assert not pairs & {Pair("end2_aux", "end_aux"), Pair("end2_nll_aux", "end2_aux")}


def test_it_joins_a_run_given_beside_it_in_either_order(tmp_path):
    whole, later = write(tmp_path / "whole", full()), _later(tmp_path / "later")
    for number, roots in enumerate(([whole, later], [later, whole])):
        page.build(roots, tmp_path / f"{number}", 50)
        [(run, _)] = saved.read([tmp_path / f"{number}" / "end_or_end2.json"])
        assert run.value("end2", "error") == pytest.approx(0.11)
        assert run.commits_of == {"end": "b" * 40, "end2": "b" * 40}


def test_students_of_another_length_are_told(earlier, tmp_path):
    later = _later(tmp_path / "later", methods={"end2": {"loss": "mean_precision", "epochs": 9}})
    text = page.build([earlier, later], tmp_path / "out", 50).read_text("utf-8")
    assert "Every student was trained for 7 epochs, but EnD² for 9." in text


@pytest.mark.parametrize(
    "changes",
    [
        {"ensemble": None},  # it trained members of its own
        {"models": {**LATER, "ensemble": model(0.11, 1.5, 2.5, seeds=1)}},
        {"models": {**LATER, "ensemble": model(0.10, 1.5, 2.4, seeds=1)}},
        {"models": {name: found for name, found in LATER.items() if name != "ensemble"}},
        {"num_members": 6},
        {"experiment": "spirals_mlp"},
        {"counts": {"test": 500}},
    ],
    ids=["trained", "other error", "other AUROC", "no ensemble", "other size", "other experiment", "other examples"],
)
def test_a_run_that_is_not_of_the_same_ensemble_joins_none(earlier, tmp_path, changes):
    later = _later(tmp_path / "later", **changes)
    page.build([earlier, later], tmp_path / "out", 50)
    found = [run for run, _ in saved.read([earlier])]
    assert not any(run.commits_of for run in found)
    assert [run.name for run in found] == (
        ["spirals_mlp"] if changes == {"ensemble": None} else ["spirals_mlp", "spirals_own"]
    )


@pytest.mark.parametrize(("change", "joins"), [(0.9, True), (1.1, False)])
def test_an_ensemble_whose_weights_were_rounded_is_the_same(earlier, tmp_path, change, joins):
    [(before, _)] = saved.read([earlier])
    rounded = [("prr", 0.1), ("nll", 0.001)]
    for number, (metric, limit) in enumerate(rounded):
        value = before.value("ensemble", metric) + change * limit
        later = _later(tmp_path / f"later{number}", extra=[("ensemble", "test", metric, value)])
        page.build([earlier, later], tmp_path / f"out{number}", 50)
        found = saved.read([tmp_path / f"out{number}" / "end_or_end2.json"])
        assert bool(found[0][0].commits_of) == joins
