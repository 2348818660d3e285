"""A table of an experiment's fields, made from the dataclasses' source and the comments beside their fields."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "end2_tf" / "config" / "fields.py"
HIDDEN = ("Published",)  # what reports show of a paper; nobody sets it by hand

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_TYPES = {"float": "number", "int": "whole number", "bool": "true or false", "str": "text", "tuple": "list"}


def markdown(source: str = "") -> str:
    """Returns a section for each dataclass: where its fields stand, and a table of them.

    Args:
        source: Python; the package's own by default.
    """
    source = source or SOURCE.read_text(encoding="utf-8")
    tree = ast.parse(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef) and node.name not in HIDDEN}
    aliases = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    alone = {number for number, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith("#")}
    parts = []
    paths: dict[str, list[str]] = {}
    for name, path in _paths("Experiment", classes, "", ()):
        paths.setdefault(name, []).append(path)
    for name, places in paths.items():
        doc = inspect.cleandoc(ast.get_docstring(classes[name]) or "").split("\nArgs:")[0].strip()
        rows = []
        for field in _fields(classes[name]):
            kind = _type(field.annotation, aliases, classes)
            if kind:
                rows.append(f"| `{field.target.id}` | {kind} | {_default(field)} | {_said(field, comments, alone)} |")
        at = ", ".join(f"`{place}`" for place in places)
        head = [f"## {name}", doc] + ([f"At {at}."] if any(places) else [])
        parts.append(
            "\n\n".join([*head, "\n".join(["| field | value | default | what it is |", "|---|---|---|---|", *rows])])
        )
    return "\n\n".join(parts) + "\n"


def _fields(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    return (item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name))


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _paths(name: str, classes: dict[str, ast.ClassDef], path: str, seen: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields each dataclass with a path at which it stands, in the order of fields."""
    yield name, path
    for field in _fields(classes[name]):
        for inner in sorted(_names(field.annotation) & classes.keys() - {*seen, name}):
            many = ".NAME" if "dict" in _names(field.annotation) else ""
            yield from _paths(inner, classes, f"{path}{'.' if path else ''}{field.target.id}{many}", (*seen, name))


def _type(node: ast.expr, aliases: dict[str, ast.expr], classes: dict[str, ast.ClassDef]) -> str:
    if isinstance(node, ast.BinOp):  # X | None
        return _type(node.left, aliases, classes)
    if isinstance(node, ast.Name):
        if node.id in classes:
            return f"[{node.id}](#{node.id.lower()})"
        if node.id in HIDDEN:
            return ""
        return _type(aliases[node.id], aliases, classes) if node.id in aliases else _TYPES.get(node.id, node.id)
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return ast.unparse(node)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    match node.value.id:
        case "Literal":
            return " or ".join(f"`{ast.literal_eval(value)}`" for value in inner)
        case "Annotated":
            bounds = [
                f"{_BOUNDS[bound.arg]} {ast.unparse(bound.value)}"
                for extra in inner[1:]
                if isinstance(extra, ast.Call)
                for bound in extra.keywords
                if bound.arg in _BOUNDS
            ]
            return f"{_type(inner[0], aliases, classes)} {' and '.join(bounds)}".strip()
        case "dict":
            value = _type(inner[1], aliases, classes)
            return "name → " + ("any value" if value == "Any" else value)
        case _:
            return f"list of {_type(inner[0], aliases, classes)}"


def _default(field: ast.AnnAssign) -> str:
    if field.value is None:
        return "must be given"
    text = ast.unparse(field.value)
    if isinstance(field.value, ast.Call):
        return "none" if "default_factory=dict" in text else ""
    return "none" if text == "None" else f"`{text.strip('(),').replace(chr(39), '')}`"


def _said(field: ast.AnnAssign, comments: dict[int, str], alone: set[int]) -> str:
    """Returns the comment on a field: those on its lines, else the lines above it."""
    lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
    beside = [comments[line] for line in lines if line in comments]
    above = []
    line = field.lineno - 1
    while not beside and line in alone:
        above.insert(0, comments[line])
        line -= 1
    return " ".join(beside or above).replace("|", r"\|").replace("<", "&lt;")
