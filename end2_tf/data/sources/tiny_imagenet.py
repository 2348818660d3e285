"""Tiny ImageNet as published: 200 classes of ImageNet, 64×64, 100,000 images to train and 10,000 to test.

The folder is `tiny-imagenet-200` in the data directory (`--data_dir`, else TFDS_DATA_DIR or ~/tensorflow_datasets), or
wherever `path` says:

    wnids.txt                     the classes, one WordNet number a line
    words.txt                     WordNet number, tab, names
    train/<wnid>/images/*.JPEG
    val/images/*.JPEG             val/val_annotations.txt has their classes
    test/images/*.JPEG            never published with labels; isn't read

The published `val` is the test split, as in the EnD² paper; validation examples are held out of train as everywhere.
Beside CIFAR-10 and CIFAR-100 set size=32, so that images are reduced as they are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from end2_tf.data import image_folder, sources
from end2_tf.data.examples import Examples, Splits
from end2_tf.data.image_folder import Folder
from end2_tf.data.sources import tfds
from end2_tf.errors import DataError
from end2_tf.reading import archives, texts

NAME = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{NAME}.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"  # of the archive, 248,100,043 bytes
_PARTS = ("wnids.txt", "words.txt", "train", "val/images", "val/val_annotations.txt")
_MAX_BYTES = 1_000_000_000  # that it unpacks to; published are 239 MB
_WNID = re.compile(r"[A-Za-z0-9_]{1,50}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer


def load(
    *,
    path: str | None,
    data_dir: str | None,
    download: bool,
    size: Annotated[int, Field(ge=8, le=512)] = 64,
    lazily: bool = False,
    wanted: Sequence[str] = (),
) -> Splits:
    """Reads train and, as test, the published validation images; all in colour, grey files too.

    Args:
        path: The folder; None for `tiny-imagenet-200` in the data directory.
        data_dir: TFDS's data directory; None for its default.
        download: Whether the archive may be fetched.
        size: Height and width (antialiased bilinear).
        lazily: Whether images stay in their files until they are asked for.
        wanted: Splits of which the first is read alone; none: both. 100,000 images take a minute, 10,000 seconds.

    Raises:
        DataError: the folder isn't there, lacks a part, or has an image that can't be read.
    """
    if download:
        _download(path, data_dir)
    place = _place(path, data_dir)
    wnids = _wnids(place)
    scans = {"train": _train, "test": _test}
    folders = {split: scans[split](place, wnids) for split in sources.chosen(scans, wanted)}
    decoded = (image_folder.streams if lazily else image_folder.decode)(list(folders.values()), size, 3)
    found = {
        split: Examples(images, folder.labels) for (split, folder), images in zip(folders.items(), decoded, strict=True)
    }
    return Splits(train=found.get("train"), test=found.get("test"), class_names=_class_names(place, wnids))


def download(*, path: str | None, data_dir: str | None) -> None:
    """Fetches and unpacks the archive, 248 MB, unless the folder is there already."""
    _download(path, data_dir)


def fingerprint(*, path: str | None, data_dir: str | None, **options: Any) -> str:
    """Returns a digest of the lists of classes and labels, of the images' names and sizes, and of the options."""
    place = _place(path, data_dir)
    digest = hashlib.sha256(json.dumps(["tiny_imagenet", options], sort_keys=True).encode())
    for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        digest.update(hashlib.sha256((place / name).read_bytes()).digest())
    for folder in (*(place / "train" / wnid / "images" for wnid in _wnids(place)), place / "val" / "images"):
        listed = sorted((entry.name, entry.stat().st_size) for entry in _entries(folder))
        digest.update(json.dumps(listed).encode())
    return digest.hexdigest()


def location(*, path: str | None, data_dir: str | None) -> Path:
    """Returns the folder, there or not."""
    return Path(path).expanduser() if path else tfds.root_of(data_dir) / NAME


