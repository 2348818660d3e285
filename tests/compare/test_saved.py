"""A page's .json stands for the runs that it was made of."""

import json

import pytest
from synthetic_runs import full, model, write

from end2_tf.compare import differences, page, runs, saved
from end2_tf.errors import ConfigError, DataError


def _contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_page_of_an_earlier_page_is_that_page(tmp_path):
    extra = [("end2_aux", "test", "knowledge_rank_correlation", 0.93)]
    gaps = [("end2_aux", "error", 0.9), ("end2_aux", "nll", None)]
    roots = [
        write(tmp_path / "a", full(), extra=extra, gaps=gaps, kept=2),
        write(tmp_path / "b", full(), data="cifar10", ensemble={"models": "members/*.keras"}),
    ]
    page.build(roots, tmp_path / "first", 50)
    page.build([tmp_path / "first" / "end_or_end2.json"], tmp_path / "second", 50)
    first = _contents(tmp_path / "first")
    assert sorted(first) == ["end_or_end2.csv", "end_or_end2.json", "end_or_end2.md", "end_or_end2.png"]
    assert _contents(tmp_path / "second") == first


def test_a_workdir_adds_its_run_or_replaces_an_earlier_one(tmp_path):
    roots = [write(tmp_path / "a", full()), write(tmp_path / "b", full(), data="cifar10")]
    page.build(roots, tmp_path / "out", 50)
    again = write(tmp_path / "again", full(end=model(0.30, 1.2)))
    third = write(tmp_path / "third", full(), data="mnist")
    kept = tmp_path / "out" / "end_or_end2.json"
    page.build([third, kept, again], tmp_path / "out", 50)
    found = saved.read([kept])
    assert [run.name for run, _ in found] == ["spirals_mlp", "cifar10_mlp", "mnist_mlp"]
    assert found[0][0].value("end", "error") == pytest.approx(0.30)
    assert found[0][1] == differences.of(runs.Finished(again), 50)


def test_two_pages_of_one_run_are_refused(tmp_path):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    for name in ("a", "b"):
        page.build([root], tmp_path / name, 50)
    with pytest.raises(ConfigError, match=r"a.end_or_end2\.json and .*b.end_or_end2\.json both have a run of spirals"):
        page.build([tmp_path / name / "end_or_end2.json" for name in ("a", "b")], tmp_path / "out", 50)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), r"is no comparison of schema 1\. Give the end_or_end2\.json of a"),
        (lambda content: content.update(runs=3), "doesn't hold what it should"),
        (lambda content: content["runs"][0].pop("run"), r"0\.run: Field required"),
        (lambda content: content["runs"][0]["run"].update(scores={"end": "epkl"}), r"scores\.end: .*'knowledge'"),
        (lambda content: content["runs"][0]["run"].update(name="a\nb"), r"run\.name: it is .*can't be a name"),
        (lambda content: content["runs"][0]["differences"][0].update(pair=["end"]), r"differences\.0\.pair"),
    ],
)
def test_files_that_no_page_wrote_are_refused(tmp_path, change, message):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    page.build([root], tmp_path / "out", 50)
    path = tmp_path / "out" / "end_or_end2.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    before = _contents(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        page.build([path], tmp_path / "out", 50)
    assert _contents(tmp_path / "out") == before
