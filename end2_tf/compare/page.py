"""Writes the comparison: a page in Markdown, its numbers as CSV, its picture."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from end2_tf import tables, workdir
from end2_tf.compare import answer, continued, differences, picture, saved, targets
from end2_tf.compare.differences import BEST, Difference, amount
from end2_tf.compare.runs import KINDS, TEST_METRICS, Run, read
from end2_tf.compare.saved import Found
from end2_tf.compare.targets import Check
from end2_tf.errors import ConfigError
from end2_tf.progress import Report
from end2_tf.report import style

NAME = "end_or_end2"
CSV_HEADER = ("run", "part", "model", "against", "dataset", "metric", "value", "sd", "n", "low", "high", "outcome")

_MARKS = {"wins": "▲", "loses": "▼", "ties": "", "unknown": ""}
_VERDICTS = {True: "pass", False: "miss", None: "–"}

Table = list[list[str]]  # a heading, then lines


def build(
    sources: Sequence[Path], output: Path, num_resamples: int = 1000, report: Report = lambda *args: None
) -> Path:
    """Compares the methods of finished runs and writes the page, `end_or_end2.md`, with its .csv, .json and .png.

    Args:
        sources: Workdirs of finished runs, each of other data or another backbone; and the .json of an earlier page,
            whose runs are taken over as they are, but for those that a workdir gives anew, and for students that a
            workdir with the same ensemble has (`continued`).
        output: The folder to write to.
        num_resamples: Of every interval's bootstrap.
        report: Called with progress.

    Returns:
        The page's path.

    Raises:
        ConfigError: no run is given, two are of the same data and backbone, or one was evaluated on validation data.
        WorkdirError: a run isn't finished, or the folder can't be written.
        DataError: a file of an evaluation, or an earlier page's .json, can't be read.
    """
    if not sources:
        raise ConfigError("--compare names no workdir. Give one or more, separated by commas.")
    earlier = [path for path in sources if path.is_file()]
    by_name = {run.name: (run, of_run) for run, of_run in saved.read(earlier)}
    added = read(path for path in sources if path not in earlier)
    for finished in sorted(added, key=lambda finished: finished.run.is_brought):  # they may go on with another of these
        run, of_run = finished.run, differences.of(finished, num_resamples, report)
        before = continued.begun(run, (run for run, _ in by_name.values()))
        if before is not None:
            run, of_run = continued.join(by_name[before.name], run, of_run)
        by_name[run.name] = run, of_run
    found = list(by_name.values())
    checked = {run.name: targets.checks(run) for run, _ in found}
    drawing = picture.draw([run for run, _ in found])
    if drawing is not None:
        workdir.write_atomically(output / f"{NAME}.png", functools.partial(_write_bytes, drawing))
    workdir.write_text(output / f"{NAME}.csv", numbers(found, checked))
    saved.write(output / f"{NAME}.json", found)
    return workdir.write_text(output / f"{NAME}.md", page(found, checked, drawing is not None))


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def page(found: Found, checked: dict[str, list[Check]], has_picture: bool) -> str:
    """Returns the page as Markdown.

    Args:
        found: Runs and their differences.
        checked: The checks of each run, by its name.
        has_picture: Whether to show the picture.
    """
    headline, *rest = answer.overall(found)
    blocks = [
        "# EnD or EnD²?",
        "Does distilling the distribution of an ensemble (EnD²) beat distilling its mean (EnD), with the same student, "
        "budget and data? This page is generated from finished runs, its sentences included: "
        "`python main.py --compare=WORKDIR,…`.",
        f"**{headline}**",
        _bullets(rest),
    ]
    if has_picture:
        blocks.append(f"![AUROC of every method on every OOD set]({NAME}.png)")
    for run, of_run in found:
        blocks += _section(run, of_run, checked[run.name])
    blocks += ["## How to read this", _bullets(_NOTES)]
    return "\n\n".join(block for block in blocks if block) + "\n"


_NOTES = (
    "Single, matched (`single_matched`) is a member's network trained on labels for as long as a student; EnD (`end`) "
    "distils the ensemble's mean; EnD² (`end2`) is the one recommended here, with mean and precision by separate "
    "terms; EnD² (NLL) (`end2_nll`) is the paper's likelihood. + AUX (`…_aux`): shown auxiliary inputs from outside "
    "the domain too.",
    "Results are mean ± standard deviation over n student seeds; of a single member, over the members. AUROC is that "
    "of telling OOD inputs, the positive class, from the test set, by total | by knowledge uncertainty.",
    "Differences are of means over seeds, on the same test examples, with 95 % bootstrap intervals over test examples "
    "(paired, percentile). By best score: knowledge uncertainty of a model that has it, else total uncertainty.",
    "**▲** marks a difference in favour of the first model, **▼** one in favour of the second: the interval excludes "
    "0, and the difference exceeds the spread over seeds (the root of both models' summed variances; the ensemble "
    "counts as given) and isn't printed as 0. All others count as ties: they are noise, or too small to matter. "
    "Nothing is marked where a student has one seed only.",
    "A point is a hundredth of a fraction.",
    "A near OOD set looks like the in-domain data and has other classes; a far one doesn't look like them.",
)


def _section(run: Run, found: Sequence[Difference], checked: Sequence[Check]) -> list[str]:
    blocks = [
        f"## {run.name}",
        " ".join(_facts(run)),
        _bullets(answer.of_run(run, found)),
        tables.markdown(results(run)),
    ]
    if found:
        blocks += ["### Differences", tables.markdown(difference_table(run, found))]
    gaps = gap_table(run)
    if gaps:
        blocks += ["### Share of the gap between single member and ensemble that is closed", tables.markdown(gaps)]
    if checked:
        blocks += ["### Targets", tables.markdown(check_table(run, checked), text=(0, 1))]
    return blocks


def _facts(run: Run) -> list[str]:
    """Returns what the run is, what is missing in it, and what to beware of."""
    sizes = ", ".join(f"{name} {count:,}" for name, count in run.counts.items())
    facts = [f"`{run.experiment}`:"]
    if run.is_brought:
        facts.append(f"an ensemble of {run.num_members} networks that were brought, not trained here.")
    elif run.backbone:
        facts.append(f"an ensemble of {run.num_members} ({run.backbone}).")
    if run.epochs:
        own = ", ".join(f"{run.label(model)} for {epochs}" for model, epochs in run.epochs_of.items())
        facts.append(f"Every student was trained for {run.epochs} epochs{f', but {own}' if own else ''}.")
    facts += _label_shares(run)
    facts.append(f"Examples: {sizes}.")
    if run.commit:
        facts.append(f"Evaluated at commit {run.commit[:7]}.")
    for commit in dict.fromkeys(run.commits_of.values()):
        names = ", ".join(run.label(model) for model, own in run.commits_of.items() if own == commit)
        at = f", evaluated at commit {commit[:7]}" if commit else ""
        facts.append(f"Of a later run with the same ensemble{at}: {names}.")
    if run.is_smoke:
        facts.append("**A smoke run: a try of the machinery, too small to answer anything.**")
    fewer = [m for m in run.models if m != "single" and m in run.kept and run.kept[m] < run.num_seeds(m)]
    if fewer:
        names = ", ".join(f"{run.label(m)} {run.kept[m]} of {run.num_seeds(m)}" for m in fewer)
        facts.append(f"Differences and intervals are of the seeds whose predictions were kept: {names}.")
    return facts


def _label_shares(run: Run) -> list[str]:
    """Returns how much of the true label was in what students learned, where any of it was."""
    shares: dict[float, list[str]] = {}
    for model, of_label in run.label_shares.items():
        shares.setdefault(of_label, []).append(run.label(model))
    if not any(shares):
        return []
    told = "; ".join(f"{share:g} for {', '.join(shares[share])}" for share in sorted(shares, reverse=True))
    return [f"The label's share in the target of the mean: {told}."]


def results(run: Run) -> Table:
    """Returns a line a model: error, NLL, ECE, PRR, and AUROC by total and by knowledge for each OOD set."""
    heads = [f"{style.metric(m).label}{' %' if style.metric(m).unit == '%' else ''}" for m in TEST_METRICS]
    sets = [f"{name} ({run.distance(name)})" if run.distance(name) else name for name in run.ood]
    lines = [["model", *heads, *(f"{name}, AUROC %" for name in sets)]]
    for model in run.models:
        line = [_named(run, model), *(_cell(run, model, metric) for metric in TEST_METRICS)]
        for dataset in run.ood:
            line.append(" \\| ".join(_cell(run, model, f"ood_auroc_{kind}", dataset) for kind in KINDS))
        lines.append(line)
    return lines


def _named(run: Run, model: str) -> str:
    n = run.num_seeds(model)
    return run.label(model) if model == "ensemble" else f"{run.label(model)} (n {n})"


def _cell(run: Run, model: str, metric: str, dataset: str = "test") -> str:
    value, sd = run.value(model, metric, dataset), run.sd(model, metric, dataset)
    text = style.number(value, metric)
    return text if value is None or sd is None else f"{text} ± {style.number(sd, metric)}"


def difference_table(run: Run, found: Sequence[Difference]) -> Table:
    """Returns a line a measure and a column a pair of models: difference, mark, interval."""
    pairs = list(dict.fromkeys(d.pair for d in found))
    index = {(d.pair, d.dataset, d.metric, d.score): d for d in found}
    measures = list(dict.fromkeys((d.dataset, d.metric, d.score) for d in found))
    lines = [["", *(f"{run.label(a)} − {run.label(b)}" for a, b in pairs)]]
    for measure in measures:
        lines.append([_measure(*measure), *(_interval(index.get((pair, *measure))) for pair in pairs)])
    return lines


def _measure(dataset: str, metric: str, score: str) -> str:
    if metric != "ood_auroc":
        return f"{style.metric(metric).label}, {'nats' if metric == 'nll' else 'points'}"
    return f"AUROC on {dataset} by {'best score' if score == BEST else score}, points"


def _interval(found: Difference | None) -> str:
    if found is None:
        return "–"
    value, low, high = (amount(x, found.metric, with_unit=False) for x in (found.value, found.low, found.high))
    mark = _MARKS[found.outcome]
    return f"{f'**{value} {mark}**' if mark else value}<br>[{low}, {high}]"


def gap_table(run: Run) -> Table:
    """Returns a line a student, the closed shares of the error's and the NLL's gap; empty without any gap."""
    sizes = {g.metric: g.gap for g in run.gap_closed}
    models = [m for m in run.models if any(g.model == m for g in run.gap_closed)]
    if not models:
        return []
    heads = [f"{style.metric(m).label}, gap of {amount(gap, m).lstrip('+')}" for m, gap in sizes.items()]
    lines = [["model", *heads]]
    for model in models:
        shares = [targets.gap_closed(run, model, metric) for metric in sizes]
        lines.append([run.label(model), *(targets.share(s) for s in shares)])
    return lines


def check_table(run: Run, checked: Sequence[Check]) -> Table:
    """Returns a line a check, and for each recommended student what was found and whether it passes."""
    students = list(dict.fromkeys(c.student for c in checked))
    index = {(c.student, c.what): c for c in checked}
    lines = [["target", "", *(run.label(s) for s in students)]]
    for what, target in dict.fromkeys((c.what, c.target) for c in checked):
        cells = [index[s, what] for s in students]
        lines.append([what, target, *(f"{c.found} **{_VERDICTS[c.passed]}**" for c in cells)])
    passed = [f"{sum(c.passed is True for c in checked if c.student == s)} pass" for s in students]
    missed = [f"{sum(c.passed is False for c in checked if c.student == s)} miss" for s in students]
    lines.append(["in all", "", *(f"{p}, {m}" for p, m in zip(passed, missed, strict=True))])
    return lines


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def numbers(found: Found, checked: dict[str, list[Check]]) -> str:
    """Returns every number of the page in its own unit, fractions and nats."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for run, of_run in found:
        for model in run.models:
            columns = [(m, "test") for m in TEST_METRICS]
            columns += [(f"ood_auroc_{kind}", dataset) for dataset in run.ood for kind in KINDS]
            for metric, dataset in columns:
                value = run.value(model, metric, dataset)
                if value is not None:
                    sd, n = run.sd(model, metric, dataset), run.num_seeds(model)
                    writer.writerow(
                        [run.name, "result", model, "", dataset, metric, _number(value), _number(sd), n, "", "", ""]
                    )
        for d in of_run:
            metric = f"{d.metric}_{d.score}" if d.score else d.metric
            cells = [_number(d.value), _number(d.spread), "", _number(d.low), _number(d.high)]
            writer.writerow([run.name, "difference", *d.pair, d.dataset, metric, *cells, d.outcome])
        for gap in run.gap_closed:
            writer.writerow([run.name, "gap_closed", gap.model, "", "test", gap.metric, _number(gap.value), *[""] * 5])
        for c in checked[run.name]:
            cells = [_number(c.value), *[""] * 4]
            writer.writerow([run.name, "target", c.student, "", "", c.what, *cells, _VERDICTS[c.passed]])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"
