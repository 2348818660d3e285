"""Where a zoo is, and files from there that have been checked: a folder, or a URL with a cache."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from end2_tf import registry, workdir
from end2_tf.errors import ZooError
from end2_tf.zoo import manifest
from end2_tf.zoo.manifest import INDEX, MANIFEST, File, Index, Manifest

SOURCE_VARIABLE, CACHE_VARIABLE = "END2_TF_ZOO", "END2_TF_CACHE"
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer


class Place:
    """A zoo. Every file it gives was compared with its manifest, and the manifest with the index."""

    def __init__(self, where: str):
        self.where = where
        self._manifests: dict[str, Manifest] = {}

    @functools.cached_property
    def index(self) -> Index:
        raise NotImplementedError

    def fetch(self, entry: str, name: str) -> Path:
        """Returns the path of one checked file of an entry.

        Raises:
            ZooError: the entry has no such file, or it was altered, or it can't be had.
        """
        file = self.manifest(entry).files.get(name)
        if file is None:
            raise ZooError(f"the entry {entry} at {self.where} has no {name}. Publish it again.")
        return self._checked(entry, name, file)

    def manifest(self, entry: str) -> Manifest:
        """Returns the manifest of an entry that the index names."""
        if entry not in self._manifests:
            record = self.index.entries[entry]
            path = self._checked_manifest(entry, record.manifest)
            found = manifest.parse(Manifest, manifest.read(path), str(path))
            if found.entry != entry:
                raise ZooError(f"{path} is the manifest of {found.entry}, not of {entry}. Publish the entry again.")
            if (size := manifest.num_bytes(path, found)) != record.bytes:  # so its files can't fill the disk
                raise ZooError(
                    f"{path} lists {size:,} bytes with its own, but the index {record.bytes:,}. "
                    "Publish the entry again."
                )
            self._manifests[entry] = found
        return self._manifests[entry]

    def fetch_all(self, entry: str) -> dict[str, Path]:
        """Returns the paths of all files of an entry, all checked."""
        return {name: self.fetch(entry, name) for name in self.manifest(entry).files}

    def _checked(self, entry: str, name: str, file: File) -> Path:
        raise NotImplementedError

    def _checked_manifest(self, entry: str, digest: str) -> Path:
        raise NotImplementedError


class Folder(Place):
    """A zoo on disk."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path = path

    @functools.cached_property
    def index(self) -> Index:
        path = self.path / INDEX
        if path.is_symlink():
            raise ZooError(f"{path} is a link, which a zoo can't hold. {self._advice(path)}")
        if not path.is_file():
            raise ZooError(
                f"there is no zoo in {self.path}: it has no {INDEX}. Set {SOURCE_VARIABLE} to a folder or URL that has "
                "one, or publish a run there with --stage=publish."
            )
        return manifest.parse(Index, manifest.read(path), str(path))

    def _checked_manifest(self, entry: str, digest: str) -> Path:
        path = self._inside(entry, MANIFEST)
        if not path.is_file():
            raise ZooError(f"{entry}/{MANIFEST} is missing at {path}. {self._advice(path)}")
        manifest.check_digest(path, digest, f"{entry}/{MANIFEST}", self._advice(path))
        return path

    def _checked(self, entry: str, name: str, file: File) -> Path:
        path = self._inside(entry, name)
        manifest.check_file(path, file, f"{entry}/{name}", self._advice(path))
        return path

    def check_nothing_else(self, entry: str) -> None:
        """Raises ZooError if an entry's folder has a file that its manifest doesn't list."""
        listed = self.manifest(entry).files
        for name, path in manifest.files_below(self.path / entry).items():
            if name not in listed:
                raise ZooError(f"{path} isn't in the manifest of {entry}. Remove it, or publish the entry again.")

    def _inside(self, entry: str, name: str) -> Path:
        path = self.path
        for part in (entry, *name.split("/")):
            path = path / part
            if path.is_symlink():
                raise ZooError(f"{entry}/{name} is a link at {path}, which a zoo can't hold. {self._advice(path)}")
        return path

    def _advice(self, path: Path) -> str:
        return f"Restore it (in a Git checkout: git checkout -- {path}), or publish the entry again."


