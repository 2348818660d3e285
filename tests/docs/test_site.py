"""The site: its code runs, its links lead somewhere, its formulas are drawn, and it needs no network."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCES = sorted(DOCS.rglob("*.md"))
NAMES = [path.relative_to(DOCS).as_posix() for path in SOURCES]
BIGGEST = 150_000  # bytes of a picture


def _script(name):
    """Imports a file of docs/, which is no package; with its neighbours on the path."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(DOCS))


pages = _script("pages")


def _text(name):
    return pages.expanded((DOCS / name).read_text(encoding="utf-8"), f"docs/{name}")


def _nav(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, str):
                yield value
            else:
                yield from _nav(value)


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; whatever MkDocs warns of is an error."""
    pytest.importorskip("mkdocs", reason="MkDocs isn't installed; the extra [docs] has it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class _Page(HTMLParser):
    """What a page refers to, and the places in it that others can refer to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        elif tag in ("img", "script", "iframe") and "src" in attrs:
            self.loaded.append(attrs["src"])
        elif tag == "link" and attrs.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(attrs["href"])


@pytest.fixture(scope="module")
def built(site):
    return {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if pages.blocks(_text(name))])
def test_code_runs(name, tmp_path):
    command = [sys.executable, str(DOCS / "run.py"), str(DOCS / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ blocks? ran", done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_that_run_otherwise_say_how(name):
    run = _script("run")
    for block in pages.blocks(_text(name)):
        assert block.language in ("python", "sh", "text"), block.code
        if block.said.startswith(run.NOT_RUN):
            assert re.search(r"GPU|cluster|network|server", block.said), block.said
        elif block.said.startswith(run.WITH):
            assert re.fullmatch(r"--(smoke|describe)( --set \S+)*", block.said.removeprefix(run.WITH)), block.said
            assert block.language == "sh"
        else:
            assert block.said in ("", run.BESIDE) or "runs" not in block.said, block.said


@pytest.mark.parametrize("name", NAMES)
def test_every_fence_is_a_block(name):
    assert _text(name).count("```") == 2 * len(pages.blocks(_text(name)))


@pytest.mark.parametrize("name", [*NAMES, "../README.md"])
def test_commands_have_flags_that_exist(name):
    from end2_tf import registry
    from end2_tf.flags import FLAGS

    for block in pages.blocks(_text(name)):
        for command in re.findall(
            r"main\.py((?: +--[^#\n]*?)*)(?: *#.*)?$", block.code.replace("\\\n", " "), re.MULTILINE
        ):
            for flag, value in re.findall(r"--(\w+)(?:=(\S+))?", command):
                assert flag in FLAGS, command
                if flag == "experiment" and value.isidentifier() and f'"{value}": Experiment(' not in _text(name):
                    assert value in registry.experiments(), command


def test_pages_of_the_navigation_are_there_and_all_are_in_it(config, site):
    named = set(_nav(config["nav"]))
    for name in named:
        built = name.removesuffix("README.md") + "index.html" if name.endswith("README.md") else f"{name[:-3]}.html"
        assert (site / built).is_file(), name
    assert set(NAMES) <= named


def test_links_and_anchors_lead_somewhere(site, built):
    count = 0
    for path, page in built.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in built[target].anchors, f"{path.relative_to(site)}: {link}"
            count += 1
    assert count > 1000


def test_nothing_is_fetched(site, built):
    for path, page in built.items():
        assert not [link for link in page.loaded if urlsplit(link).netloc], path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", path.read_text(encoding="utf-8")), path


def test_formulas_are_drawn(site):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "mathematics").glob("*.html"))
    assert text.count("<math ") > 150
    assert 'class="arithmatex"' not in text
    assert (site / "assets" / "STIXTwoMath-Regular.ttf").is_file()


def test_reference_has_what_docstrings_say(site):
    losses = (site / "reference" / "losses.html").read_text(encoding="utf-8")
    for name in pages_of_losses():
        assert f'id="end2_tf.losses.{name}"' in losses, name
    assert "Call arguments" in losses
    assert "&gt;&gt;&gt;" in losses


def pages_of_losses():
    from end2_tf import registry

    return [f"{name}.{registry.class_name(name)}" for name in registry.names("loss")]


