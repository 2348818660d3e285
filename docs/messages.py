"""Lists every message that a user can get, by the error and the file that raises it, to be read through in one go.

python docs/messages.py [ERROR]

What is written as {…} is filled in. Read from the source; nothing is imported or run.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "end2_tf"


@dataclasses.dataclass(frozen=True)
class Message:
    """A message as its source has it."""

    error: str
    text: str
    file: str
    line: int


def collect(package: Path = PACKAGE) -> list[Message]:
    """Returns the messages of all errors that are shown to users, in the order of files and lines."""
    names = errors(package)
    found = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
                text = template(node.args[0])
                found.append(Message(node.func.id, text, path.relative_to(package.parent).as_posix(), node.lineno))
    return sorted(found, key=lambda message: (message.file, message.line))


def errors(package: Path = PACKAGE) -> set[str]:
    """Returns the names of the errors: classes of `errors.py`, and "error" where a caller says which."""
    tree = ast.parse((package / "errors.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {"error"}


def template(node: ast.expr) -> str:
    """Returns an expression's text: f-strings with their expressions in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return f"{{{ast.unparse(node)}}}"


def listing(messages: list[Message]) -> Iterator[str]:
    """Yields the lines of the listing."""
    file = ""
    for message in messages:
        if message.file != file:
            file = message.file
            yield f"\n{file}"
        first = f"  {message.line:>4} {message.error}: "
        yield textwrap.fill(message.text, 118, initial_indent=first, subsequent_indent=" " * 9)
    yield f"\n{len(messages)} messages"


if __name__ == "__main__":
    wanted = sys.argv[1:]
    print("\n".join(listing([m for m in collect() if not wanted or m.error in wanted])))
