"""Pages for readers: an entry's card, and the zoo's README. Every number comes from results and metadata."""

from __future__ import annotations

import decimal
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from end2_tf.zoo import licences, results
from end2_tf.zoo.failures import Failures, Picture
from end2_tf.zoo.metadata import label, taught_by
from end2_tf.zoo.results import Results, Row

TEMPLATES = Path(__file__).resolve().parent / "templates"
PAGES = "pages"

_COMPARED = ("ensemble", "single", "single_matched", "single_mixup")


def card(
    metadata: Mapping[str, Any],
    rows: Sequence[Row],
    failures: Failures,
    pictures: Sequence[Picture],
) -> str:
    """Returns an entry's README.md.

    Args:
        metadata: The entry's.
        rows: Results of all entries of its group, or of more.
        failures: On the test set.
        pictures: Of them, in the entry's folder.
    """
    found = _compared(metadata, rows)
    return _render(
        "card.md.j2",
        meta=metadata,
        label=label(metadata["method"]),
        tables=[table for table in _tables(found) if table],
        controls=found.controls,
        limits=limits(metadata, found, failures),
        serving=_serving(metadata["export"]) if "export" in metadata else "",
        kind=failures.kind,
        pictures=pictures,
        failures=[] if pictures else _as_table(failures),
        shape=" × ".join(map(str, metadata["input"]["shape"])),
        teacher=f"{metadata['group']}_ensemble",
        taught_by=taught_by(metadata),
        seconds=_digits(metadata["training_seconds"] or 0, 2),
        change=_digits(metadata["weights"]["largest_change"], 1, decimal.ROUND_CEILING),
    )


def with_results(text: str, metadata: Mapping[str, Any], old: Sequence[Row], new: Sequence[Row]) -> str:
    """Returns a card with the results of those it is compared with as they are now.

    Args:
        text: The card.
        metadata: Of its entry.
        old: The results that it was made with.
        new: Those of now.
    """
    tables = (_tables(_compared(metadata, rows)) for rows in (old, new))
    for before, after in zip(*tables, strict=True):
        text = text.replace(before, after) if before else text
    return text


def _compared(metadata: Mapping[str, Any], rows: Sequence[Row]) -> Results:
    """Returns the results that a card shows: its entry's, and those of what it is compared with."""
    group, own = metadata["group"], metadata["entry"]
    present = {row["entry"] for row in rows}
    labels = {own: f"**this: {label(metadata['method'])}**"}
    for method in _COMPARED:
        entry = f"{group}_{method}"
        if entry in present and entry != own:
            labels[entry] = label(method)
    return Results(rows, labels)


def _tables(found: Results) -> list[str]:
    return [results.markdown(t) if t else "" for t in (found.test(), found.detection(), found.shifted())]


def _serving(export: Mapping[str, Any]) -> str:
    """Returns what a card says of an entry's SavedModel: its signatures, when it abstains, and what comes of that."""
    version, limits = export["version"], export["thresholds"]
    reasons = [
        f"{adjective} ({kind} uncertainty above {limits[field]:.4g} nats)"
        for adjective, kind, field in (("unfamiliar", "knowledge", "unfamiliar"), ("uncertain", "total", "uncertain"))
        if limits[field] is not None
    ]
    promise = f"{100 * limits['target']:g} % of inputs like those it was trained for are answered"
    if limits["rule"] == "max_error":
        promise = (
            f"the error among the answered is at most {100 * limits['target']:g} %, with a probability of "
            f"{100 * (1 - limits['delta']):g} %"
        )
    used = (
        "calibration examples that nothing else used"
        if export["calibration_split"] == "calibration"
        else "validation examples, on which settings may have been chosen too"
    )
    test = export["decisions"]["test"]
    outside = [f"{100 * d['abstained']:.0f} % of {name}" for name, d in export["decisions"].items() if name != "test"]
    sentences = [
        f"[{version}/]({version}) is a SavedModel of standard operations with the signatures "
        f"{', '.join(export['signatures'])}; it doesn't need end2_tf.",
        f"`decide` abstains {'where an input is ' + ' or '.join(reasons) if reasons else 'from nothing'}, so that "
        f"{promise}: chosen on "
        f"{limits['num_calibration']:,} {used}.",
        f"On the test set it answers {100 * (1 - test['abstained']):.1f} %"
        + (f", with {100 * test['error']:.2f} % error instead of " if test["error"] is not None else ", of ")
        + f"{100 * test['error_of_all']:.2f} %.",
    ]
    return " ".join(sentences + ([f"It abstains from {', '.join(outside)}."] if outside else []))


