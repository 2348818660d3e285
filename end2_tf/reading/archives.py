"""ZIP archives from outside, looked at before anything is unpacked."""

from __future__ import annotations

import contextlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from end2_tf.errors import End2Error

MAX_ENTRIES = 200_000
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_PART = re.compile(r"[^/\\\x00-\x1f\x7f:]{1,255}")  # of a name: no separator, drive or control character
# What zipfile raises for archives that are damaged, or that never were one.
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)


@contextlib.contextmanager
def opened(path: Path, error: type[End2Error], what: str, advice: str) -> Iterator[zipfile.ZipFile]:
    """Opens an archive whose list of entries can be believed.

    Args:
        path: The file.
        error: What to raise.
        what: What it should be: "a .keras file".
        advice: The end of the message: what to do.

    Raises:
        error: it is no archive, or an entry is encrypted, a link, compressed in another way than Python's own writer
            would, there twice, or named so that it would be written elsewhere.
    """
    try:
        if not path.is_file():
            raise error(f"{path} is {'no plain file' if path.exists() else 'missing'}. {advice}")
        archive = zipfile.ZipFile(path)
    except End2Error:
        raise
    except FAULTS as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise error(f"{path} isn't {what}, or only part of one ({reason}). {advice}") from None
    with archive:
        if wrong := _fault(archive):
            raise error(f"{path} isn't {what} that is opened: {wrong}. {advice}")
        yield archive


def _fault(archive: zipfile.ZipFile) -> str:
    """Returns what is wrong with an archive's list; nothing if it is sound."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        return f"it has {len(entries):,} entries, and at most {MAX_ENTRIES:,} are allowed"
    names: set[str] = set()
    for entry in entries:
        name = entry.filename[:100]
        if not all(_PART.fullmatch(part) and part not in (".", "..") for part in entry.filename.rstrip("/").split("/")):
            return f"{name!r} can't be the name of an entry"
        if entry.filename in names:  # readers disagree on which of them counts
            return f"it has {name!r} twice"
        if entry.flag_bits & 1:
            return f"{name!r} is encrypted"
        if entry.compress_type not in _KNOWN:
            return f"{name!r} is compressed in the way {entry.compress_type}, which isn't read"
        if stat.S_ISLNK(entry.external_attr >> 16):
            return f"{name!r} is a link"
        names.add(entry.filename)
    return ""


def unpacked_bytes(archive: zipfile.ZipFile) -> int:
    """Returns the bytes of all entries, as their headers say; zipfile gives no entry more than that."""
    return sum(entry.file_size for entry in archive.infolist())
