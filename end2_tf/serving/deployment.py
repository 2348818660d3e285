"""The files with which TensorFlow Serving itself serves exported models: in a container, and on Kubernetes."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from end2_tf import workdir
from end2_tf.errors import ConfigError
from end2_tf.serving import catalogue
from end2_tf.serving.catalogue import Model
from end2_tf.serving.settings import Settings

TEMPLATES = Path(__file__).resolve().parent / "templates"
FOLDER = "tensorflow_serving"
CONFIGS = (catalogue.FILE, "batching.config", "monitoring.config")
FILES = (*CONFIGS, "compose.yaml", "kubernetes.yaml")
IMAGE = "tensorflow/serving:2.21.0"

_BASE = "/models"  # in the container
_WARMUP = 32  # inputs of the largest warm-up request, `export.warmup.BATCH_SIZES`
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # the server doesn't decode URLs


def write(root: Path, target: Path | None = None, settings: Settings | None = None) -> list[Path]:
    """Writes the files for the exported models below a folder, a workdir's export/ or a zoo; equal models, equal bytes.

    `models.config`, `batching.config` and `monitoring.config` suit any TensorFlow Serving; `compose.yaml` and
    `kubernetes.yaml` start one with them. Labels are those of `catalogue.find` and stand for the versions of now, so
    write again after each export. Each version brings its own warm-up requests (`export.warmup`).

    Args:
        root: Has a folder for each model, with a folder for each version.
        target: Where the files are written; `<root>/tensorflow_serving` by default. compose.yaml means `root` relative
            to it, so both move together.
        settings: Those of this package's own server, of which the ones for batches are taken over.

    Returns:
        The files, in the order of `FILES`.

    Raises:
        ConfigError: there is no exported model, or one whose name can't stand in a URL.
        WorkdirError: the folder can't be written.
    """
    settings = settings or Settings()
    models = catalogue.find(root)
    for model in models:
        if not _NAME.fullmatch(model.name):
            raise ConfigError(
                f"{model.name!r} can't be the name of a model in TensorFlow Serving: it stands in URLs. Allowed: "
                f"letters, digits, '_', '-' and '.'. Rename {model.folder}."
            )
    target = root / FOLDER if target is None else target
    values = {"models": catalogue.write(models, _BASE), **_batching(settings)}
    configs = {name: _render(name, **values) for name in CONFIGS}
    values |= {
        "configs": configs,
        "model": models[0].name,
        "image": IMAGE,
        "source": _relative(root, target),
        "cpus": settings.batch_threads or 2,
        **_sizes(models),
    }
    texts = configs | {name: _render(name, **values) for name in FILES if name not in CONFIGS}
    return [workdir.write_text(target / name, text) for name, text in texts.items()]


def _batching(settings: Settings) -> dict[str, Any]:
    request = max(settings.max_queued, settings.max_batch_size, _WARMUP)
    return {
        "batch": settings.max_batch_size,
        "request": request,
        "warmup": _WARMUP,
        "waiting": math.ceil(request / settings.max_batch_size),  # a request of the largest size must find room
        "timeout": round(settings.batch_timeout * 1e6),
        "threads": settings.batch_threads,
    }


def _sizes(models: Sequence[Model]) -> dict[str, int]:
    """Returns the memory that a server needs, in MiB, and the storage, in GiB, with all versions that policies keep.

    A version of 3 to 154 MiB took 80 to 110 MiB and about its files' size, loaded by the C++ loader and warm; allowed
    are 128 MiB and twice the size, for larger batches, and half a GiB for TensorFlow itself.
    """
    memory, storage = 512.0, 512.0
    for model in models:
        size = max((_size(folder) for folder in model.wanted().values()), default=0.0)
        memory += model.num_latest * (128 + 2 * size)
        storage += model.num_latest * 2 * size
    return {"memory": 256 * math.ceil(memory / 256), "storage": math.ceil(storage / 1024)}


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def _relative(root: Path, target: Path) -> str:
    """Returns the path from the files to the models, as a scalar of a compose file, where $ begins a variable."""
    path = Path(os.path.relpath(root.resolve(), target.resolve())).as_posix()
    path = path if path.startswith(".") else f"./{path}"
    return json.dumps(path.replace("$", "$$"), ensure_ascii=False)


def _render(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # names are checked
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{name}.j2").render(**values).strip() + "\n"
