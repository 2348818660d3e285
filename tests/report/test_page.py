"""The page as a reader gets it: files, pictures, numbers, and what happens when parts are missing."""

from __future__ import annotations

import base64
import importlib
import json
import re
import shutil
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from end2_tf import report
from end2_tf.errors import DataError, WorkdirError
from end2_tf.report import page

ALL_PICTURES = {p.name for p in page.PICTURES} - {"shift"}  # which has a file of its own, test_shift.py
ON_MAPS = {"predictions", "uncertainty_maps", "knowledge_maps"}
VOID = {"meta", "img", "link", "br", "hr"}


class _Page(HTMLParser):
    """Tables as lists of rows of cells, where a cell is (text without small print, is it marked best)."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.open, self.attributes, self.small = [], [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attrs = dict(attrs)
        self.attributes += [(tag, name, value) for name, value in attrs.items()]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", attrs])
        elif tag == "span":
            self.small += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes something else"
        self.small -= tag == "span"

    def handle_data(self, data: str) -> None:
        if self.small == 0 and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1][0] += data.strip()


@pytest.fixture(scope="module")
def built(spirals_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.build(spirals_folder, tmp_path_factory.mktemp("spirals_report"))


@pytest.fixture(scope="module")
def built_images(images_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.build(images_folder, tmp_path_factory.mktemp("images_report"))


@pytest.fixture
def small(spirals_folder: Path, tmp_path: Path) -> Path:
    """An evaluation with numbers only, quick to report; tests add or spoil parts."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    shutil.copy(spirals_folder / "results.json", folder)
    return folder


def _results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def _change(folder: Path, **fields: object) -> None:
    (folder / "results.json").write_text(json.dumps(_results(folder) | fields), encoding="utf-8")


def test_files(built: Path):
    assert built.name == "report.html"
    assert {p.stem for p in (built.parent / "report").iterdir()} == ALL_PICTURES
    assert {p.name for p in built.parent.iterdir()} == {"report.html", "report"}  # no temporary files stay


def test_pictures_are_readable_sizes_and_not_empty(built: Path):
    for path in (built.parent / "report").iterdir():
        header = path.read_bytes()[:24]
        width, height = struct.unpack(">II", header[16:24])
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert 600 <= width <= 1700, path
        assert 300 <= height <= 2600, path
        pixels = imread(path)[..., :3]
        assert 0.02 < np.mean(pixels.min(axis=-1) < 0.9) < 0.95, path  # neither blank nor full
        for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert border.min() == 1.0, f"{path} is cut off"


def test_page_needs_no_other_file(built: Path):
    text = built.read_text(encoding="utf-8")
    parsed = _Page(text)
    assert parsed.open == []
    loads = [value for tag, name, value in parsed.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style
    assert "<script" not in text
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)


def test_links_on_the_page_lead_somewhere(built: Path):
    parsed = _Page(built.read_text(encoding="utf-8"))
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    targets = {value[1:] for tag, name, value in parsed.attributes if tag == "a" and name == "href"}
    assert len(ids) == len(set(ids))
    assert targets
    assert targets <= set(ids)


def test_page_embeds_the_pictures_with_a_description(built: Path):
    parsed = _Page(built.read_text(encoding="utf-8"))
    embedded = {v.split(",", 1)[1] for tag, name, v in parsed.attributes if (tag, name) == ("img", "src")}
    on_disk = {base64.b64encode(p.read_bytes()).decode() for p in (built.parent / "report").iterdir()}
    descriptions = [v for tag, name, v in parsed.attributes if (tag, name) == ("img", "alt")]
    assert embedded == on_disk
    assert len(descriptions) == len(embedded)
    assert all(len(d) > 40 for d in descriptions)


def test_shifted_sets_have_a_table_of_their_own(small: Path, tmp_path: Path):
    plain = _Page(report.build(small, tmp_path / "plain").read_text(encoding="utf-8"))
    rows = [row for row in _results(small)["rows"] if row["dataset"] == "test" and row["metric"] in ("error", "nll")]
    _change(small, rows=_results(small)["rows"] + [row | {"dataset": "fog", "value": 0.75} for row in rows])
    text = report.build(small, tmp_path / "shifted").read_text(encoding="utf-8")
    parsed = _Page(text)
    assert len(parsed.tables) == len(plain.tables) + 1
    assert [cell[0] for cell in parsed.tables[1][0]] == ["Model", "test", "fog"]
    assert parsed.tables[1][-1][5][0] == "75.00"
    assert "OOD fog" not in text
    assert "OOD ring" in text


