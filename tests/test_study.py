"""A study of tiny spirals, interrupted and gone on with."""

from __future__ import annotations

import csv
import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from end2_tf import cli, registry
from end2_tf.config import Source
from end2_tf.grid import Study
from end2_tf.tasks import Trainer

ROOT = Path(__file__).resolve().parents[1]
TRAIN = Trainer._train_student
TINY = Study(
    title="Small",
    question="What pays?",
    experiment="spirals_mlp_end2",
    methods=("end2_aux",),
    base={
        "evaluation.split": "validation",
        "data.ood": {"far": Source("ring", {"radius": 700.0, "num_test": 100})},
        "data.max_test": 200,
        "data.max_train": 300,
        "ensemble.num_members": 3,
        "ensemble.epochs": 2,
        "ensemble.options.hidden": [8, 8],
        "transfer.num_views": 1,
        "student.epochs": 2,
    },
    variants={
        "as it is": {},
        "no auxiliary data": {"student.methods": ("end2",)},
        "3 epochs": {"student.epochs": 3},
        "the same": {"student.epochs": 2},
        "2 members": {"transfer.num_members": 2},
        "other data": {"data.auxiliary": Source("ring", {"radius": 500.0, "num": 200})},
    },
)


@pytest.fixture(autouse=True)
def _studies(monkeypatch):
    monkeypatch.setattr(registry, "studies", lambda: {"tiny": TINY})


def _run(workdir, *more):
    return cli.main(["main.py", "--study=tiny", f"--workdir={workdir}", "--jobs=1", "--quiet", *more])


def _seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Interrupted:
    """Notes the students that are trained, and interrupts after some."""

    def __init__(self, monkeypatch, after=None):
        self.trained = []

        def noting(trainer, task, report):
            if len(self.trained) == after:
                raise KeyboardInterrupt
            TRAIN(trainer, task, report)
            self.trained.append((task.method, trainer.experiment.student.epochs, trainer.plan.num_taught))

        monkeypatch.setattr(Trainer, "_train_student", noting)


@pytest.mark.slow
def test_a_study_from_its_description_to_its_tables(tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "w"
    assert _run(workdir, "--describe") == 0
    described = capsys.readouterr().out
    assert "- the same: `student.epochs=2` (to evaluate)" in described
    assert "1 ensemble to train, 3 recordings to make, 5 students to train." in described
    assert not workdir.exists()

    before = _Interrupted(monkeypatch, after=2)
    assert _run(workdir) == cli.EXIT_INTERRUPTED
    assert before.trained[0] == ("end2_aux", 3, None)  # the longest first
    assert not (workdir / "study.md").exists()
    after = _Interrupted(monkeypatch)
    assert _run(workdir, f"--zoo_dir={tmp_path / 'zoo'}") == 0
    out = capsys.readouterr().out
    assert len(before.trained) + len(after.trained) == len(list(workdir.glob("student/*/model.keras"))) == 5
    assert len(list(workdir.glob("ensemble/*"))) == 1
    assert len(list(workdir.glob("transfer/*"))) == 3  # in-domain, and two auxiliary sets
    assert len(list(workdir.glob("evaluation/*/manifest.json"))) == 5

    page = (workdir / "study.md").read_text()
    assert page in out
    assert page.startswith("# Small\n\nWhat pays?\n")
    assert (
        "![Small](study.png)\n\n*Students, one seed each (n = 1), on 200 validation inputs; OOD AUROC tells far" in page
    )
    assert '- all variants: `evaluation.split="validation"`' in page
    assert "Measured on 200 validation inputs, told from far 100." in page
    assert "Made by `python main.py --study=tiny`." in page
    assert "| ensemble of the first 2 |" in page
    table = [line for line in page.splitlines() if line.startswith("| as it is")]
    assert [line.replace("as it is", "the same") for line in table] == [
        line for line in page.splitlines() if line.startswith("| the same")
    ]
    pages = tmp_path / "zoo" / "pages"
    assert (pages / "tiny.png").read_bytes() == (workdir / "study.png").read_bytes()
    every, kept = (
        (folder / name).read_text().splitlines() for folder, name in ((workdir, "study.csv"), (pages, "tiny.csv"))
    )
    assert kept == [line for line in every if ",ood_" not in line or re.search(",ood_auroc_(total|knowledge),", line)]
    assert len(kept) < len(every)
    assert (tmp_path / "zoo" / "pages" / "tiny.md").read_text() == page.replace("](study.png)", "](tiny.png)")

    notes = tmp_path / "zoo" / "pages" / "notes"
    notes.mkdir()
    (notes / "tiny.md").write_text("**What it teaches.** Little.\n")
    assert _run(workdir, f"--zoo_dir={tmp_path / 'zoo'}") == 0
    copy = (tmp_path / "zoo" / "pages" / "tiny.md").read_text()
    assert copy.replace("**What it teaches.** Little.\n\n", "") == page.replace("](study.png)", "](tiny.png)")
    assert "Little." in copy
    assert "Little." not in (workdir / "study.md").read_text()

    with open(workdir / "study.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {r["dataset"] for r in rows} == {"validation", "far"}
    assert {r["variant"] for r in rows if r["method"] == "end2_aux"} == set(TINY.variants) - {"no auxiliary data"}
    value = {(r["variant"], r["method"], r["metric"]): r["mean"] for r in rows if r["dataset"] == "validation"}
    own = [
        json.loads(path.read_text())
        for path in workdir.glob("evaluation/*/results.json")
        if json.loads(path.read_text())["config"]["student"]["epochs"] == 3
    ]
    (expected,) = (r["value"] for r in own[0]["rows"] if (r["model"], r["metric"]) == ("end2_aux", "kl_to_ensemble"))
    assert float(value["3 epochs", "end2_aux", "kl_to_ensemble"]) == pytest.approx(expected, rel=1e-6)
    assert value["2 members", "end2_aux", "error"] != ""

    times = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file() and p.parent.name != "w"}
    script = (
        "import sys, test_study\n"
        "from end2_tf import cli, registry\n"
        "registry.studies = lambda: {'tiny': test_study.TINY}\n"
        "code = cli.main(sys.argv)\n"
        "sys.exit(code or ('tensorflow' in sys.modules and 99))"
    )
    started = _seconds_of_children()
    command = [sys.executable, "-c", script, "--study=tiny", f"--workdir={workdir}"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert _seconds_of_children() - started < 20  # of a processor, however busy it is
    assert page in done.stdout
    assert times == {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file() and p.parent.name != "w"}

    assert _run(workdir, "--describe") == 0
    assert "0 ensembles to train, 0 recordings to make, 0 students to train." in capsys.readouterr().out
