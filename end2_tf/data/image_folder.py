"""Reads folders of images, one subfolder per class where there are classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from end2_tf.data import shards
from end2_tf.data.streams import Stream
from end2_tf.errors import DataError
from end2_tf.reading import folders, memory
from end2_tf.reading import images as reading

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_DEEP = ("I", "F")  # PIL's modes with more than 8 bits, with their variants such as I;16
_GREY = ("1", "L")


@dataclass(frozen=True)
class Folder:
    """Image files of one split, sorted: (file, class number)."""

    root: Path
    files: tuple[tuple[Path, int], ...]

    @property
    def labels(self) -> np.ndarray:
        return np.array([label for _, label in self.files], np.int64)


def subfolders(root: Path) -> list[Path]:
    """Returns a folder's visible subfolders, sorted by name."""
    return folders.below(root)


def images_in(root: Path) -> list[Path]:
    """Returns the image files of a folder, at any depth, sorted."""
    return [path for path in folders.files(root) if is_image(path)]


def scan(root: Path, class_names: tuple[str, ...]) -> Folder:
    """Lists the images of `root/<class>/`, at any depth.

    Raises:
        DataError: a class folder has no image.
    """
    files = []
    for label, name in enumerate(class_names):
        if (root / name).is_dir():
            found = images_in(root / name)
            if not found:
                raise DataError(
                    f"{root / name} has no image. Put {', '.join(sorted(SUFFIXES))} files there, or remove it."
                )
            files += [(path, label) for path in found]
    return Folder(root, tuple(files))


def decode(folders: list[Folder], image_size: int | None, channels: int | None = None) -> list[np.ndarray]:
    """Decodes folders' images, all to one shape; transparency is dropped, EXIF orientation applied.

    Args:
        folders: As scanned.
        image_size: Height and width to resize to (antialiased bilinear, aspect ratio not kept); None: as they are.
        channels: 1 grey, 3 colour; None: grey if every image is, else colour.

    Returns:
        (n, height, width, channels) uint8 for each folder.

    Raises:
        DataError: an image can't be read, has more than 8 bits a channel, or sizes differ and `image_size` is None.
    """
    shape = _common_shape(folders, image_size, channels)
    num = sum(len(folder.files) for folder in folders)
    what = f"{folders[0].root}: {num} images of {shape[1]}×{shape[0]} pixels"
    memory.check_fits(
        num * math.prod(shape),
        what,
        "Set data.shard_rows for those to train on, or a smaller image_size, or use fewer.",
    )
    return [_decode([path for path, _ in folder.files], shape, image_size is not None) for folder in folders]


def streams(folders: list[Folder], image_size: int | None, channels: int | None = None) -> list[Stream]:
    """Returns folders' images as `decode` does, but decodes them when they are asked for."""
    shape = _common_shape(folders, image_size, channels)

    def read(folder: Folder, ids: np.ndarray) -> Iterator[np.ndarray]:
        most = shards.rows_of(math.prod(shape))
        for start in range(0, len(ids), most):
            chosen = [folder.files[i][0] for i in ids[start : start + most]]
            yield _decode(chosen, shape, image_size is not None)

    return [
        Stream(partial(read, each), len(each.files), shape, np.dtype(np.uint8), str(each.root), in_any_order=True)
        for each in folders
    ]


def _common_shape(folders: list[Folder], image_size: int | None, channels: int | None) -> tuple[int, int, int]:
    """Returns the shape of all images, after a look at each one's header where that decides it."""
    if image_size is not None and channels is not None:
        return image_size, image_size, channels
    common, is_grey = _inspect([path for folder in folders for path, _ in folder.files], image_size is None)
    width, height = common if image_size is None else (image_size, image_size)
    return height, width, channels or (1 if is_grey else 3)


def fingerprint(root: Path, files: Iterable[Path] | None = None) -> str:
    """Returns a digest of images' paths in the folder and their contents: of all images, or of these."""
    digest = hashlib.sha256()
    for path in images_in(root) if files is None else files:
        contents = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\n{contents}\n".encode())
    return digest.hexdigest()


def is_image(path: Path) -> bool:
    """Returns whether a file is an image by its name."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _inspect(files: list[Path], need_one_size: bool) -> tuple[tuple[int, int], bool]:
    """Returns the first image's width and height, and whether all images are grey; reads headers only."""
    first, is_grey = (0, 0), True
    for number, path in enumerate(files):
        with reading.opened(path) as image:
            mode, size = image.mode, _upright_size(image)
        _check_depth(path, mode)
        if number == 0:
            first = size
        elif need_one_size and size != first:
            raise DataError(
                f"{path} is {size[0]}×{size[1]} pixels, but {files[0].name} is {first[0]}×{first[1]}. "
                "Make them agree, or set the option image_size=NN to resize all."
            )
        is_grey = is_grey and mode in _GREY
    return first, is_grey


def _check_depth(path: Path, mode: str) -> None:
    if mode.startswith(_DEEP):
        raise DataError(f"{path} has more than 8 bits a channel (mode {mode}). Save it with 8.")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap the axes
    return (height, width) if turned else (width, height)


def _decode(files: list[Path], shape: tuple[int, int, int], resize: bool) -> np.ndarray:
    images = np.empty((len(files), *shape), np.uint8)
    for path, out in zip(files, images, strict=True):
        with reading.opened(path) as image:
            _check_depth(path, image.mode)
            upright = ImageOps.exif_transpose(image).convert("L" if shape[2] == 1 else "RGB")
            if resize:
                upright = upright.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        out[:] = np.asarray(upright).reshape(shape)
    return images
