"""What MkDocs does here beyond Markdown: parts of other files, published models' cards, notebooks, mathematics.

A page's links are those of the repository, so that they work there too; here they become the site's.
"""

from __future__ import annotations

import base64
import html
import json
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fields
import pages
import ziamath
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(pages.ROOT))
from end2_tf import registry

ROOT = pages.ROOT
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")  # shown as they are
FONT = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"  # few systems have one for formulas
SHOWN = (".md", ".png", ".json", ".csv", ".npz")  # of the zoo; what cards link to

_LINK = re.compile(r"(?<!`)(!?\[[^\]\n]*\])\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```\s*?$)", re.DOTALL | re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Adds what isn't in docs/ and is shown all the same."""
    files.append(File.generated(config, f"assets/{FONT.name}", abs_src_path=str(FONT)))
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "zoo").rglob("*")):
        if path.suffix in SHOWN and path.is_file() and path.parent.name != "notes":  # pages have taken those up
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        text, pictures = notebook(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"examples/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"examples/{name}", content=content))
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    uri = page.file.src_uri
    source = f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else uri
    try:
        text = pages.expanded(markdown, source)
    except ValueError as error:
        raise PluginError(str(error)) from None
    text = text.replace("<!-- fields -->", fields.markdown()).replace("<!-- other losses -->", _other_losses(text))
    return outside_code(text, lambda part: _LINK.sub(lambda link: _on_site(link, source, uri, files), part))


def on_page_content(html_text: str, page: Any, **_: Any) -> str:
    return _FORMULA.sub(lambda found: mathml(html.unescape(found[2]), found[1], page.file.src_uri), html_text)


def mathml(latex: str, tag: str, where: str) -> str:
    """Returns a formula as MathML, in a box of its own if `tag` is div."""
    display = "block" if tag == "div" else "inline"
    made = convert(latex, display=display)
    if "\\" in made:
        raise PluginError(f"{where} has the formula {latex.strip()!r}, a command of which latex2mathml doesn't know.")
    # Names of functions: upright, and spaced like ln, not like an operator between two things.
    made = re.sub(r"<mo>([A-Za-z]+)</mo>", r'<mi mathvariant="normal">\1</mi>', made)
    made = re.sub(r"<mi>ln</mi>(?!<mo[^>]*>&#x00028;)", r'<mi>ln</mi><mspace width="0.167em" />', made)
    made = made.replace("<math ", f'<math aria-label="{html.escape(latex.strip())}" ', 1)
    return f'<div class="math">{made}</div>' if tag == "div" else made


def notebook(content: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, with what its cells printed and drew, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif "image/png" in output.get("data", {}):
                picture = f"{name}_{len(pictures)}.png"
                pictures[picture] = base64.b64decode("".join(output["data"]["image/png"]))
                parts.append(f"![What the cell above draws]({picture})")
    parts.append(f"[The notebook]({name}.ipynb) itself is in the repository, in `examples/`.")
    return "\n\n".join(parts) + "\n", pictures


def _other_losses(text: str) -> str:
    """Returns mkdocstrings' lines for the losses that a page doesn't name, so that a new one is in the reference."""
    known = {name: registry.class_name(name) for name in registry.names("loss")}
    return "\n".join(
        f"::: end2_tf.losses.{name}.{made}" for name, made in known.items() if f"losses.{name}.{made}" not in text
    )


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Applies a change to all of a page but its fenced blocks."""
    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _on_site(link: re.Match[str], source: str, uri: str, files: Any) -> str:
    """Returns a link of the repository as one of the site."""
    text, target = link[1], link[2]
    if re.match(r"[a-z]+:|#", target):
        return link[0]
    path, _, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    path = re.sub(r"^docs/|(?<=^examples/)(.*)\.ipynb$", lambda m: f"{m[1]}.md" if m[1] else "", path)
    if source.startswith("examples/") and target.endswith(".ipynb"):
        path = f"examples/{target}"
    if (ROOT / path).is_dir():  # a folder of files isn't a page
        return text.strip("[]")
    relative = posixpath.relpath(path, posixpath.dirname(uri) or ".")
    return f"{text}({relative}{'#' + anchor if anchor else ''})"
