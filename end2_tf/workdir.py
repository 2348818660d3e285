"""Artefacts on disk: atomic writes, digests, a lock, and what is up to date.

A workdir holds one folder per stage and digest, `<stage>/<digest>/`. The digest names everything that went in, so a
folder is never rewritten with something else; `manifest.json`, written last, says that it is complete and lists the
SHA-256 of every file.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from end2_tf.errors import WorkdirError
from end2_tf.reading import archives, texts

MANIFEST = "manifest.json"
_AGAIN = "Delete it and run the stage again."


def write_atomically(path: Path, write: Callable[[Path], None]) -> Path:
    """Calls `write` with a temporary path beside `path`, syncs it to disk and renames it; all or nothing.

    Raises:
        WorkdirError: the folder is read-only or the disk is full; names the path and the next step.
    """
    temporary = path.with_name(
        f".{os.getpid()}.{threading.get_ident()}.{path.name}"
    )  # its suffix tells Keras the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise WorkdirError(_os_message(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    return write_atomically(path, write)


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_npz(path: Path, **arrays: Any) -> Path:
    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    return write_atomically(path, write)


def read_json(path: Path) -> Any:
    """Reads JSON; a missing or broken file gives WorkdirError naming it."""
    return texts.read_json(path, WorkdirError, _AGAIN)


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; anything else gives WorkdirError too."""
    return texts.read_object(path, WorkdirError, _AGAIN)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(pattern: str) -> list[Path]:
    """Returns the Keras files that `ensemble.models` names, a glob or the folder that they are in, in their order."""
    pattern = os.path.expanduser(pattern)
    found = glob.glob(os.path.join(glob.escape(pattern), "*.keras") if os.path.isdir(pattern) else pattern)
    return sorted(path for path in map(Path, found) if path.is_file())


