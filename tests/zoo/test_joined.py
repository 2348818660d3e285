"""Students of a published ensemble: they join its entries."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from end2_tf import config, ensemble, zoo
from end2_tf.errors import ZooError
from end2_tf.zoo import joined, publish

GROUP = "fashion_mnist_cnn"
STUDENT, SIBLING, ENSEMBLE = (f"{GROUP}_{method}" for method in ("end2_aux", "end", "ensemble"))


def _contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def later(zoo_copy, image_run, tmp_path):
    """A run on the published ensemble, with one student, which has another error than the published one."""
    path = zoo_copy / ENSEMBLE / "model.keras"
    experiment = config.override(
        image_run.experiment,
        {"ensemble.models": str(path), "student.methods": "end2_aux", "methods.end2_aux.offset": 0.5},
    )
    folder = shutil.copytree(image_run.evaluation, tmp_path / "evaluation")
    results = json.loads((folder / "results.json").read_text())
    results["command"] = f"python main.py --experiment=trial --set ensemble.models={path}"
    for row in results["rows"]:
        if (row["model"], row["dataset"], row["metric"]) == ("end2_aux", "test", "error"):
            row["value"] = 0.125
    (folder / "results.json").write_text(json.dumps(results))
    return dataclasses.replace(
        image_run,
        experiment=experiment,
        ensemble=ensemble.load(str(path)),
        students={"end2_aux": image_run.students["end2_aux"]},
        evaluation=folder,
    )


def _joining(run, zoo_dir):
    told = joined.find(run.experiment, run.ensemble, zoo_dir)
    assert told is not None
    return dataclasses.replace(run, experiment=told, joins=True)


def test_members_are_told_as_their_entry_tells_them(zoo_copy, later, image_run):
    told = joined.find(later.experiment, later.ensemble, zoo_copy)
    assert told == dataclasses.replace(later.experiment, ensemble=image_run.experiment.ensemble)


def test_who_does_not_join(zoo_copy, later, image_run, plane_run, tmp_path):
    assert joined.find(image_run.experiment, image_run.ensemble, zoo_copy) is None  # it trained members
    assert joined.find(later.experiment, image_run.ensemble, zoo_copy) is None  # not rounded: not those published
    assert joined.find(later.experiment, plane_run.ensemble, zoo_copy) is None
    assert joined.find(later.experiment, ensemble.Ensemble(list(later.ensemble)), zoo_copy) is None
    assert joined.find(later.experiment, later.ensemble, tmp_path / "no zoo") is None
    own = config.override(later.experiment, {"data.name": "own_data", "data.path": "clothes.npz"})
    assert joined.find(own, later.ensemble, zoo_copy) is None


def test_an_altered_entry_is_named(zoo_copy, later):
    path = zoo_copy / ENSEMBLE / "config.json"
    path.write_text(path.read_text().replace('"epochs": 50', '"epochs": 60', 1) + " ")
    with pytest.raises(ZooError, match=f"{ENSEMBLE}/config.json (was altered|has)"):
        joined.find(later.experiment, later.ensemble, zoo_copy)


def test_a_later_runs_students_take_the_place_of_earlier_ones_and_nothing_else_changes(zoo_copy, later, tmp_path):
    before = _contents(zoo_copy)
    assert publish.publish(_joining(later, zoo_copy), zoo_copy) == publish.Published([STUDENT], [])
    after = _contents(zoo_copy)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {name.split("/")[0] for name in changed} == {STUDENT, "README.md", "results.csv", "index.json"}
    card = (zoo_copy / STUDENT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| **this: "))
    assert "| 12.50 |" in line
    for method in ("Ensemble", "Single member"):  # rows of the entries that were there
        assert f"| {method} |" in card
    assert "offset of alphas 0.5" in card
    assert "Its network isn't the members'" not in card
    assert f"--set ensemble.models=zoo/{ENSEMBLE}/model.keras" in card
    assert str(tmp_path) not in card
    old, new = ([line for line in files["results.csv"].decode().splitlines()] for files in (before, after))
    assert [line for line in new if STUDENT not in line] == [line for line in old if STUDENT not in line]
    assert sum(STUDENT in line and ",test,error,0.125," in line for line in new) == 1
    for name in zoo.list(source=zoo_copy):
        zoo.check(name, source=zoo_copy)


def test_cards_of_what_is_compared_with_a_new_student_show_its_results(zoo_copy, later):
    """`single_matched` stands on every card of its group."""
    path = later.evaluation / "results.json"
    results = json.loads(path.read_text())
    predictions = later.evaluation / "predictions"
    shutil.copy(predictions / "end.npz", predictions / "single_matched.npz")

    def publish_matched(error):
        rows = [row | {"model": "single_matched"} for row in results["rows"] if row["model"] == "end"]
        for row in rows:
            if (row["dataset"], row["metric"]) == ("test", "error"):
                row["value"] = error
        others = [row for row in results["rows"] if row["model"] != "single_matched"]
        path.write_text(json.dumps(results | {"rows": others + rows}))
        run = dataclasses.replace(
            later,
            experiment=config.override(later.experiment, {"student.methods": "single_matched"}),
            students={"single_matched": later.students["end2_aux"]},
            seconds={**later.seconds, "single_matched": 1.0},
        )
        assert publish.publish(_joining(run, zoo_copy), zoo_copy).entries == [f"{GROUP}_single_matched"]

    publish_matched(0.25)
    for error in (0.25, 0.375):
        publish_matched(error)
        for name in (n for n in zoo.list(source=zoo_copy) if n.startswith(GROUP)):
            zoo.check(name, source=zoo_copy)
            card = (zoo_copy / name / "README.md").read_text(encoding="utf-8")
            assert f" | {100 * error:.2f} | " in card, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": {"test": 50}}, f"test has 50 examples in this run and 60 in {ENSEMBLE}"),
        ({"nll": 0.01}, rf"the ensemble's NLL on test is \d\.\d+ in this run and \d\.\d+ in {ENSEMBLE}"),
    ],
)
def test_what_was_tested_on_other_data_is_refused_and_nothing_changes(zoo_copy, later, change, message):
    path = later.evaluation / "results.json"
    results = json.loads(path.read_text())
    results["counts"] |= change.get("counts", {})
    for row in results["rows"]:
        if (row["model"], row["dataset"], row["metric"]) == ("ensemble", "test", "nll"):
            row["value"] += change.get("nll", 0.0)
    path.write_text(json.dumps(results))
    before = _contents(zoo_copy)
    with pytest.raises(ZooError, match=message):
        publish.publish(_joining(later, zoo_copy), zoo_copy)
    assert _contents(zoo_copy) == before


def test_rounded_weights_move_the_nll_less_than_is_allowed(zoo_copy, later, image_run):
    test = image_run.data.test
    exact, rounded = (
        -np.mean(np.log(each.uncertainty(test.inputs)["probs"][np.arange(len(test)), test.labels]))
        for each in (image_run.ensemble, later.ensemble)
    )
    assert 0 < abs(exact - rounded) < joined._ROUNDED