def _digits(value: float, count: int, rounding: str = decimal.ROUND_HALF_EVEN) -> str:
    """Returns a number with so many significant digits, and no exponent."""
    return f"{decimal.Context(prec=count, rounding=rounding).create_decimal_from_float(value):,f}"


def _as_table(failures: Failures) -> list[tuple[str, str]]:
    """Returns the failures as text, for inputs that can't be drawn: (title, Markdown)."""
    heading = ["test input", "label", "prediction", "confidence %", f"{failures.kind} uncertainty, nats"]
    found = []
    for title, places in (
        ("Most uncertain", failures.most_uncertain),
        ("Confidently wrong", failures.confidently_wrong),
    ):
        lines = [
            [str(c.index), literal(c.label), literal(c.prediction), f"{100 * c.confidence:.1f}", f"{c.uncertainty:.3g}"]
            for c in failures.cases(places)
        ]
        if lines:
            found.append((title, results.markdown([heading, *lines], text=(0, 1, 2))))
    return found


def limits(metadata: Mapping[str, Any], found: Results, failures: Failures) -> list[str]:
    """Returns sentences on what the model can't do, each with its number."""
    wrong, of = failures.among_the_surest()
    limits = [
        f"Among the tenth of the test inputs that it is surest of (by total uncertainty), {wrong:,} of {of:,} "
        f"predictions {'is' if wrong == 1 else 'are'} wrong."
    ]
    for kind in ("total", "knowledge"):
        values = {name: found.value(metadata["entry"], name, f"ood_auroc_{kind}") for name in found.ood}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            worst = min(known, key=lambda name: known[name])
            limits.append(
                f"By {kind} uncertainty it tells {worst} from test inputs with an AUROC of {100 * known[worst]:.1f} % "
                f"(50 % is chance){', the lowest of the OOD sets tried' if len(known) > 1 else ''}. "
                "Other kinds of unknown inputs were not tried."
            )
    if failures.kind == "total":
        limits.append("It predicts one distribution: data and knowledge uncertainty can't be told apart.")
    if metadata["kind"] == "member":
        limits.append(
            "The results are means over all members of the ensemble; this file is the first of them, chosen before "
            "results were known."
        )
    if metadata["kind"] == "student" and metadata["num_seeds"] > 1:
        limits.append(
            f"The results are means over {metadata['num_seeds']} seeds; this file is seed 0, chosen before results "
            "were known."
        )
    return limits


def readme(entries: Sequence[Mapping[str, Any]], rows: Sequence[Row], sizes: Mapping[str, int], folder: Path) -> str:
    """Returns the zoo's README.md.

    Args:
        entries: Their metadata.
        rows: Of results.csv.
        sizes: Bytes of each entry.
        folder: The zoo, whose pages/*.md are linked.
    """
    groups: dict[str, dict[str, str]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    ordered = sorted(entries, key=lambda meta: results.sort_key(meta["entry"]))
    for meta in ordered:
        groups.setdefault(meta["group"], {})[meta["entry"]] = f"[{label(meta['method'])}]({meta['entry']}/README.md)"
        if meta["kind"] == "ensemble" or meta["group"] not in about:
            about[meta["group"]] = meta
    sections = []
    for group, labels in groups.items():
        found = Results(rows, labels)
        sections.append(
            {
                "group": group,
                "meta": about[group],
                "test": results.markdown(found.test()),
                "others": [results.markdown(table) for table in (found.detection(), found.shifted()) if table],
                "controls": found.controls,
            }
        )
    listed = [["entry", "MB", "what it is"]]
    listed += [
        [f"[{m['entry']}]({m['entry']}/README.md)", f"{sizes[m['entry']] / 1e6:.1f}", m["summary"]] for m in ordered
    ]
    names = sorted({name for meta in entries for name in meta["data"]})
    example = next((m["entry"] for m in ordered if m["method"] == "end2_aux"), ordered[0]["entry"] if ordered else "")
    return _render(
        "README.md.j2",
        sections=sections,
        listed=results.markdown(listed, text=(0, 2)),
        total=sum(sizes.values()) / 1e6,
        example=example,
        methods={meta["method"] for meta in entries},
        pages=pages(folder),
        data=[licences.of(name) for name in names],
    )


def pages(folder: Path) -> list[tuple[str, str]]:
    """Returns (title, path below the zoo) of the hand-written or generated pages in pages/*.md."""
    found = []
    for path in sorted((folder / PAGES).glob("*.md")):
        heading = re.search(r"^#\s+(.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found.append((heading[1].strip() if heading else path.stem, f"{PAGES}/{path.name}"))
    return found


def literal(name: str) -> str:
    """Returns a name from the data as Markdown that shows it, whatever signs of Markdown or HTML are in it."""
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", html.escape(" ".join(name.split()), quote=False))


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["literal"] = literal
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