def bytes_in(folder: Path) -> int:
    """Returns how many bytes a folder's files have; 0 where it isn't there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def model_digest(path: Path) -> str:
    """Returns a digest of a Keras file's config and weights, without opening it as a model.

    A `.keras` file is an archive whose metadata hold a date, so its bytes differ each time it is saved.
    """
    if not zipfile.is_zipfile(path):
        return sha256(path)
    with archives.opened(path, WorkdirError, "a .keras file", "Save the model again.") as archive:
        checksums = sorted(
            (i.filename, i.CRC, i.file_size) for i in archive.infolist() if i.filename != "metadata.json"
        )
    return hashlib.sha256(json.dumps(checksums).encode()).hexdigest()


def weights_digest(weights: list[np.ndarray], config: str) -> str:
    """Returns the SHA-256 over weight arrays and a model's config; a `.keras` file's own bytes hold a date."""
    state = hashlib.sha256(config.encode())
    for array in weights:
        state.update(str((array.shape, array.dtype.str)).encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


class Artefact:
    """One stage's folder under one digest."""

    def __init__(self, root: Path, stage: str, digest: str):
        self.stage, self.digest = stage, digest
        self.path = root / stage / digest
        self._verified: dict[str, Any] | None = None

    def manifest(self) -> dict[str, Any] | None:
        """Returns the manifest if the folder is complete and its files are unaltered, else None."""
        if self._verified is not None:
            return self._verified
        path = self.path / MANIFEST
        if not path.is_file():
            return None
        try:
            manifest = read_object(path)
            intact = all(self._matches(name, entry) for name, entry in _entries(manifest).items())
        except OSError:
            return None  # truncated: as good as not there, the stage writes it anew
        self._verified = manifest if intact else None
        return self._verified

    def begin(self) -> Path:
        """Makes the folder ready for work: of a result that was altered, only the sound files stay."""
        path = self.path / MANIFEST
        if path.is_file():
            try:
                entries = _entries(read_object(path))
            except WorkdirError:
                entries = {}
            for found in self._files():
                name = str(found.relative_to(self.path))
                if name not in entries or not self._matches(name, entries[name]):
                    found.unlink()
            path.unlink()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkdirError(_os_message(self.path, error)) from error
        return self.path

    def _files(self) -> list[Path]:
        found = (p for p in self.path.rglob("*") if p.is_file() and p.name != MANIFEST)
        return sorted(p for p in found if not _is_scratch(p.relative_to(self.path)))

    def _matches(self, name: str, entry: dict[str, Any]) -> bool:
        path = self.path / name
        return path.is_file() and path.stat().st_size == entry.get("bytes") and sha256(path) == entry.get("sha256")

    def finish(self, **details: Any) -> dict[str, Any]:
        """Writes the manifest over all files in the folder but hidden ones and logs; returns it."""
        entries = {
            str(p.relative_to(self.path)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in self._files()
        }
        manifest = {"stage": self.stage, "digest": self.digest, **details, "files": entries}
        write_json(self.path / MANIFEST, manifest)
        self._verified = manifest
        return manifest


def _entries(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the files that a manifest lists; raises WorkdirError where that isn't what a stage writes."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and _is_below(n) for n, entry in files.items()):
        raise WorkdirError(f"a manifest lists no files, or files outside its folder. {_AGAIN}")
    return files


def _is_below(name: str) -> bool:
    return "\0" not in name and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts


def _is_scratch(relative: Path) -> bool:
    return any(part.startswith(".") or part == "tensorboard" for part in relative.parts)


class Workdir:
    """The folder of one experiment's runs."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).expanduser()
        self._artefacts: dict[tuple[str, str], Artefact] = {}

    def artefact(self, stage: str, digest: str) -> Artefact:
        """Returns one artefact; asked again, the same object, so that its files are verified once."""
        return self._artefacts.setdefault((stage, digest), Artefact(self.path, stage, digest))

    def check_writable(self, needed_bytes: int = 0) -> None:
        """Raises WorkdirError, before any work, unless the folder can be made, written, and holds `needed_bytes`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(b"0" * 4096)
                file.flush()
        except OSError as error:
            raise WorkdirError(_os_message(self.path, error)) from error
        free = shutil.disk_usage(self.path).free
        if free < needed_bytes:
            raise WorkdirError(
                f"workdir {self.path} has {free / 1e6:,.1f} MB free, but this run writes about "
                f"{needed_bytes / 1e6:,.1f} MB. Free some space, or choose another with --workdir."
            )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workdir for one run; a second run gets WorkdirError at once."""
        import filelock  # which imports asyncio: too much for `--help`

        path = self.path / ".lock"
        lock = filelock.FileLock(path, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise WorkdirError(
                f"another run holds the workdir {self.path} ({path}). Wait for it, or choose another with --workdir."
            ) from None
        except OSError as error:
            raise WorkdirError(_os_message(path, error)) from error
        try:
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def lock_each(paths: Iterable[Path]) -> Iterator[None]:
    """Holds several locks; where another process has one of them, raises WorkdirError at once."""
    import filelock

    with contextlib.ExitStack() as stack:
        for path in paths:
            lock = filelock.FileLock(path, timeout=0)
            try:
                stack.enter_context(lock)
            except filelock.Timeout:
                raise WorkdirError(f"another run holds {path}. Wait for it, or leave out what it does.") from None
            except OSError as error:
                raise WorkdirError(_os_message(path, error)) from error
        yield


def _os_message(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    advice = {
        errno.ENOSPC: "Free some space, or choose another folder with --workdir.",
        errno.EROFS: "Choose another folder with --workdir.",
        errno.EACCES: "Make it writable, or choose another folder with --workdir.",
        errno.EPERM: "Make it writable, or choose another folder with --workdir.",
        errno.ENOTDIR: "A part of this path is a file. Choose another folder with --workdir.",
        errno.EEXIST: "There is a file of this name. Choose another folder with --workdir.",
        errno.ENOENT: "Check the path.",
    }.get(error.errno or 0, "Choose another folder with --workdir.")
    return f"can't write {path}: {reason}. {advice}" if error.errno != errno.ENOENT else f"{path}: {reason}. {advice}"


def versions(parent: Path) -> list[int]:
    """Returns the versions of an exported model, which are the folders named by a number, in order."""
    if not parent.is_dir():
        return []
    return sorted(int(p.name) for p in parent.iterdir() if p.name.isdecimal() and p.is_dir())
