"""Images, in a folder and in requests."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from end2_tf.data import image_folder
from end2_tf.data.image_folder import Folder
from end2_tf.reading import images

INSTRUMENT = ["end2_tf.reading", "end2_tf.data.image_folder", "PIL"]


def _encoded(kind: str, mode: str) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (3, 2), 7).save(stream, kind)
    return stream.getvalue()


_KINDS = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "L"), ("BMP", "RGB"), ("GIF", "P"), ("WEBP", "RGB")]
SEEDS = [_encoded(*each) for each in (*_KINDS, ("PPM", "RGB"), ("TIFF", "RGB"), ("TIFF", "1"))]


def read(content: bytes, folder: Path) -> None:
    images.check_encoded(content)
    path = folder / "a.png"
    path.write_bytes(content)
    image_folder.decode([Folder(folder, ((path, 0),))], 8)
    image_folder.decode([Folder(folder, ((path, 0),))], None)
