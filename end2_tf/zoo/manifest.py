"""What digests cover: an index names each entry's manifest, a manifest every other file of the entry.

Both may come from a stranger's server, so names and sizes are checked before they are used.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from end2_tf import workdir
from end2_tf.errors import ZooError, plain
from end2_tf.reading import texts

FORMAT: Literal[1] = 1
INDEX, MANIFEST = "index.json", "manifest.json"
MAX_BYTES = 60_000_000  # of a zoo, so of any entry and file
MAX_LISTING_BYTES = 1_000_000  # of an index or a manifest

_ENTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}")  # no hidden files, drives, '..' or separators


def is_entry_name(name: str) -> bool:
    return _ENTRY.fullmatch(name) is not None


def _entry_name(name: str) -> str:
    if not is_entry_name(name):
        raise ValueError(f"{name[:100]!r} can't be the name of an entry")
    return name


def _file_name(name: str) -> str:
    parts = name.split("/")
    if name == MANIFEST or len(parts) > 10 or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"{name[:100]!r} can't be a file of an entry: only names inside its folder are allowed")
    return name


def _summary(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has a character that can't be seen")
    return text


EntryName = Annotated[str, pydantic.AfterValidator(_entry_name)]
FileName = Annotated[str, pydantic.AfterValidator(_file_name)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Summary = Annotated[str, Field(max_length=500), pydantic.AfterValidator(_summary)]
NumBytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]


@dataclass(frozen=True)
class File:
    """Digest and size of one file."""

    sha256: Digest
    bytes: NumBytes


@dataclass(frozen=True)
class Manifest:
    """Every file of an entry but the manifest itself, by its path below the entry's folder."""

    entry: EntryName
    files: dict[FileName, File]
    format: Literal[1] = FORMAT


@dataclass(frozen=True)
class Record:
    """An entry in the index: digest of its manifest, bytes of all its files, and what it is."""

    manifest: Digest
    bytes: NumBytes
    kind: Literal["student", "member", "ensemble"]
    summary: Summary = ""


@dataclass(frozen=True)
class Index:
    """All entries of a zoo by name."""

    entries: dict[EntryName, Record]
    format: Literal[1] = FORMAT


_Listing = TypeVar("_Listing", Index, Manifest)


def parse(kind: type[_Listing], text: bytes, where: str) -> _Listing:
    """Reads an index or a manifest.

    Raises:
        ZooError: it is no such JSON, names a file outside its folder, or is of a later format.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_json(text)
    except pydantic.ValidationError as error:
        faults = error.errors()
        fault = next((f for f in faults if f["loc"] == ("format",)), faults[0])  # explains all others
        place = plain(".".join(map(str, fault["loc"])), 200)
        if fault["loc"] == ("format",) and isinstance(fault["input"], int):
            given = plain(str(fault["input"]), 20)
            raise ZooError(f"{where} has format {given}, but this end2_tf reads {FORMAT}. Upgrade end2_tf.") from None
        reason = fault["msg"].removeprefix("Value error, ")
        raise ZooError(
            f"{where} is no {kind.__name__.lower()} of a zoo ({f'{place}: ' if place else ''}{reason}). "
            "Fetch or publish it again."
        ) from None


def read(path: Path) -> bytes:
    """Returns an index's or a manifest's bytes; raises ZooError where there are too many, or none."""
    return texts.read_bytes(path, ZooError, "Fetch or publish it again.", most=MAX_LISTING_BYTES)


@dataclass(frozen=True)
class _Input:
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=1, max_length=3)]


@dataclass(frozen=True)
class _Metadata:
    """What is read of a metadata.json to open its entry; the rest is for cards."""

    entry: EntryName
    group: texts.FileName
    kind: Literal["student", "member", "ensemble"]
    summary: Summary
    input: _Input
    classes: Annotated[tuple[texts.Name, ...], Field(min_length=2, max_length=1_000_000)]


def read_metadata(path: Path) -> dict[str, Any]:
    """Returns an entry's metadata; raises ZooError where they aren't what is published."""
    advice = "Fetch or publish the entry again."
    found = texts.read_object(path, ZooError, advice)
    texts.fit(_Metadata, found, f"{path}", ZooError, advice)
    return found


def files_below(folder: Path) -> dict[str, Path]:
    """Returns an entry's files by their names in a manifest; hidden ones aren't part of it.

    Raises:
        ZooError: a file is a link, or has a name that a manifest can't hold.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        if any(part.startswith(".") for part in relative.parts) or str(relative) == MANIFEST:
            continue
        if path.is_symlink():
            raise ZooError(f"{path} is a link, which a zoo can't hold. Replace it with the file.")
        if path.is_file():
            try:
                found[_file_name(str(relative))] = path
            except ValueError as error:
                raise ZooError(f"{error} (in {folder}). Rename it.") from None
    return found


def seal(folder: Path, name: str) -> Record:
    """Writes the manifest of an entry over all files that are there, and returns what the index says of it.

    Call it again after adding files to a published entry, then `end2_tf.zoo.publish.refresh`.
    """
    files = {key: {"sha256": workdir.sha256(p), "bytes": p.stat().st_size} for key, p in files_below(folder).items()}
    workdir.write_json(folder / MANIFEST, {"format": FORMAT, "entry": name, "files": files})
    return record(folder)


def record(folder: Path) -> Record:
    """Returns what the index says of a sealed entry, from its manifest and metadata.

    Raises:
        ZooError: the metadata aren't those that were sealed.
    """
    path, name = folder / MANIFEST, "metadata.json"
    manifest = parse(Manifest, read(path), str(path))
    if name not in manifest.files:
        raise ZooError(f"{path} lists no {name}. Publish the entry again.")
    check_file(folder / name, manifest.files[name], f"{folder.name}/{name}", "Restore it, or publish the entry again.")
    metadata = read_metadata(folder / name)
    return Record(workdir.sha256(path), num_bytes(path, manifest), metadata["kind"], metadata["summary"])


def num_bytes(path: Path, manifest: Manifest) -> int:
    """Returns the size of an entry: of the manifest at `path`, and of all files that it lists."""
    return path.stat().st_size + sum(file.bytes for file in manifest.files.values())


def index_json(records: dict[str, Record]) -> dict[str, Any]:
    """Returns an index, ready for JSON."""
    return pydantic.TypeAdapter(Index).dump_python(Index(records), mode="json")


def check_file(path: Path, expected: File, name: str, advice: str) -> None:
    """Raises ZooError, naming the file, unless a file on disk has the size and digest that were published."""
    if not path.is_file():
        raise ZooError(f"{name} is missing at {path}. {advice}")
    size = path.stat().st_size
    if size != expected.bytes:
        raise ZooError(f"{name} has {size:,} bytes at {path}, but {expected.bytes:,} were published. {advice}")
    check_digest(path, expected.sha256, name, advice)


def check_digest(path: Path, expected: str, name: str, advice: str) -> None:
    try:
        got = workdir.sha256(path)
    except OSError as error:
        raise ZooError(f"{name} can't be read at {path}: {error.strerror}. Make it readable.") from None
    if got != expected:
        raise ZooError(
            f"{name} was altered at {path}: its SHA-256 is {got[:12]}…, but {expected[:12]}… was published. {advice}"
        )
