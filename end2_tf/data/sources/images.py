"""Any folder of images as auxiliary or OOD inputs: flat, by class, or nested; no labels are read.

Source("images", {"path": "~/lsun", "size": 32, "channels": 3, "num": 10000}). Where the folder has a `train` or a
`test` folder, these are the splits and nothing beside them is read; else every image is in `train`, of which auxiliary
inputs are taken, and OOD inputs where there is no `test`. So one folder can't be both without them. PNG, JPEG, WebP,
BMP, GIF, PNM and TIFF with 8 bits are read. For images with labels there is `own_data`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from end2_tf.data import image_folder, sources
from end2_tf.data.examples import Examples, Splits
from end2_tf.data.image_folder import Folder
from end2_tf.errors import DataError, suggestion


def load(
    *,
    path: str | None,
    field: str,
    size: Annotated[int, Field(ge=1, le=4096)] | None = None,
    channels: Literal[1, 3] | None = None,
    num: Annotated[int, Field(ge=1)] | None = None,
    lazily: bool = False,
    wanted: Sequence[str] = (),
) -> Splits:
    """Reads the folder's images.

    Args:
        path: The folder.
        field: Where the config names this source.
        size: Height and width to resize to (antialiased bilinear, aspect ratio not kept); needed where images differ.
        channels: 1 grey, 3 colour; None: grey if every image is, else colour.
        num: Use only so many of each split, evenly spaced in the order of the files' names.
        lazily: Whether images stay in their files until they are asked for.
        wanted: Splits of which the first that is there is read alone; none: all.

    Raises:
        DataError: the folder isn't there or has no image, or one can't be read.
    """
    there = _folders(path, field, num)
    folders = {split: there[split] for split in sources.chosen(there, wanted)}
    decoded = (image_folder.streams if lazily else image_folder.decode)(list(folders.values()), size, channels)
    found = {split: Examples(images) for split, images in zip(folders, decoded, strict=True)}
    return Splits(train=found.get("train"), test=found.get("test"))


def fingerprint(*, path: str | None, field: str, **options: Any) -> str:
    """Returns a digest of the contents of the images that are used and of the options."""
    folders = _folders(path, field, options["num"])
    contents = {
        split: image_folder.fingerprint(folder.root, (file for file, _ in folder.files))
        for split, folder in folders.items()
    }
    return hashlib.sha256(json.dumps(["images", contents, options], sort_keys=True).encode()).hexdigest()


def _folders(path: str | None, field: str, num: int | None) -> dict[str, Folder]:
    """Returns the files of each split."""
    if not path:
        raise DataError(f"{field} 'images' has no path. Set {field}.options.path to a folder of images.")
    root = Path(path).expanduser()
    if not root.is_dir():
        siblings = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        raise DataError(
            f"{field} 'images' has path {path!r}, which is no folder. {suggestion(root.name, siblings)}"
            "Give a folder of images; for an .npz file there is own_data."
        )
    there = {path.name: path for path in image_folder.subfolders(root) if path.name in ("train", "test")}
    splits = there or {"train": root}
    found = {}
    for split, folder in splits.items():
        files = image_folder.images_in(folder)
        if not files:
            raise DataError(
                f"{folder} has no image. Put {', '.join(sorted(image_folder.SUFFIXES))} files there, or name another "
                "folder."
            )
        kept = files if num is None or num >= len(files) else [files[i * len(files) // num] for i in range(num)]
        found[split] = Folder(folder, tuple((file, 0) for file in kept))
    return found
