"""`.keras` files: the archive, its config and its weights, each apart and together."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import end2_tf.losses
import end2_tf.models  # noqa: F401 - now, since they take longer to import than an input may
from end2_tf import registry
from end2_tf.errors import ZooError
from end2_tf.reading import keras_files
from end2_tf.zoo import keras_file

INSTRUMENT = ["end2_tf.reading", "end2_tf.zoo", "zipfile", "json"]

_FILE = registry.PACKAGE.parent / "zoo" / "spirals_mlp_end" / "model.keras"
with zipfile.ZipFile(_FILE) as _archive:
    _PARTS = {name: _archive.read(name) for name in _archive.namelist()}
_TINY = b'{"module": "keras", "class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}'


def _archived(**changed: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (_PARTS | changed).items():
            archive.writestr(name, content)
    return stream.getvalue()


SEEDS = [_archived(), _archived(**{"config.json": _TINY}), _PARTS["config.json"], _TINY, _PARTS["model.weights.h5"]]


def read(content: bytes, folder: Path) -> None:
    path = folder / "m.keras"
    for each in (
        content,
        _archived(**{keras_files.CONFIG: content}),
        _archived(**{keras_files.WEIGHTS: content}),
    ):
        path.write_bytes(each)
        with contextlib.suppress(ZooError):
            keras_file.open_model(path, "x")
