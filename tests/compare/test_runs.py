"""What a comparison reads of a finished run."""

import json

import numpy as np
import pytest
from synthetic_runs import N, compared, full, model, write

from end2_tf import workdir
from end2_tf.compare import page, runs
from end2_tf.errors import ConfigError, DataError, WorkdirError


def test_a_set_that_is_ood_and_shifted_is_no_ood_set(tmp_path):
    run, found = compared(tmp_path, full(), shifted=["ring_800"])
    assert run.ood == ["ring_410"]
    assert all(key[1] != "ring_800" for key in found)


def test_near_and_far_sets(tmp_path):
    known = runs.Finished(write(tmp_path / "known", full())).run
    assert [known.distance(name) for name in known.ood] == ["near", "far"]
    own = runs.Finished(write(tmp_path / "own", full(), data="own_data")).run
    assert [own.distance(name) for name in own.ood] == ["", ""]
    assert own.name == "own_data_mlp"


def test_nll_is_finite_where_a_stored_probability_is_0(tmp_path):
    sure = model(0.2, 1.0)
    for seed in sure:
        seed["test/probs"] = np.eye(3, dtype=np.float32)[seed["test/probs"].argmax(1)]
    run = runs.Finished(write(tmp_path, {"end": sure, "end2": model(0.1, 1.0, 1.0)}))
    nll = run.nll("end")
    assert nll.shape == (3, N)
    assert nll.max() == pytest.approx(149 * np.log(2))  # the least float32 above 0 is 2^-149
    assert nll.min() == 0


def test_nll_is_what_the_evaluation_kept(tmp_path):
    kept = model(0.1, 1.0, 1.0)
    for seed, values in enumerate(kept):
        values["test/nll"] = np.linspace(0, 200 + seed, N)
        values["test/nll"][0] = np.inf
    nll = runs.Finished(write(tmp_path, {"end": model(0.2, 1.0), "end2": kept})).nll("end2")
    assert nll[:, -1].tolist() == [200, 201, 202]
    assert nll[:, 0] == pytest.approx(1074 * np.log(2))  # the least float64 above 0 is 2^-1074


def test_runs_of_own_data_are_told_apart_by_their_files(tmp_path):
    paths = ["some/birds.npz", "other/fish.npz"]
    roots = [write(tmp_path / str(i), full(), data="own_data", path=path) for i, path in enumerate(paths)]
    assert [finished.run.name for finished in runs.read(roots)] == ["own_data_birds_mlp", "own_data_fish_mlp"]


def test_seeds_of_other_lengths_are_refused(tmp_path):
    models = {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)}
    root = write(tmp_path, models)
    models["end"][1]["test/probs"] = models["end"][1]["test/probs"][:5]
    write(tmp_path, {**models, "end": [models["end"][0]] * 3})
    folder = next((root / "evaluation").iterdir())
    workdir.write_npz(folder / "seeds" / "end" / "1.npz", **models["end"][1])
    workdir.Artefact(root, "evaluation", folder.name).finish()
    with pytest.raises(DataError, match=r"seeds of 'end' .* have 5, 600 values"):
        runs.Finished(root).wrong("end")


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    good = write(tmp_path / "good", full())
    with pytest.raises(ConfigError, match="names no workdir"):
        page.build([], tmp_path)
    with pytest.raises(WorkdirError, match=r"has no results\.json, so no run was finished there"):
        runs.read([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="both runs of spirals_mlp"):
        runs.read([good, write(tmp_path / "again", full())])
    with pytest.raises(ConfigError, match="evaluated on its validation split"):
        runs.read([write(tmp_path / "validation", full(), split="validation")])


def test_an_altered_evaluation_is_refused(tmp_path):
    root = write(tmp_path, full())
    folder = next((root / "evaluation").iterdir())
    workdir.write_npz(folder / "predictions" / "end2.npz", **model(0.0, 9.0, 9.0)[0])
    with pytest.raises(WorkdirError, match="was altered or isn't complete"):
        runs.Finished(root)
    results = json.loads((root / "results.json").read_text(encoding="utf-8"))
    workdir.write_json(root / "results.json", results | {"num_members": 6})
    with pytest.raises(WorkdirError, match="is of no evaluation"):
        runs.Finished(root)


def test_the_newest_evaluation_is_not_taken_for_the_current_one(tmp_path):
    root = write(tmp_path, full())
    other = workdir.Artefact(root, "evaluation", "fedcba9876543210")
    workdir.write_json(other.begin() / "results.json", {"rows": []})
    other.finish()
    assert runs.Finished(root).evaluation.folder.name == "0123456789abcdef"