def _place(path: str | None, data_dir: str | None) -> Path:
    """Returns the folder, if its parts are there."""
    place = location(path=path, data_dir=data_dir)
    if not place.is_dir():
        where = "path" if path else "--data_dir or the option path"
        raise DataError(
            f"Tiny ImageNet isn't at {place}. Give --download to fetch it, or unpack {URL} and say where with {where}."
        )
    missing = [part for part in _PARTS if not (place / part).exists()]
    if missing:
        raise DataError(
            f"{place} has no {missing[0]}, so it isn't Tiny ImageNet as published, or only part of it. Unpack {URL}."
        )
    return place


def _wnids(place: Path) -> list[str]:
    wnids = _text(place / "wnids.txt").split()
    if len(set(wnids)) != len(wnids) or len(wnids) < 2:
        raise DataError(
            f"{place / 'wnids.txt'} lists {len(wnids)} classes, {len(set(wnids))} of them different. Allowed: at least "
            f"two, each once. Unpack {URL}."
        )
    wrong = next((wnid for wnid in wnids if not _WNID.fullmatch(wnid)), None)
    if wrong is not None:
        raise DataError(
            f"{place / 'wnids.txt'} has {texts.listed([wrong])!r}, which is no class's number. Unpack {URL}."
        )
    return wnids


def _text(path: Path) -> str:
    return texts.read_text(path, DataError, f"Unpack {URL}.")


def _class_names(place: Path, wnids: list[str]) -> tuple[str, ...]:
    """Returns each class's first name; with its number where several classes have the same."""
    lines = (line.partition("\t") for line in _text(place / "words.txt").splitlines())
    words = {wnid: names.partition(",")[0].strip() for wnid, _, names in lines}
    first = [words.get(wnid) or wnid for wnid in wnids]
    return tuple(
        name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True)
    )


def _train(place: Path, wnids: list[str]) -> Folder:
    missing = next((wnid for wnid in wnids if not (place / "train" / wnid).is_dir()), None)
    if missing:
        raise DataError(f"{place / 'train'} has no folder {missing}, a class of wnids.txt. Unpack {URL}.")
    return image_folder.scan(place / "train", tuple(wnids))


def _test(place: Path, wnids: list[str]) -> Folder:
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    listed = place / "val" / "val_annotations.txt"
    files = []
    for number, line in enumerate(_text(listed).splitlines(), 1):
        name, *rest = line.split("\t")
        if not rest or rest[0] not in numbers or not _FILE.fullmatch(name):
            raise DataError(
                f"{listed}, line {number}, is {line[:100]!r}. Allowed: a file, a tab and a class of wnids.txt. "
                f"Unpack {URL}."
            )
        files.append((place / "val" / "images" / name, numbers[rest[0]]))
    return Folder(place / "val", tuple(sorted(files)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} can't be read: {error.strerror}. Unpack {URL}.") from None


def _download(path: str | None, data_dir: str | None) -> None:
    if path is not None or (tfds.root_of(data_dir) / NAME).is_dir():
        return
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    root = tfds.root_of(data_dir)
    fetch = pooch.HTTPDownloader(timeout=_TIMEOUT)
    try:
        archive = pooch.retrieve(URL, f"md5:{MD5}", f"{NAME}.zip", root / "downloads", downloader=fetch)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{NAME}.") as folder:
            with archives.opened(Path(archive), DataError, "the archive", f"Fetch {URL} again.") as opened:
                if archives.unpacked_bytes(opened) > _MAX_BYTES:
                    raise DataError(f"{archive} unpacks to more than {_MAX_BYTES / 1e9:.0f} GB. Fetch {URL} again.")
                opened.extractall(folder)
            os.replace(Path(folder) / NAME, root / NAME)  # all of it or nothing
    except (requests.RequestException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"Tiny ImageNet can't be fetched from {URL} to {root} ({reason}). Mend that, or unpack it on another "
            "machine and give --data_dir=DIR."
        ) from None
    with contextlib.suppress(OSError):
        os.remove(archive)  # 248 MB that nobody needs again
