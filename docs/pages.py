"""Pages as they are read and run: with the parts of other files that they include, and the blocks of code in them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_INCLUDE = re.compile(r"^<!-- include (\S+?)#(.+?) -->$", re.MULTILINE)
_LINK = re.compile(r"(!?\[[^\]\n]*\])\((?![a-z]+:|#)([^)\s]+)\)")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<said>[^\n]*?) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<file>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What stands behind the fence.
        code: What is in it.
        said: The comment on the line above, or "".
        file: Its title, the name of a file that it is the whole of, or "".
    """

    language: str
    code: str
    said: str = ""
    file: str = ""


def blocks(text: str) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    return [
        Block(found["language"], found["code"], found["said"] or "", found["file"] or "")
        for found in _BLOCK.finditer(text)
    ]


def expanded(text: str, source: str) -> str:
    """Returns a page with what it includes.

    `<!-- include README.md#Serve -->` stands for that section of a file of the repository, without its heading, and
    with those in it one level below the page's own; `#<results>` for what is between the comments `<!-- results -->`
    and `<!-- end of results -->` there.

    Args:
        text: Markdown.
        source: The page's path in the repository.

    Raises:
        ValueError: there is no such file, or no such section in it.
    """

    def included(found: re.Match[str]) -> str:
        name, section = found[1], found[2]
        path = ROOT / name
        if not path.is_file():
            raise ValueError(
                f"{source} includes {name}, which isn't in the repository. Name a file as seen from its root."
            )
        part = _section(path.read_text(encoding="utf-8"), section)
        if part is None:
            raise ValueError(
                f"{source} includes {section!r} of {name}, which has no such section. Name a heading of it."
            )
        prose = re.sub(r"^```.*?^```$", "", text[: found.start()], flags=re.DOTALL | re.MULTILINE)
        above = re.findall(r"^(#+) ", prose, re.MULTILINE)
        part = re.sub(r"^###(?= )", f"{above[-1] if above else '#'}#", part, flags=re.MULTILINE)
        # Links are as seen from the included file's folder; here from the page's.
        back = posixpath.relpath(posixpath.dirname(name) or ".", posixpath.dirname(source) or ".")
        return _LINK.sub(lambda link: f"{link[1]}({posixpath.normpath(posixpath.join(back, link[2]))})", part)

    return _INCLUDE.sub(included, text)


def _section(text: str, section: str) -> str | None:
    if section.startswith("<"):
        name = re.escape(section.strip("<>"))
        found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    else:
        found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1].strip() if found else None
