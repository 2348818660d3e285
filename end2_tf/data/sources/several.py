"""Several image sources as one, for auxiliary inputs of more than one kind.

Source("several", {"of": ["cifar100", {"name": "procedural", "options": {"num": 10000}}], "size": 28, "channels": 1})
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from end2_tf.config import Source, build
from end2_tf.data import images, sources
from end2_tf.data.examples import Examples, Splits
from end2_tf.errors import ConfigError, DataError


def load(
    *,
    of: list[Any],
    field: str,
    data_dir: str | None,
    download: bool,
    seed: int,
    validation_fraction: float,
    size: Annotated[int, Field(ge=8, le=512)] = 32,
    channels: Literal[1, 3] = 3,
    wanted: Sequence[str] = (),
) -> Splits:
    """Returns the train splits of all sources one after the other, and so the test splits; without labels.

    Args:
        of: Each a source by name, or {"name": …, "options": {…}}.
        field: Where the config names this source.
        data_dir: As those sources'.
        download: Whether they may be fetched.
        seed: As those sources'.
        validation_fraction: As those sources'.
        size: Height and width that all images are brought to.
        channels: 1 grey, 3 colour.
        wanted: Splits of which those sources read the first that they have; none: all.

    Raises:
        ConfigError: none is named, or an entry isn't a source.
        DataError: one can't be had, or its inputs aren't images.
    """
    there: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for reader in parts(of=of, field=field):
        splits = reader.load(
            data_dir=data_dir,
            download=download,
            seed=seed,
            validation_fraction=validation_fraction,
            wanted=[name for name in wanted if name in there],
        ).named()
        for name, found in there.items():
            if name in splits:
                inputs = splits[name].inputs
                if inputs.ndim != 4:
                    raise DataError(
                        f"{reader} has inputs of shape {inputs.shape[1:]}, which aren't images. Name images."
                    )
                found.append(images.adapt_images(inputs, (size, size, channels)))
    merged = {name: Examples(np.concatenate(found)) for name, found in there.items() if found}
    return Splits(train=merged.get("train"), test=merged.get("test"))


def download(*, of: list[Any], field: str, data_dir: str | None) -> None:
    """Fetches what the sources can fetch."""
    for reader in parts(of=of, field=field):
        reader.download(data_dir=data_dir)


def fingerprint(*, of: list[Any], field: str, data_dir: str | None, **options: Any) -> str:
    """Returns a digest of the sources' own and of the shape they are brought to."""
    digested = ["several", [reader.fingerprint(data_dir=data_dir) for reader in parts(of=of, field=field)], options]
    return hashlib.sha256(json.dumps(digested, sort_keys=True).encode()).hexdigest()


def parts(*, of: list[Any], field: str) -> list[sources.Reader]:
    """Returns the readers of all sources, which are checked for overlaps one by one."""
    if not of:
        raise ConfigError(f"{field}.options.of is empty. Name at least one source.")
    readers = []
    for number, each in enumerate(of):
        place = f"{field}.options.of[{number}]"
        if isinstance(each, dict):
            source = build(Source, place, **each)
        elif isinstance(each, str):
            source = Source(each)
        else:
            raise ConfigError(f"{place} is {each!r}. Allowed: a source's name, or its name and options.")
        readers.append(sources.find(source.name, field=place, options=source.options))
    return readers
