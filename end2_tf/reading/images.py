"""Images from outside: known formats alone, and their size before their pixels."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from end2_tf.errors import DataError

MAX_PIXELS = 2**26  # 8,192 × 8,192: 201 MB in colour
# Without a list PIL also tries formats that call other programs: a .png that is PostScript would be run by Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_TOO_LARGE = f"says it has more than {MAX_PIXELS:,} pixels, the most that are read"
ENCODED = ("PNG", "JPEG", "GIF", "BMP")  # that `tf.io.decode_image` knows


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image whose header was read and whose pixels weren't yet; whatever PIL meets then is a DataError too."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")  # of odd EXIF, palettes, and sizes: those have a limit here
            if fault := too_large(image.size):
                raise DataError(f"{path} {fault}. Reduce it, or remove it.")
            yield image
    except DataError:  # says it already, and is a ValueError too
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{path} {_TOO_LARGE}. Reduce it, or remove it.") from None
    except Exception as error:  # a stranger's file: PIL has no one error for what can be wrong with it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} can't be read as an image ({reason}). Replace or remove it.") from None


def too_large(size: tuple[int, int]) -> str:
    """Returns what to say of an image of more than `MAX_PIXELS`; nothing of others."""
    return "" if size[0] * size[1] <= MAX_PIXELS else _TOO_LARGE


def check_encoded(content: bytes) -> str:
    """Returns what is wrong with an encoded image that TensorFlow is to decode; nothing where its header is sound."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Any = Image.open(io.BytesIO(content), formats=ENCODED)
            return too_large(image.size)
    except Image.DecompressionBombError:
        return _TOO_LARGE
    except Exception:  # as above
        return "is no PNG or JPEG image"
