"""Runs a study: every variant in one workdir, where what variants have in common is made once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from end2_tf import console, study_tables, workdir
from end2_tf.grid import COLUMNS, Study
from end2_tf.progress import Report
from end2_tf.stages import Run
from end2_tf.tasks import Task
from end2_tf.zoo import results as zoo_results

PAGES = "pages"  # the folder of a zoo that pages of studies are copied to
NOTES = "notes"  # the folder in there with what pages teach, in words, by whoever looked at the results
NAME = "study"  # of the files in a workdir: those of the study that ran last, as results.csv is of the last run


class StudyRun:
    """One study in one workdir.

    Args:
        name: Of the study's files in a zoo.
        study: Its values.
        runs: One of each variant, by label, all in the same workdir.
        command: The command line that repeats this, for the page.
        zoo_dir: A zoo that page, numbers and picture are copied to, and whose README then links them.
        is_small: Whether the runs are small versions, whose numbers say nothing.
        say: Prints a line for the user.
    """

    def __init__(
        self,
        name: str,
        study: Study,
        runs: Mapping[str, Run],
        *,
        command: str,
        zoo_dir: Path | None = None,
        is_small: bool = False,
        say: Callable[[str], None] = print,
    ):
        self.name, self.study, self.runs = name, study, dict(runs)
        self.command, self.zoo_dir, self.is_small, self.say = command, zoo_dir, is_small, say
        self.first = next(iter(self.runs.values()))
        self.root = self.first.root

    def run(self) -> Path:
        """Trains and evaluates what isn't there, writes study.csv, .png and .md; returns the path of the latter.

        A zoo's page takes up the text of `pages/notes/<name>.md` there, which is written by hand.
        """
        if self.first.download:
            from end2_tf.data import dataset

            for run in self.runs.values():
                dataset.download(run.experiment.data, data_dir=run.data_dir)
        for run in self.runs.values():
            _ = self._opened(run).plan.prints  # data that aren't there are noticed before anything is written
        self.root.check_writable()
        with self.root.lock():
            pending = {label: run for label, run in self.runs.items() if run.plan.evaluation.manifest() is None}
            if pending:
                self._make(pending)
            return self._write()

    @staticmethod
    def missing(runs: Mapping[str, Run]) -> dict[str, list[Task]]:
        """Returns the trainings that some variants lack, by the label of the first that needs them."""
        found: dict[str, list[Task]] = {}
        seen = set()
        for label, run in runs.items():
            for method, seed, artefact in run.plan.students():
                if artefact.digest not in seen and artefact.manifest() is None:
                    found.setdefault(label, []).append(Task("student", seed, method, label))
                seen.add(artefact.digest)
        return found

    def _opened(self, run: Run) -> Run:
        """Returns a run after it has taken over what others have open, where it needs the same."""
        for other in self.runs.values():
            if other is not run:
                run.borrow(other)
        return run

    def _make(self, pending: dict[str, Run]) -> None:
        for run in pending.values():  # whatever is refused is refused before the first training
            self._opened(run).prepare()
        missing = self.missing(pending)
        for label, run in pending.items():
            self._opened(run).run_stage("ensemble")
            if label in missing:
                run.run_stage("transfer")
        self._train([task for tasks in missing.values() for task in tasks])
        for label, run in pending.items():
            if run.plan.evaluation.manifest() is None:  # two variants may come to the same
                started = time.monotonic()
                self._opened(run).evaluate()
                run.progress.end()
                self.say(f"evaluate  {time.monotonic() - started:<4.0f} s     {label}")

    def _train(self, tasks: list[Task]) -> None:
        if not tasks:
            return
        started = time.monotonic()
        tasks.sort(key=self._cost, reverse=True)  # the longest first, so that all processes end about together

        def alone(task: Task) -> Report:
            name = f"{task.variant}: {task.method}, seed {task.number} ({tasks.index(task) + 1} of {len(tasks)})"
            return lambda what, done, of, figures: self.first.progress(f"{name}: {what}", done, of, figures)

        self.first.variants = dict(self.runs)
        self.first.placement.do(self.first, tasks, f"training {console.counted(len(tasks), 'student')}", alone)
        self.first.progress.end()
        self.say(f"student   {time.monotonic() - started:<4.0f} s     {console.counted(len(tasks), 'student')}")

    def _cost(self, task: Task) -> float:
        """Returns how many times a student sees the training set, auxiliary inputs counted."""
        experiment = self.runs[task.variant].experiment
        method = experiment.methods[task.method]
        share = experiment.transfer.auxiliary_share if method.auxiliary else 0.0
        return experiment.student.epochs_of(method) / (1 - share)

    @functools.cached_property
    def results(self) -> dict[str, study_tables.Results]:
        """The evaluations' results by label; they must be there."""
        return {label: workdir.read_json(run.plan.evaluation.path / "results.json") for label, run in self.runs.items()}

    @functools.cached_property
    def lines(self) -> list[study_tables.Line]:
        return study_tables.lines(self.results, {label: run.plan.ensemble.digest for label, run in self.runs.items()})

    def page(self, name: str = NAME, note: str = "") -> str:
        """Returns the page; its picture is `<name>.png` beside it.

        Args:
            name: Of the page's files.
            note: What the results teach, in Markdown.
        """
        from end2_tf.report import ablation  # not before it is needed: it imports Matplotlib

        lines, columns = self.lines, self.study.columns
        tables = [study_tables.in_domain(lines, columns), *study_tables.detection(lines, columns)]
        parts = [
            f"# {self.study.title}",
            self.study.question,
            "**A small version, for trying: its numbers say nothing.**" if self.is_small else "",
            study_tables.protocol(lines, self.study.experiment, self.study.methods),
            self.study.reference,
            note.strip(),
            f"![{self.study.title}]({name}.png)",
            f"*{ablation.caption(lines, study_tables.SPLIT, self._sizes)}*",
            *(zoo_results.markdown(table) for table in tables if table),
            study_tables.legend(columns),
            "What each variant changes:",
            "\n".join(study_tables.changes({"all variants": self.study.plain_base, **self.study.plain_variants})),
            f"Made by `{self.command}`.",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    @property
    def _sizes(self) -> dict[str, int]:
        return next(iter(self.results.values()))["counts"]

    def picture(self) -> bytes:
        """Returns the picture as PNG."""
        from end2_tf.report import ablation

        title, small = self.study.title.replace("`", ""), ", a small version" if self.is_small else ""
        return ablation.draw(
            self.lines,
            title=f"{title} ({self._sizes[study_tables.SPLIT]:,} {study_tables.SPLIT} inputs{small})",
            inside=study_tables.SPLIT,
            sets=study_tables.ood_sets(self.lines),
            # Of many measures, pictures show the two that are compared everywhere; tables show all.
            columns=[c for c in self.study.columns if c in COLUMNS or not c.startswith("ood_")],
            axis=self.study.axis,
        )

    def _write(self) -> Path:
        picture = self.picture()
        places = [self.root.path / NAME, *([self.zoo_dir / PAGES / self.name] if self.zoo_dir is not None else [])]
        for place in places:
            workdir.write_atomically(place.with_name(f"{place.name}.png"), functools.partial(_write_bytes, picture))
            columns = None if place == places[0] else self.study.columns  # a zoo has to be small
            workdir.write_text(place.with_name(f"{place.name}.csv"), study_tables.to_csv(self.lines, columns))
            note = place.parent / NOTES / f"{place.name}.md"
            text = note.read_text(encoding="utf-8") if place != places[0] and note.is_file() else ""
            workdir.write_text(place.with_name(f"{place.name}.md"), self.page(place.name, text))
        if self.zoo_dir is not None:
            from end2_tf.zoo import publish  # with TensorFlow, which nothing else here needs

            publish.list_pages(self.zoo_dir)
        return self.root.path / f"{NAME}.md"

    def states(self) -> dict[str, str]:
        """Returns what each variant has to do, by its label."""
        for run in self.runs.values():
            _ = self._opened(run).plan.prints
        missing, found = self.missing(self.runs), {}
        for label, run in self.runs.items():
            num = len(missing.get(label, []))
            to_do = f"{console.counted(num, 'student')} to train" if num else "to evaluate"
            found[label] = "up to date" if run.plan.evaluation.manifest() is not None else to_do
        return found

    def describe(self) -> str:
        """Returns what the study is, what is done and what is to do; runs nothing."""
        states = self.states()
        missing = self.missing(self.runs)
        lines = [f"{self.name} in {self.root.path}", "", self.study.question, "", "Variants:"]
        changes = dict(zip(self.runs, study_tables.changes(self.study.plain_variants), strict=True))
        lines += [f"  {changes[label]} ({state})" for label, state in states.items()]
        recordings = {
            artefact.digest
            for label in missing
            for method in self.runs[label].experiment.student.methods
            for artefact in self.runs[label].plan.recordings(method)
            if artefact.manifest() is None
        }
        num = sum(len(tasks) for tasks in missing.values())
        ensembles = {run.plan.ensemble.digest for run in self.runs.values() if run.plan.ensemble.manifest() is None}
        to_train = f"{len(ensembles)} ensemble{'' if len(ensembles) == 1 else 's'} to train"
        lines += ["", f"{to_train}, {len(recordings)} recordings to make, {num} students to train."]
        return "\n".join(lines)


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)