class Remote(Place):
    """A zoo behind an http or https URL; what was fetched once is kept in a cache and works offline.

    Args:
        url: Of the folder that holds index.json.
        cache: Where files are kept; each URL has a folder of its own there.
    """

    def __init__(self, url: str, cache: Path):
        super().__init__(url.rstrip("/"))
        host = re.sub(r"[^A-Za-z0-9.-]", "_", self.where.split("://", 1)[1].split("/", 1)[0])
        self.cache = cache / f"{host}-{hashlib.sha256(self.where.encode()).hexdigest()[:12]}"

    @functools.cached_property
    def index(self) -> Index:
        url, path = f"{self.where}/{INDEX}", self.cache / INDEX

        def download(temporary: Path) -> None:
            _download(url, temporary, manifest.MAX_LISTING_BYTES)
            manifest.parse(Index, temporary.read_bytes(), url)  # a bad one never replaces a good one

        try:
            workdir.write_atomically(path, download)
        except _UnreachableError as error:
            if not path.is_file():
                raise ZooError(f"{error}, and nothing of it is in {self.cache}. {_RETRY}") from None
            warnings.warn(f"{error}; using the index fetched earlier.", stacklevel=4)
        except OSError as error:
            raise _unwritable(self.cache, error) from None
        return manifest.parse(Index, manifest.read(path), str(path))

    def _checked_manifest(self, entry: str, digest: str) -> Path:
        return self._fetched(entry, MANIFEST, digest, manifest.MAX_LISTING_BYTES, exactly=None)

    def _checked(self, entry: str, name: str, file: File) -> Path:
        return self._fetched(entry, name, file.sha256, file.bytes, exactly=file)

    def _fetched(self, entry: str, name: str, digest: str, limit: int, exactly: File | None) -> Path:
        import pooch

        pooch.get_logger().setLevel("WARNING")
        url = f"{self.where}/{entry}/{name}"
        advice = "Fetch it again; if that doesn't help, tell whoever keeps this zoo."

        def download(_: str, temporary: str, __: Any) -> None:
            path = Path(temporary)
            _download(url, path, limit)
            if exactly is not None:
                manifest.check_file(path, exactly, url, advice)
            manifest.check_digest(path, digest, url, advice)

        try:  # a cached file with the right digest is taken as it is, any other fetched anew
            found = pooch.retrieve(url, f"sha256:{digest}", f"{entry}/{name}", self.cache, downloader=download)
        except _UnreachableError as error:
            raise ZooError(f"{error}, and {entry}/{name} isn't in {self.cache}. {_RETRY}") from None
        except OSError as error:
            raise _unwritable(self.cache, error) from None
        return Path(found)


_RETRY = f"Check the connection, or set {SOURCE_VARIABLE} to another folder or URL."


class _UnreachableError(Exception):
    """A server didn't answer, or not with the file."""


class _Limited:
    """A file that refuses more bytes than were declared, so that a server can't fill the disk."""

    def __init__(self, path: Path, limit: int, url: str):
        self._file, self._left, self._url, self._limit = open(path, "wb"), limit, url, limit  # noqa: SIM115

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise ZooError(
                f"{self._url} is larger than the {self._limit:,} bytes that were published. "
                "Tell whoever keeps this zoo."
            )
        self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _download(url: str, path: Path, limit: int) -> None:
    import pooch
    import requests

    target = _Limited(path, limit, url)
    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT)(url, target, None)
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        reason = f"HTTP status {status}" if status else type(error).__name__
        raise _UnreachableError(f"{url} can't be fetched ({reason})") from None
    finally:
        target.close()


def _unwritable(cache: Path, error: OSError) -> ZooError:
    reason = error.strerror or str(error.__cause__ or error)
    return ZooError(f"the cache {cache} can't be written ({reason}). Set {CACHE_VARIABLE} to another folder.")


def find(source: str | os.PathLike[str] | None = None, cache: str | os.PathLike[str] | None = None) -> Place:
    """Returns the zoo to look in.

    Args:
        source: A folder or an http(s) URL. Else the environment's END2_TF_ZOO, else zoo/ beside the package.
        cache: For URLs. Else the environment's END2_TF_CACHE, else end2_tf/zoo in the user's cache.

    Raises:
        ZooError: there is none.
    """
    given = source if source is not None else os.environ.get(SOURCE_VARIABLE) or None
    if given is None:
        own = registry.PACKAGE.parent / "zoo"
        if not (own / INDEX).is_file():
            raise ZooError(
                f"no zoo was named, and there is none beside the package ({own}). Set {SOURCE_VARIABLE} to a folder or "
                "URL that holds one."
            )
        return Folder(own)
    text = os.fspath(given)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Folder(Path(text).expanduser())
    if scheme.lower() not in ("http", "https") or not rest.partition("/")[0]:
        raise ZooError(
            f"the zoo's source is {text!r}. Allowed: a folder, or a URL that begins with http or https, then a host."
        )
    return Remote(text, _cache(cache))


def _cache(given: str | os.PathLike[str] | None) -> Path:
    named = given if given is not None else os.environ.get(CACHE_VARIABLE) or None
    if named is not None:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "end2_tf" / "zoo"