def test_results_table_equals_rows(images_folder: Path, built_images: Path):
    rows = {(r["model"], r["metric"], r["dataset"]): r["value"] for r in _results(images_folder)["rows"]}
    groups, heads, *lines = _Page(built_images.read_text(encoding="utf-8")).tables[0]
    assert [text for text, _ in groups[1:6]] == ["Error\xa0↓", "NLL\xa0↓", "ECE\xa0↓", "PRR\xa0↑", "Rank corr.\xa0↑"]
    assert [text for text, _ in groups[6:]] == ["OOD svhn_cropped", "OOD lsun"]
    assert [text for text, _ in heads] == ["total\xa0↑", "knowledge\xa0↑"] * 2
    models = ["single", "single_matched", "ensemble", "end", "end_aux", "end2_nll", "end2_nll_aux", "end2", "end2_aux"]
    assert len(lines) == len(models)
    for model, (_, *cells) in zip(models, lines, strict=True):
        expected = [
            f"{100 * rows[model, 'error', 'test']:.2f}",
            f"{rows[model, 'nll', 'test']:.3f}",
            f"{100 * rows[model, 'ece', 'test']:.2f}",
            f"{rows[model, 'prr', 'test']:.1f}",
        ]
        correlation = rows.get((model, "knowledge_rank_correlation", "test"))
        expected.append("–" if correlation is None else f"{correlation:.3f}")
        for dataset in ("svhn_cropped", "lsun"):
            for kind in ("total", "knowledge"):
                value = rows.get((model, f"ood_auroc_{kind}", dataset))
                expected.append("–" if value is None else f"{100 * value:.1f}")
        assert [text for text, _ in cells] == expected, model


def test_best_student_is_marked_and_nobody_else(images_folder: Path, built_images: Path):
    rows = _results(images_folder)["rows"]
    _, _, *lines = _Page(built_images.read_text(encoding="utf-8")).tables[0]
    marked = {cells[0][0] for cells in lines if cells[1][1].get("class") == "best"}  # of the error column
    errors = {r["model"]: round(100 * r["value"], 2) for r in rows if r["metric"] == "error"}
    students = {m: e for m, e in errors.items() if m.startswith("end")}
    names = {"end": "EnD", "end_aux": "EnD + AUX", "end2_nll": "EnD² (NLL)", "end2_nll_aux": "EnD² (NLL) + AUX"}
    names |= {"end2": "EnD²", "end2_aux": "EnD² + AUX"}
    assert marked == {names[m] for m, e in students.items() if e == min(students.values())}


def test_every_row_and_the_config_are_on_the_page(spirals_folder: Path, built: Path):
    results = _results(spirals_folder)
    text = built.read_text(encoding="utf-8")
    table = _Page(text).tables[-1][1:]
    assert len(table) == len(results["rows"])
    for (_, dataset, metric, value, *_), row in zip(table, results["rows"], strict=True):
        assert (dataset[0], metric[0]) == (row["dataset"], row["metric"])
        assert float(value[0]) == pytest.approx(row["value"], rel=1e-5)
    assert "&#34;num_members&#34;: 10" in text
    assert "python main.py --experiment=spirals_end2_aux" in text
    assert "Number of bins here: 15" in text
    assert "test 1,500" in text


def test_data_without_a_plane_have_no_maps(built_images: Path):
    assert {p.stem for p in (built_images.parent / "report").iterdir()} == ALL_PICTURES - ON_MAPS


@pytest.mark.parametrize(
    ("parts", "pictures"),
    [
        ([], set()),
        (["history"], {"training_losses", "training"}),
        (["predictions"], {"ood"}),
        (["predictions", "labels.npz"], {"ood", "reliability", "rejection"}),
        (["simplex.npz"], {"simplex"}),
        (["map.npz"], {"predictions"}),  # the training points alone
    ],
)
def test_missing_parts_leave_out_their_section(
    small: Path, images_folder: Path, spirals_folder: Path, tmp_path: Path, parts: list[str], pictures: set[str]
):
    source = images_folder if "predictions" in parts else spirals_folder
    shutil.copy(source / "results.json", small)
    for part in parts:
        copy = shutil.copytree if (source / part).is_dir() else shutil.copy
        copy(source / part, small / part)
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    shown = {p.stem for p in (tmp_path / "out").glob("report/*.png")}
    assert shown == pictures
    for picture in page.PICTURES:
        assert (picture.section.replace("'", "&#39;") in text) == any(
            p.section == picture.section and p.name in pictures for p in page.PICTURES
        )