def test_what_is_elsewhere_is_shown_not_copied(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "ring_410, ring_500, ring_800" in home  # README's results
    for path in (ROOT / "zoo").rglob("*.md"):
        relative = path.relative_to(ROOT)
        if path.parent.name == "notes":
            assert path.read_text(encoding="utf-8").strip() in (path.parents[1] / path.name).read_text(encoding="utf-8")
            assert not (site / relative).with_suffix(".html").exists()
            continue
        assert (site / relative.with_name("index.html" if path.name == "README.md" else f"{path.stem}.html")).is_file()
        assert not (DOCS / relative).exists()
    for path in (ROOT / "examples").glob("*.ipynb"):
        assert (site / "examples" / f"{path.stem}.html").is_file()


def test_pictures_are_small_and_shown():
    shown = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    drawn = _script("make_pictures").PICTURES
    pictures = {path.stem: path for path in (DOCS / "pictures").iterdir()}
    assert set(pictures) == set(drawn)
    for name, path in pictures.items():
        assert path.stat().st_size <= BIGGEST
        assert f"pictures/{name}.png" in shown


@pytest.mark.parametrize("name", ["penalties", "temperatures", "triangles", "walk"])
def test_pictures_are_what_the_script_draws(name, tmp_path, monkeypatch):
    script = _script("make_pictures")
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    script.main(name)
    now, kept = (
        np.asarray(Image.open(folder / f"{name}.png").convert("L"), np.int32)
        for folder in (tmp_path, DOCS / "pictures")
    )
    assert now.shape == kept.shape
    assert np.mean(np.abs(now - kept) > 40) < 0.02  # of the pixels: fonts are drawn a little differently elsewhere


@pytest.mark.parametrize("said", ["not run: needs a cluster", ""])
def test_blocks_are_read_with_what_is_said_above(said):
    comment = f"<!-- {said} -->\n" if said else "Text.\n"
    (block,) = pages.blocks(f'{comment}```python title="a/b.py"\nx = 1\n```\n')
    assert (block.language, block.code, block.said, block.file) == ("python", "x = 1\n", said, "a/b.py")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("<!-- include nothing.md#Title -->", "page.md includes nothing.md, which isn't in the repository"),
        ("<!-- include README.md#No such -->", "page.md includes 'No such' of README.md, which has no such section"),
        ("<!-- include README.md#<no> -->", "page.md includes '<no>' of README.md, which has no such section"),
    ],
)
def test_what_cannot_be_included_is_named(line, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pages.expanded(line, "page.md")


def test_headings_of_what_is_included_are_below_the_page_s_own():
    include = "<!-- include README.md#The command line -->"
    assert "\n## Stages\n" in pages.expanded(f"# Page\n\n{include}", "docs/page.md")
    assert "\n### Stages\n" in pages.expanded(f"# Page\n\n## Part\n\n```sh\n# said\n```\n{include}", "docs/page.md")


def test_links_of_what_is_included_are_seen_from_the_page():
    text = pages.expanded("<!-- include README.md#<results> -->", "docs/howto/page.md")
    assert "](../../docs/spirals_uncertainty.png)" in text


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Runs a page of these lines."""
    run = _script("run")
    monkeypatch.setattr(run.pages, "ROOT", tmp_path)
    monkeypatch.setattr(run, "_furnish", lambda folder: None)

    def go(text):
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        return run.run(tmp_path / "page.md", folder)

    go.error = run.PageError
    return go


def test_blocks_share_names_files_and_folder(page):
    text = '```python title="made.py"\nvalue = 4\n```\n```python\nfrom made import value\nprint(value + 0.1)\n```\n'
    assert page(f"{text}```text\n4.2\n```\n```sh\ntest -f made.py\n```\n") == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nprint(4)\n```\n```text\n5\n```\n", "the page shows\n5\n\nbut its code prints\n4"),
        ("```sh\necho yes\n```\n```text\nno\n```\n", "the page shows\nno\n\nbut its code prints\nyes"),
        ("```python\nassert 1 == 2\n```\n", "page.md: AssertionError"),
        ("```sh\necho oh >&2; false; true\n```\n", "exit code 1 of\necho oh"),
        ("```toml\na = 1\n```\n", "page.md has a block of 'toml'"),
        ("<!-- runs beside the rest -->\n```sh\nfalse\n```\n", "no server at\nfalse"),
    ],
)
def test_a_block_that_fails_is_shown(page, text, message):
    with pytest.raises(page.error, match=re.escape(message)):
        page(text)


def test_flags_are_added_to_each_command(page, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "main.py").write_text("import sys; print(*sys.argv[1:])", encoding="utf-8")
    commands = "python main.py --a=1   # why\npython main.py --b \\\n    --c\necho python main.py\n"
    printed = "--a=1 --smoke\n--b --c --smoke\npython main.py\n"
    assert page(f"<!-- runs with: --smoke -->\n```sh\n{commands}```\n```text\n{printed}```\n") == 1


def test_what_is_not_run_is_not_run(page):
    assert page("<!-- not run: needs a GPU -->\n```sh\nfalse\n```\n") == 0


def test_a_formula_that_cannot_be_drawn_is_named():
    pytest.importorskip("mkdocs", reason="MkDocs isn't installed; the extra [docs] has it")
    hooks = _script("hooks")
    with pytest.raises(hooks.PluginError, match=re.escape(r"page.md has the formula '\\nosuch x'")):
        hooks.mathml(r"\nosuch x", "span", "page.md")
    made = hooks.mathml(r"\operatorname{KL}(p) = \ln x", "div", "page.md")
    assert made.startswith('<div class="math"><math ')
    assert '<mi mathvariant="normal">KL</mi>' in made
    assert '<mi>ln</mi><mspace width="0.167em" />' in made


def test_notebooks_become_pages():
    pytest.importorskip("mkdocs", reason="MkDocs isn't installed; the extra [docs] has it")
    hooks = _script("hooks")
    outputs = [
        {"output_type": "stream", "text": ["4\n"]},
        {"output_type": "display_data", "data": {"image/png": "aGk="}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["2 + 2"], "outputs": outputs},
    ]
    text, pictures = hooks.notebook({"cells": cells}, "name")
    assert text.startswith("# Title\n\n```python\n2 + 2\n```\n\n```text\n4\n```\n\n![")
    assert pictures == {"name_0.png": b"hi"}


def test_fields_become_a_table():
    source = '''
Share = Annotated[float, Field(ge=0, lt=1), _Number]

class Part:
    """A part.

    Args:
        unshown: No.
    """

    kind: Literal["a", "b"] = "a"  # which
    # Said above, a < b | c,
    # in two lines.
    share: Share = 0.5
    many: dict[str, Any] = dataclasses.field(default_factory=dict)

class Experiment:
    """All."""

    part: Part = Part()
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)
    limit: Count | None = None

Count = Annotated[int, Field(ge=1), _Number]
'''
    text = _script("fields").markdown(source)
    experiment, part = text.split("## Part\n")
    assert "| `part` | [Part](#part) |  |  |\n| `parts` | name → [Part](#part) | none |  |" in experiment
    assert "| `limit` | whole number ≥ 1 | none |  |" in experiment
    assert part.startswith("\nA part.\n\nAt `part`, `parts.NAME`.\n")
    assert "| `kind` | `a` or `b` | `a` | which |" in part
    assert "| `share` | number ≥ 0 and < 1 | `0.5` | Said above, a &lt; b \\| c, in two lines. |" in part
    assert "| `many` | name → any value | none |  |" in part
    assert "unshown" not in text


def test_the_table_of_fields_has_every_field():
    from end2_tf.config import fields

    shown = dict(
        zip(*[iter(re.split(r"^## (\w+)\n", _script("fields").markdown(), flags=re.MULTILINE)[1:])] * 2, strict=True)
    )
    declared = {
        name for name, kind in vars(fields).items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
    assert shown.keys() == declared - {"Published"}
    for name, text in shown.items():
        rows = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
        assert rows == {field.name for field in dataclasses.fields(getattr(fields, name))} - {"published"}


def test_a_new_loss_is_in_the_reference(monkeypatch):
    pytest.importorskip("mkdocs", reason="MkDocs isn't installed; the extra [docs] has it")
    hooks = _script("hooks")
    monkeypatch.setattr(hooks.registry, "names", lambda kind: ["dirichlet_nll", "my_own"])
    text = "::: end2_tf.losses.dirichlet_nll.DirichletNLL\n"
    assert hooks._other_losses(text) == "::: end2_tf.losses.my_own.MyOwn"


def test_results_are_sentences():
    pytest.importorskip("griffe", reason="Griffe isn't installed; the extra [docs] has it")
    told = _script("docstrings")._SENTENCES.sub(
        _script("docstrings")._told,
        "Does.\n\nReturns:\n    Nats: a number,\n    or two.\n\nRaises:\n    ValueError: no.\n",
    )
    assert told.split("Raises:")[0].split("\n\n") == ["Does.", "**Returns:**", "Nats: a number,\nor two.", "\n"]
    assert told.endswith("Raises:\n    ValueError: no.\n")
