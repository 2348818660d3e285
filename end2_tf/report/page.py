"""The page itself: which pictures there are, in the order in which a reader wants them, and how they get on disk."""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime
import functools
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

from end2_tf import workdir
from end2_tf.progress import Report
from end2_tf.report import curves, histograms, maps, shift, simplex, style, tables, training
from end2_tf.report.inputs import Evaluation

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture: its file's name, its section's title, a sentence on what it shows, how and whether to draw it.

    `{split}` in the sentence stands for the in-domain split that was evaluated.
    """

    name: str
    section: str
    caption: str
    draw: Callable[[Evaluation], bytes]
    applies: Callable[[Evaluation], bool]


def _on_plane(draw: Callable[[Evaluation, maps.Plane], bytes]) -> Callable[[Evaluation], bytes]:
    return lambda evaluation: draw(evaluation, maps.Plane(evaluation))


def _has_plane(evaluation: Evaluation) -> bool:
    return maps.Plane(evaluation).exists


PICTURES = (
    Picture(
        "predictions",
        "What the models predict",
        "The inputs, and what each model predicts in every place: colours mix where several classes are likely.",
        _on_plane(maps.data),
        _has_plane,
    ),
    Picture(
        "uncertainty_maps",
        "Where the uncertainty is",
        "Total uncertainty is the sum of data uncertainty, which sits where classes overlap and nobody could know "
        "better, and knowledge uncertainty, which sits where the members disagree: ideally far from the training "
        "inputs (white dots), and nowhere for the true posterior.",
        _on_plane(maps.uncertainty),
        lambda e: _has_plane(e) and maps.has_uncertainty(e),
    ),
    Picture(
        "knowledge_maps",
        "Where the uncertainty is",
        "Knowledge uncertainty of the ensemble and of each student on one colour scale: how well a student has learnt "
        "where the members disagree depends on its loss and, away from the training inputs, on whether it was shown "
        "auxiliary ones (AUX).",
        _on_plane(maps.knowledge),
        lambda e: _has_plane(e) and maps.has_several(e),
    ),
    Picture(
        "simplex",
        "Members and student, input by input",
        "Each dot is one member's prediction for the input on the left, and a corner is certainty of one class; a good "
        "student's density (colour) covers the dots, as a narrow peak where the members agree and broadly where they "
        "don't.",
        simplex.draw,
        simplex.has_simplex,
    ),
    Picture(
        "reliability",
        "Is confidence justified?",
        "A calibrated model is right as often as it is confident, so its dots lie on the diagonal; above it a model is "
        "too modest, below it too sure, and the bars count the {split} inputs per bin (small dot: fewer than 30).",
        curves.reliability,
        curves.has_labels,
    ),
    Picture(
        "rejection",
        "Does uncertainty find the errors?",
        "When an expert answers the most uncertain inputs first, few errors should soon remain: the nearer a curve is "
        "to the dotted one of an oracle that hands over exactly the errors, and the farther below random order, the "
        "better.",
        curves.rejections,
        curves.has_labels,
    ),
    Picture(
        "shift",
        "Does it notice when inputs change?",
        "Means over members or seeds (bands: ± one standard deviation) on the {split} set, severity 0, and on ever "
        "stronger changes of it: errors grow for every model, so look for an ECE that stays low, for knowledge "
        "uncertainty that grows with the error, and for students that stay near the ensemble; a line far above the "
        "others may leave the panel of the NLL.",
        shift.draw,
        shift.has_severities,
    ),
    Picture(
        "ood",
        "Does it know what it doesn't know?",
        "Knowledge uncertainty on {split} inputs and on out-of-distribution inputs: the less the two overlap, the "
        "better one can be told from the other (AUROC: 100 % is perfect, 50 % is chance).",
        histograms.draw,
        histograms.has_histograms,
    ),
    Picture(
        "training_losses",
        "How training went",
        "Training loss by epoch, one panel per model because different losses can't be compared; where the loss is the "
        "negative logarithm of a density, it may fall below zero.",
        training.losses,
        training.has_losses,
    ),
    Picture(
        "training",
        "How training went",
        "Temperature, precision (once the temperature is 1) and validation scores by epoch, the ensemble's being its "
        "members' mean: precision should settle and validation scores fall; their first epochs may lie outside.",
        training.shared,
        training.has_shared,
    ),
)


def build(evaluation_dir: Path, out_dir: Path, report: Report = lambda *args: None) -> Path:
    """Writes the report of one evaluation: a page that needs no other file, and its pictures as PNG files.

    Parts whose input is missing are left out; only results.json must be there.

    Args:
        evaluation_dir: The folder that the evaluation wrote (see `end2_tf.report.inputs.Evaluation`).
        out_dir: Where `report.html` and the folder `report/` go; earlier ones are replaced.
        report: Called with progress.

    Returns:
        The path of report.html.

    Raises:
        DataError: results.json is missing, or a file in the folder can't be read.
        WorkdirError: `out_dir` can't be written.
    """
    out_dir = Path(out_dir)
    evaluation = Evaluation(Path(evaluation_dir))
    with matplotlib.rc_context(style.RC):
        chosen = [picture for picture in PICTURES if picture.applies(evaluation)]
        drawn: list[tuple[Picture, bytes]] = []
        for picture in chosen:
            report("drawing pictures", len(drawn), len(chosen), {})
            drawn.append((picture, picture.draw(evaluation)))
    html = _render(evaluation, drawn)
    _write_pictures(out_dir, drawn)
    return workdir.write_text(out_dir / "report.html", html)


def _write_pictures(out_dir: Path, drawn: list[tuple[Picture, bytes]]) -> None:
    """Fills a new folder and swaps it in, so that no picture of an earlier report stays among the new ones."""
    final = out_dir / "report"
    fresh, stale = (out_dir / f".{os.getpid()}.report.{word}" for word in ("new", "old"))
    try:
        for picture, image in drawn:
            workdir.write_atomically(fresh / f"{picture.name}.png", functools.partial(_write_bytes, image))
        if final.exists():
            os.replace(final, stale)
        if drawn:
            os.replace(fresh, final)
    finally:
        for folder in (fresh, stale):
            shutil.rmtree(folder, ignore_errors=True)


def _write_bytes(image: bytes, path: Path) -> None:
    path.write_bytes(image)


def _render(evaluation: Evaluation, drawn: list[tuple[Picture, bytes]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html", "j2"], default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results = evaluation.results
    sections: dict[str, list[dict[str, Any]]] = {}
    for picture, image in drawn:
        width, height = struct.unpack(">II", image[16:24])  # of the PNG header
        sections.setdefault(picture.section, []).append(
            {
                "name": picture.name,
                "caption": picture.caption.format(split=evaluation.split),
                "data": base64.b64encode(image).decode(),
                "width": round(width * 100 / style.DPI),
                "height": round(height * 100 / style.DPI),
            }
        )
    columns, lines = tables.results(evaluation)
    shifted_columns, shifted_lines = tables.shifted(evaluation)
    gap_heads, gap_lines = tables.gaps(evaluation)
    return environment.get_template("report.html.j2").render(
        experiment=results["experiment"],
        created=_date(results["created"]),
        headline=tables.headline(evaluation),
        notes=results["notes"],
        columns=columns,
        groups=_groups(columns),
        lines=lines,
        shifted_columns=shifted_columns,
        shifted_groups=_groups(shifted_columns),
        shifted_lines=shifted_lines,
        has_severities=shift.has_severities(evaluation),
        gap_heads=gap_heads,
        gap_lines=gap_lines,
        sections=sections,
        rows=tables.every_row(evaluation),
        definitions=tables.definitions(evaluation),
        counts=results["counts"],
        split=evaluation.split,
        class_names=results["class_names"],
        published=evaluation.published.get("source", ""),
        config=json.dumps(
            {name: part for name, part in results["config"].items() if name != "published"},
            indent=2,
            ensure_ascii=False,
        ),
        command=results["command"] or f"python main.py --experiment={results['experiment']}",
        versions=results["versions"],
        seconds={stage: _duration(s) for stage, s in results["seconds"].items()},
        num_members=evaluation.num_members,
    )


def _groups(columns: list[tables.Column]) -> dict[str, int]:
    """Returns how many columns stand under each group's head, in their order."""
    return collections.Counter(column.group for column in columns if column.group)


def _date(created: str) -> str:
    """Returns "24 November 2024, 16:30 UTC" for an ISO time, the text itself where it is none."""
    try:
        when = datetime.datetime.fromisoformat(created)
    except ValueError:
        return created
    zone = f" {when.tzname()}" if when.tzinfo else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def _duration(seconds: float) -> str:
    """Returns "655.0 s" as "10 min 55 s"."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s"
    if whole < 6000:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
