"""The page, its files, and the command that writes them."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_runs import QUESTION, compared, full, model, write

from end2_tf import cli
from end2_tf.compare import answer, page, runs, targets
from end2_tf.compare.differences import Pair

ROOT = Path(__file__).resolve().parents[2]


def test_the_ensemble_counts_as_given_but_a_student_of_one_seed_tells_nothing(tmp_path):
    models = full(end2_aux=model(0.2, 1.0, 1.0), end_aux=model(0.1, 1.4, seeds=1))
    run, found = compared(tmp_path, models)
    assert found[Pair("end2_aux", "ensemble"), "test", "error", ""].outcome == "loses"
    for key, difference in found.items():
        if "end_aux" in key[0]:
            assert difference.spread is None
            assert difference.outcome == "unknown"
    table = page.difference_table(run, list(found.values()))
    column = table[0].index("EnD² + AUX − EnD + AUX")
    assert table[1][column].startswith("+10.00<br>[")  # no mark
    text = " ".join(answer.of_run(run, list(found.values())))
    assert "With auxiliary data, EnD² against EnD: isn't judged (one seed) on error (+10.00 points)" in text


def test_missing_methods_are_skipped(tmp_path):
    models = {name: full()[name] for name in ("ensemble", "single", "end", "end2", "end2_proxy")}
    run, found = compared(tmp_path, models | {"mine": model(0.1, 1.0, 1.0)})
    assert run.models == ["ensemble", "single", "end", "end2_proxy", "end2", "mine"]
    assert {key[0] for key in found} == {QUESTION}
    text = page.page([(run, list(found.values()))], {run.name: targets.checks(run)}, False)
    assert "Without auxiliary data, EnD² against EnD" in text
    assert "With auxiliary data" not in text


@pytest.mark.parametrize("brought", [{"models": "members/*.keras"}, {"predictions": "said.npz"}])
def test_members_that_were_brought_are_said_to_be(tmp_path, brought):
    ensemble = {"backbone": "auto", **brought}
    root = write(tmp_path / "run", {"end": model(0.1, 1.0), "end2": model(0.1, 1.0, 1.0)}, ensemble=ensemble)
    text = page.build([root], tmp_path / "out", 50).read_text(encoding="utf-8")
    assert "an ensemble of 5 networks that were brought, not trained here." in text
    assert "(auto)" not in text


def test_the_labels_in_students_targets_are_told(tmp_path):
    methods = {
        "single_matched": {"loss": "cross_entropy"},
        "end": {"loss": "ensemble_distillation", "labels": 0.3},
        "end2_nll": {"loss": "dirichlet_nll", "labels": 0.0},
        "end2": {"loss": "mean_precision", "labels": 0.3},
    }
    models = {name: found for name, found in full().items() if name in methods}
    text = page.build([write(tmp_path / "run", models, methods=methods)], tmp_path / "out", 50).read_text("utf-8")
    assert "The label's share in the target of the mean: 0.3 for EnD, EnD²; 0 for EnD² (NLL)." in text
    none = {name: {**method, "labels": 0.0} for name, method in methods.items()}
    text = page.build([write(tmp_path / "none", models, methods=none)], tmp_path / "out", 50).read_text("utf-8")
    assert "The label's share" not in text


def test_build_writes_page_numbers_and_picture(tmp_path):
    roots = [write(tmp_path / "a", full()), write(tmp_path / "b", full(), data="cifar10", command="x --smoke")]
    out = tmp_path / "pages"
    assert page.build(roots, out, 50) == out / "end_or_end2.md"
    text = (out / "end_or_end2.md").read_text(encoding="utf-8")
    assert text.startswith("# EnD or EnD²?")
    assert (
        "**Yes: EnD², by knowledge uncertainty, tells OOD inputs better than EnD, by total, in every comparison" in text
    )
    assert "![AUROC of every method on every OOD set](end_or_end2.png)" in text
    assert "## spirals_mlp" in text
    assert text.count("A smoke run") == 1
    line = next(line for line in text.splitlines() if line.startswith("| EnD + AUX (n 3)"))
    assert line.split(" | ")[1] == "10.00 ± 0.00"
    assert "**pass**" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")
    rows = list(csv.DictReader((out / "end_or_end2.csv").open(encoding="utf-8")))
    assert tuple(rows[0]) == page.CSV_HEADER
    assert {row["part"] for row in rows} == {"result", "difference", "target"}
    value = next(
        row
        for row in rows
        if (row["run"], row["part"], row["model"], row["metric"])
        == ("cifar10_mlp", "difference", "end2_nll_aux", "error")
    )
    assert float(value["value"]) == pytest.approx(0.03)
    assert (value["against"], value["outcome"]) == ("end2_aux", "loses")
    with Image.open(out / "end_or_end2.png") as image:
        assert image.width >= 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 50  # something is drawn


def test_without_ood_sets_there_is_no_picture(tmp_path):
    models = {name: model(0.1, 1.0, 1.0 if name == "end2" else None, ood=()) for name in ("end", "end2")}
    page.build([write(tmp_path / "run", models)], tmp_path / "out", 50)
    assert not (tmp_path / "out" / "end_or_end2.png").exists()
    assert ".png" not in (tmp_path / "out" / "end_or_end2.md").read_text(encoding="utf-8")


def test_students_of_another_length_are_told(tmp_path):
    methods = {name: {"loss": "dirichlet_nll", "epochs": None} for name in ("end", "end2")} | {
        "end2_nll": {"loss": "dirichlet_nll", "epochs": 3}
    }
    run = runs.Finished(write(tmp_path, full(), methods=methods)).run
    assert "Every student was trained for 7 epochs, but EnD² (NLL) for 3." in page.page(
        [(run, [])], {run.name: []}, False
    )


def test_seeds_whose_predictions_were_not_kept_are_told(tmp_path):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)}, kept=1)
    text = page.build([root], tmp_path / "out", 50).read_text(encoding="utf-8")
    assert "of the seeds whose predictions were kept: EnD 1 of 3, EnD² 1 of 3." in text


def test_command_line(tmp_path, capsys):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    assert cli.main(["main.py", f"--compare={root}", f"--output={tmp_path / 'out'}"]) == 0
    assert f"Page:    {tmp_path / 'out' / 'end_or_end2.md'}" in capsys.readouterr().out
    assert cli.main(["main.py", f"--compare={root}", "--experiment=spirals_mlp_end2"]) == 2
    assert "--experiment is given, but --compare has no use for it." in capsys.readouterr().err
    assert cli.main(["main.py", f"--compare={tmp_path / 'nothing'}"]) == 3
    assert "no run was finished there" in capsys.readouterr().err
    assert cli.main(["main.py", "--compare=,"]) == 2
    assert "names no workdir" in capsys.readouterr().err


def test_comparing_imports_no_tensorflow(tmp_path):
    root = write(tmp_path / "run", {"end": model(0.2, 1.0), "end2": model(0.1, 1.0, 1.0)})
    code = (
        "import sys; from end2_tf import cli\n"
        f"assert cli.main(['main.py', '--compare={root}', '--output={tmp_path / 'out'}']) == 0\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
