"""The test split of another source, corrupted, with its labels: what a classifier meets outside the laboratory.

Source("corrupted", {"of": "cifar10", "kind": "gaussian_noise", "severity": 5}) under data.shifted measures error and
likelihood there, under data.ood how well the images are told from clean ones. `end2_tf.data.corruptions` has the kinds.
{"of": "cifar10", "kind": "jpeg", "quality": 75} sets the quality itself: a control for sets that were JPEG files once.
With "split": "validation" it is the validation split that is corrupted, for choices that mustn't see the test split.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from end2_tf.config import Source, build
from end2_tf.data import corruptions, sources
from end2_tf.data.corruptions import Kind
from end2_tf.data.examples import Examples, Splits, hold_out
from end2_tf.errors import ConfigError, DataError

_LAST: dict[tuple[Any, ...], Splits] = {}  # the last clean split: many corruptions of one set read it once


def load(
    *,
    of: Any,
    kind: Literal[Kind, "all"],
    field: str,
    data_dir: str | None,
    download: bool,
    seed: int,
    validation_fraction: float,
    split: Literal["test", "validation"] = "test",
    severity: Annotated[int, Field(ge=1, le=5)] | None = None,
    quality: Annotated[int, Field(ge=1, le=100)] | None = None,
    corruption_seed: Annotated[int, Field(ge=0)] = 0,
) -> Splits:
    """Returns the corrupted images as a test split alone, so that nothing can train on them.

    Args:
        of: A source by name, or with options: {"name": "own_data", "options": {"path": "my.npz"}}.
        kind: Of corruption; "all" draws one for each image.
        field: Where the config names this source.
        data_dir: As that source's.
        download: Whether it may be fetched.
        seed: As that source's, for those that draw a test split; and of the draw of validation examples.
        validation_fraction: Share of that source's train split that the experiment holds out.
        split: Which images; `validation` are the experiment's own, where the other source is its in-domain set.
        severity: 1 to 5; needed unless there is a quality.
        quality: JPEG's, 1 to 100, instead of a severity.
        corruption_seed: Of what is random in a corruption; the same images in every experiment unless it is changed.

    Raises:
        ConfigError: options contradict each other or don't fit the other source.
        DataError: that source can't be had, has no such split, or its inputs can't be corrupted in this way.
    """
    corruption = _corruption(field, kind, severity, quality, corruption_seed)
    clean = _clean(_reader(of, field), data_dir, download, seed, split, validation_fraction)
    examples = clean.test
    if examples is None:
        raise DataError(f"{field}.options.of has no {split} split to corrupt. Name a source with one.")
    if examples.inputs.ndim != 4:
        raise DataError(
            f"{field}.options.of has inputs of shape {examples.inputs.shape[1:]}, which aren't images. Name images."
        )
    return Splits(test=Examples(corruption(examples.inputs), examples.labels), class_names=clean.class_names)


def download(*, of: Any, field: str, data_dir: str | None) -> None:
    """Fetches the other source's data where it can."""
    _reader(of, field).download(data_dir=data_dir)


def fingerprint(*, of: Any, field: str, data_dir: str | None, **options: Any) -> str:
    """Returns a digest of the other source's and of how it is corrupted."""
    _corruption(field, options["kind"], options["severity"], options["quality"], options["corruption_seed"])
    parts = ["corrupted", corruptions.VERSION, _reader(of, field).fingerprint(data_dir=data_dir), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def severity(*, of: Any, kind: str, severity: int | None, corruption_seed: int) -> tuple[str, int] | None:
    """Returns which images are corrupted how, and the severity; None for a quality."""
    if severity is None:
        return None
    name = of.get("name") if isinstance(of, dict) else of
    how = "all kinds of corruption" if kind == "all" else kind
    return ", ".join([str(name), how, *([f"seed {corruption_seed}"] if corruption_seed else [])]), severity


def _corruption(
    field: str, kind: str, severity: int | None, quality: int | None, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what to do with images; raises ConfigError where the options don't say it once."""
    if quality is not None and kind != "jpeg":
        raise ConfigError(f"{field}.options.quality is {quality}, but kind is {kind!r}. Set kind=jpeg, or a severity.")
    if quality is not None and severity is None:
        return functools.partial(corruptions.compress, quality=quality)
    if severity is not None and quality is None:
        return functools.partial(corruptions.corrupt, kind=kind, severity=severity, seed=seed)
    given = "no severity" if severity is None else f"severity {severity} and quality {quality}"
    hint = ", or a quality of 1 to 100" if kind == "jpeg" else ""
    raise ConfigError(f"{field}.options has {given}. Set one: a severity of 1 to 5{hint}.")


def _reader(of: Any, field: str) -> sources.Reader:
    if isinstance(of, dict):
        source = build(Source, f"{field}.options.of", **of)
    elif isinstance(of, str):
        source = Source(of)
    else:
        raise ConfigError(f"{field}.options.of is {of!r}. Allowed: a source's name, or its name and options.")
    return sources.find(source.name, field=f"{field}.options.of", options=source.options)


def _clean(
    reader: sources.Reader, data_dir: str | None, download: bool, seed: int, split: str, fraction: float
) -> Splits:
    """Returns the clean images as the only split, `test`."""
    if download:
        reader.download(data_dir=data_dir)
    key = (reader.fingerprint(data_dir=data_dir), seed, split, fraction)
    if key not in _LAST:
        wanted = ["test"] if split == "test" else ["validation", "train"]
        splits = reader.load(data_dir=data_dir, download=False, seed=seed, wanted=wanted)
        chosen = splits.test if split == "test" else splits.validation
        if split == "validation" and chosen is None and splits.train is not None and fraction > 0:
            chosen = hold_out(splits.train, fraction, seed)[1]  # as `dataset.load` does
        _LAST.clear()
        _LAST[key] = Splits(test=chosen, class_names=splits.class_names)
    return _LAST[key]
