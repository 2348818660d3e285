"""Files of a folder that somebody else filled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from end2_tf.errors import DataError


def files(root: Path) -> list[Path]:
    """Returns the plain files below a folder, at any depth, sorted; hidden files and folders are left out.

    Pipes, sockets and devices are left out too. A link counts as what it leads to, where that is in the folder.

    Raises:
        DataError: a link leads out of the folder, or nowhere; a part of the folder can't be read.
    """
    inside = root.resolve()
    return sorted(_walk(root, inside, {inside}))


def _walk(folder: Path, inside: Path, seen: set[Path]) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror}. Make it readable, or remove it.") from None
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            leads_to = check_link(path, inside)
            if leads_to in seen:  # a circle
                continue
            seen.add(leads_to)
        if entry.is_dir():
            yield from _walk(path, inside, seen)
        elif entry.is_file():
            yield path


def below(root: Path) -> list[Path]:
    """Returns a folder's visible subfolders, sorted by name; raises DataError as `files` does."""
    found = [path for path in root.iterdir() if not path.name.startswith(".") and (path.is_dir() or path.is_symlink())]
    for path in found:
        if path.is_symlink():
            check_link(path, root.resolve())
    return sorted(path for path in found if path.is_dir())


def check_link(path: Path, inside: Path) -> Path:
    """Returns what a link leads to; raises DataError where that isn't there, or not in a folder."""
    try:
        leads_to = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise DataError(f"{path} is a link that leads nowhere. Remove it.") from None
    if not leads_to.is_relative_to(inside):
        raise DataError(
            f"{path} is a link to {leads_to}, outside {inside}. Put a copy of what it means in its place, or remove it."
        )
    return leads_to