def test_published_figures_name_their_source_and_are_not_repeated_in_the_config(small: Path, tmp_path: Path):
    assert "Rows marked published" not in report.build(small, tmp_path / "before").read_text(encoding="utf-8")
    published = {"source": "A & B (2020)", "test": {"end2_aux": {"error": [0.3125, None]}}, "ood": {}}
    _change(small, config=_results(small)["config"] | {"published": published})
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    assert "Rows marked published are not of this run, but of A &amp; B (2020)." in text
    assert text.count('<tr class="published">') == 1
    row = next(row for row in _Page(text).tables[0] if row[0][0] == "EnD² + AUX, published")
    assert row[1][0] == "31.2"
    assert "0.3125" not in text


def test_no_students(small: Path, tmp_path: Path):
    rows = [r for r in _results(small)["rows"] if r["model"] in ("single", "ensemble", "bayes")]
    _change(small, rows=rows, gap_closed=[])
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    assert "No distilled student was evaluated." in text
    assert "Share of the gap closed" not in text


def test_a_method_of_ones_own_is_a_student(small: Path, tmp_path: Path):
    rows = [dict(r, model="my_method") if r["model"] == "end2_aux" else r for r in _results(small)["rows"]]
    _change(small, rows=[r for r in rows if r["model"] in ("my_method", "ensemble", "single")], gap_closed=[])
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    assert "My method gets" in text


def test_only_rows_are_needed(small: Path, tmp_path: Path):
    (small / "results.json").write_text(json.dumps({"rows": []}), encoding="utf-8")
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    assert "No model&#39;s test error is among the results." in text


def test_texts_are_escaped(small: Path, tmp_path: Path):
    _change(small, experiment="<script>alert(1)</script>", notes=["a < b & c"])
    text = report.build(small, tmp_path / "out").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a &lt; b &amp; c" in text


def test_a_new_report_replaces_the_old_one(small: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "report").mkdir(parents=True)
    (out / "report" / "stale.png").write_bytes(b"old")
    (out / "report.html").write_text("old")
    assert report.build(small, out).read_text(encoding="utf-8") != "old"
    assert {p.name for p in out.iterdir()} == {"report.html"}


def test_the_old_report_stays_if_the_new_one_fails(small: Path, tmp_path: Path):
    out = tmp_path / "out"
    (out / "report").mkdir(parents=True)
    (out / "report" / "old.png").write_bytes(b"old")
    (small / "simplex.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"simplex\.npz isn't an \.npz file.*Delete it"):
        report.build(small, out)
    assert (out / "report" / "old.png").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"results\.json is missing.*Run the evaluation first"),
        ("{", r"results\.json is no readable JSON.*run the evaluation again"),
        ("[]", r"results\.json holds a list, not an object.*run the evaluation again"),
        ('{"rows": [{"model": "end"}]}', r"results\.json has no list 'rows'.*run the evaluation again"),
    ],
)
def test_unusable_results(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        report.build(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_history_with_text_in_it(small: Path, tmp_path: Path):
    (small / "history").mkdir()
    (small / "history" / "end2.csv").write_text("epoch,loss\n1,low\n")
    with pytest.raises(DataError, match=r"end2\.csv has a cell that is no number.*run the evaluation again"):
        report.build(small, tmp_path / "out")


def test_out_dir_that_is_a_file(small: Path, tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(WorkdirError, match="out"):
        report.build(small, tmp_path / "out")


def test_a_report_leaves_the_backend_alone(small: Path, tmp_path: Path):
    """In a notebook another one would swallow every picture that follows."""
    code = (
        "import sys, matplotlib\nmatplotlib.use('svg')\nfrom pathlib import Path\nfrom end2_tf import report\n"
        "report.build(Path(sys.argv[1]), Path(sys.argv[2]))\nsys.exit(matplotlib.get_backend() != 'svg')"
    )
    root = Path(importlib.import_module("end2_tf").__file__).parents[1]
    command = [sys.executable, "-c", code, str(small), str(tmp_path / "out")]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_importing_the_report_imports_no_tensorflow():
    code = "import sys, end2_tf.report; sys.exit('tensorflow' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    root = Path(importlib.import_module("end2_tf").__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (99.4, "99.4 s"), (655.0, "10 min 55 s"), (7265.0, "2 h 1 min")]
)
def test_duration(seconds: float, text: str):
    assert page._duration(seconds) == text


def test_date():
    assert page._date("2024-11-04T06:05:00+00:00") == "4 November 2024, 06:05 UTC"
    assert page._date("yesterday") == "yesterday"
