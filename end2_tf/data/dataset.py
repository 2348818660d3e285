"""The data of an experiment: in-domain splits, auxiliary inputs, OOD and shifted sets.

Sources (end2_tf/data/sources/) deliver splits; this file checks them, splits off what is missing, brings every set to
the in-domain shape and keeps apart what must stay apart. All are arrays in memory, but for training and auxiliary
inputs with `shard_rows`: these are shards in the workdir. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from end2_tf import config as configuration
from end2_tf.data import checks, images, moments, sources, stored
from end2_tf.data.examples import Examples, Splits, hold_out
from end2_tf.data.stored import Loaded
from end2_tf.data.streams import Stream
from end2_tf.errors import ConfigError, DataError
from end2_tf.workdir import Artefact

_OOD_SPLITS = ("test", "train", "validation")  # the first that is there


@dataclass(frozen=True, eq=False)
class DataSet:
    """Everything that an experiment looks at. All inputs have the same shape; see `load`."""

    train: Examples
    validation: Examples
    test: Examples
    auxiliary: Examples | None
    ood: dict[str, Examples] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    posterior: Callable[[np.ndarray], np.ndarray] | None = None
    shifted: dict[str, Examples] = field(default_factory=dict)
    calibration: Examples | None = None
    moments: tuple[np.ndarray, np.ndarray] | None = None  # of the training inputs, where they are known

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) or (features,)."""
        return self.train.inputs.shape[1:]

    def summary(self) -> str:
        """Returns one line on what there is: sizes, shape and classes."""
        parts = {"train": self.train, "validation": self.validation}
        if self.calibration is not None:
            parts["calibration"] = self.calibration
        parts["test"] = self.test
        if self.auxiliary is not None:
            parts["auxiliary"] = self.auxiliary
        sizes = ", ".join(f"{name} {len(part):,}" for name, part in (parts | self.ood | self.shifted).items())
        names = ", ".join(self.class_names[:10]) + (", …" if self.num_classes > 10 else "")
        kind = f"{self.train.inputs.dtype} {self.input_shape}"
        return f"data      {sizes} examples; inputs {kind}; {self.num_classes} classes: {names}"

    def normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and standard deviation of the training inputs, float64, per channel or feature.

        Images count in pixel values, 0 to 255. A channel or feature that never changes has a deviation of 1.
        """
        return moments.of(self.train.inputs) if self.moments is None else self.moments


@dataclass(frozen=True)
class Places:
    """Where data in shards are kept: in-domain ones, and auxiliary inputs."""

    in_domain: Artefact
    auxiliary: Artefact


def load(
    config: configuration.Data,
    *,
    data_dir: str | None,
    download: bool,
    seed: int,
    places: Places | None = None,
    report: stored.Report = lambda *args: None,
    for_training: bool = False,
) -> DataSet:
    """Loads, checks and splits the data of an experiment.

    Validation examples are split off train, class by class, where the source has none, and then those for calibration,
    if `calibration_fraction` asks for some; test is never touched.
    `max_train` limits train and the auxiliary inputs, `max_test` all other sets. Auxiliary inputs are their source's
    train split without labels. An OOD set is its source's test split, or train where there is no test; also
    without labels. A shifted set is its source's test split with labels, which must be of the in-domain classes; where
    it is a changed copy of the in-domain test split, `max_test` leaves the same examples of both. Images of all are
    brought to the in-domain shape.

    Args:
        config: Which data.
        data_dir: Where TFDS keeps its data; None for its default.
        download: Whether TFDS may fetch what is missing.
        seed: Of everything drawn at random here.
        places: Where to keep shards, with `shard_rows`; what is there already isn't read from its source again. None
            leaves them `Stream`s: enough for who wants no more than shapes.
        report: Called with progress while shards are written.
        for_training: Leaves out OOD and shifted sets, unseen: a minute's work where many are corrupted copies.

    Raises:
        ConfigError: options don't fit a source, or sets overlap that mustn't.
        DataError: data are missing, or arrays can't be used.
    """
    in_domain, auxiliary, ood, shifted = _find(config)
    for reader, what in (
        *([(auxiliary, "the auxiliary data")] if auxiliary else []),
        *((reader, "an OOD set") for reader in ood.values()),
        *((reader, "a shifted set") for reader in shifted.values()),
    ):
        if _shared(reader, in_domain, data_dir):
            how = "is" if reader.parts() == [reader] else "has in it"
            raise ConfigError(
                f"{reader} {how} the in-domain set itself, so it can't be {what}. Name another set there."
            )
    also_auxiliary = {
        name: _shared(reader, auxiliary, data_dir) if auxiliary else [] for name, reader in (ood | shifted).items()
    }
    _check_divided_alike(also_auxiliary)
    lazily = config.shard_rows is not None
    if lazily and not in_domain.is_lazy:
        raise ConfigError(
            f"data.shard_rows is {config.shard_rows}, but the source {in_domain.name!r} makes its examples in memory. "
            "Leave it out, or name a set of TFDS or own data."
        )
    read = functools.partial(sources.Reader.load, data_dir=data_dir, download=download, seed=seed, lazily=lazily)

    def keep(make: Callable[[], Loaded], place: str) -> Loaded:
        if config.shard_rows is None or places is None:
            return make()
        artefact = getattr(places, place)
        return stored.open_stored(artefact) or stored.write(
            artefact, make(), config.shard_rows, seed=seed, report=report
        )

    known = keep(lambda: _in_domain(read(in_domain), in_domain, config, seed), "in_domain")
    class_names, shape = known.class_names, known.sets["train"].inputs.shape[1:]
    inputs = None
    if auxiliary is not None:
        loaded = keep(
            lambda: _auxiliary(read(auxiliary, wanted=["train"]), auxiliary, shape, config, seed), "auxiliary"
        )
        inputs = loaded.sets["auxiliary"]
    read_whole = functools.partial(read, lazily=False, validation_fraction=config.validation_fraction)
    labelled = {}
    for name, reader in ({} if for_training else shifted).items():
        splits = read_whole(reader, wanted=["test"])
        found = _shifted(splits, reader, shape, class_names, in_domain.name)
        labelled[name] = _limit(found, config.max_test, seed)
    sets = {}
    for name, reader in ({} if for_training else ood).items():
        if name in labelled:  # the same source, as `config.check` sees to
            sets[name] = Examples(labelled[name].inputs)
            continue
        splits = read_whole(reader, wanted=_OOD_SPLITS)
        sets[name] = _limit(_ood(splits, reader, shape, bool(also_auxiliary[name])), config.max_test, seed)
    return DataSet(
        train=known.sets["train"],
        validation=known.sets["validation"],
        test=known.sets["test"],
        auxiliary=inputs,
        ood=sets,
        class_names=class_names,
        posterior=known.posterior,
        shifted=labelled,
        calibration=known.sets.get("calibration"),
        moments=known.moments,
    )


def download(config: configuration.Data, *, data_dir: str | None) -> None:
    """Fetches whatever the experiment's sources can fetch and isn't there yet, so that `fingerprint` finds it."""
    in_domain, auxiliary, ood, shifted = _find(config)
    for reader in (in_domain, auxiliary, *ood.values(), *shifted.values()):
        if reader is not None:
            reader.download(data_dir=data_dir)


def fingerprint(config: configuration.Data, *, data_dir: str | None) -> str:
    """Returns a SHA-256 in hex that changes with the data: sources, their options and files, and how they are split.

    Loads no arrays and imports no TensorFlow. The seed of `load` isn't in it.

    Raises:
        ConfigError: options don't fit a source.
        DataError: data aren't there.
    """
    in_domain, auxiliary, ood, shifted = _find(config)
    parts = {
        "data": in_domain.fingerprint(data_dir=data_dir),
        "split": [config.validation_fraction, config.max_train, config.max_test],
        **({"shard_rows": config.shard_rows} if config.shard_rows else {}),
        **({"calibration": config.calibration_fraction} if config.calibration_fraction else {}),
        "auxiliary": None if auxiliary is None else auxiliary.fingerprint(data_dir=data_dir),
        "ood": {name: _test_print(reader, data_dir) for name, reader in ood.items()},
    }
    if shifted:  # without any, the digest is that of versions which knew none
        parts["shifted"] = {name: _test_print(reader, data_dir) for name, reader in shifted.items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _test_print(reader: sources.Reader, data_dir: str | None) -> str:
    """Returns the fingerprint of a set that a run can do without."""
    try:
        return reader.fingerprint(data_dir=data_dir)
    except DataError as error:
        raise DataError(f"{error} Or leave it out: --set {reader.field}=none.") from None


def severities(config: configuration.Data) -> dict[str, tuple[str, int]]:
    """Returns the shift, by name, and its severity, from 1, of each shifted set that is one of several degrees.

    Loads no data; raises ConfigError where options don't fit a source.
    """
    found = {name: reader.severity() for name, reader in _find(config)[3].items()}
    return {name: degree for name, degree in found.items() if degree is not None}


def _find(
    config: configuration.Data,
) -> tuple[sources.Reader, sources.Reader | None, dict[str, sources.Reader], dict[str, sources.Reader]]:
    """Returns the readers of the in-domain data, the auxiliary inputs, the OOD sets and the shifted sets."""
    in_domain = sources.find(config.name, field="data", options=config.options, path=config.path)
    auxiliary = None
    if config.auxiliary is not None:
        auxiliary = sources.find(config.auxiliary.name, field="data.auxiliary", options=config.auxiliary.options)
    ood, shifted = (
        {
            name: sources.find(source.name, field=f"data.{field}.{name}", options=source.options)
            for name, source in named.items()
        }
        for field, named in (("ood", config.ood), ("shifted", config.shifted))
    )
    return in_domain, auxiliary, ood, shifted


def _shared(
    one: sources.Reader, other: sources.Reader, data_dir: str | None
) -> list[tuple[sources.Reader, sources.Reader]]:
    """Returns those of two sources, or of what they are made of, that are the same, in pairs."""
    return [(part, same) for part in one.parts() for same in other.parts() if _is_same(part, same, data_dir)]


def _is_same(one: sources.Reader, other: sources.Reader, data_dir: str | None) -> bool:
    """Returns whether two sources have the same examples, in whatever shape: of files options choose no others."""
    place = one.location(data_dir=data_dir)
    if place is not None and place == other.location(data_dir=data_dir):
        return True
    # Digests are compared only within one source: they need the data to be there, which `load` may yet arrange.
    if one.module is not other.module:
        return False
    if (one.name, one.path, one.options) == (other.name, other.path, other.options):
        return True
    alike = other if place is None else dataclasses.replace(other, options=one.options)
    try:
        return one.fingerprint(data_dir=data_dir) == alike.fingerprint(data_dir=data_dir)
    except DataError:
        return False


def _check_divided_alike(also_auxiliary: dict[str, list[tuple[sources.Reader, sources.Reader]]]) -> None:
    """Raises ConfigError where a test split may be drawn from what the auxiliary set has in its train split."""
    for tested, trained in (pair for pairs in also_auxiliary.values() for pair in pairs):
        share, other_share = (reader.options.get("test_fraction") for reader in (tested, trained))
        if tested.module is not trained.module or share != other_share:
            raise ConfigError(
                f"{tested} has the files of {trained}, but divides them otherwise, and would be tested on what that "
                "trains on. Give both the same source and test_fraction, or name another set for one of them."
            )


def _in_domain(splits: Splits, reader: sources.Reader, config: configuration.Data, seed: int) -> Loaded:
    """Returns checked train, validation, test and, where there are or should be some, calibration examples."""
    train, test = splits.train, splits.test
    if train is None or test is None:
        raise DataError(
            f"{reader} has no {'test' if test is None else 'train'} split (there: {_there(splits)}), "
            "which in-domain data need. Choose a set with one, or make one: the option test_fraction for a TFDS set, "
            "x_test in an .npz, test/<class>/ in a folder."
        )
    class_names = splits.class_names
    if not class_names:
        labels = _labels(train, f"{reader} train")
        # There can't be more classes than examples, so a label that large is a fault, not a reason for as many names.
        checks.check_labels(labels, len(train), max(len(train), 1), f"{reader} train labels")
        class_names = tuple(str(i) for i in range(int(labels.max(initial=0)) + 1))
    checks.check_class_names(class_names, str(reader))
    checked = {name: _checked(examples, f"{reader} {name}", class_names) for name, examples in splits.named().items()}
    train = checked["train"]
    checks.check_every_class(_labels(train, f"{reader} train"), class_names, f"{reader} train labels")
    for name, examples in checked.items():
        if examples.inputs.shape[1:] != train.inputs.shape[1:]:
            raise DataError(
                f"{reader} {name} inputs have shape {examples.inputs.shape[1:]} each, those of train "
                f"{train.inputs.shape[1:]}. All splits need the same."
            )
    if "validation" not in checked and config.validation_fraction == 0:
        raise ConfigError(
            f"data.validation_fraction is 0, but {reader} has no validation split. Allowed: above 0, below 1."
        )
    for name, fraction in (("validation", config.validation_fraction), ("calibration", config.calibration_fraction)):
        if name not in checked and fraction > 0:
            checked["train"], checked[name] = hold_out(checked["train"], fraction, seed)
    sets = {name: _limit(examples, config.max_test, seed) for name, examples in checked.items()}
    sets["train"] = _limit_every_class(checked["train"], config.max_train, class_names, seed)
    return Loaded(sets, class_names, splits.posterior)


def _auxiliary(
    splits: Splits, reader: sources.Reader, shape: tuple[int, ...], config: configuration.Data, seed: int
) -> Loaded:
    if splits.train is None:
        raise DataError(
            f"{reader} has no train split (there: {_there(splits)}), which auxiliary data need, "
            "so that its test split stays unseen. Use it under data.ood, or name a set with a train split."
        )
    inputs = _adapted(splits.train.inputs, shape, f"{reader} train")
    return Loaded({"auxiliary": _limit(Examples(inputs), config.max_train, seed)})


def _ood(splits: Splits, reader: sources.Reader, shape: tuple[int, ...], is_auxiliary: bool) -> Examples:
    there = splits.named()
    split = next((name for name in _OOD_SPLITS if name in there), None)
    if split is None:
        raise DataError(f"{reader} has no split at all. Name a set with a test or a train split.")
    if is_auxiliary and split == "train":
        raise ConfigError(
            f"{reader} would be tested on its train split, on which data.auxiliary trains. "
            "Name another set for one of them."
        )
    if is_auxiliary:
        warnings.warn(
            f"{reader} is also the auxiliary set: its {split} split is unseen, but of a kind that students were shown.",
            stacklevel=3,
        )
    return Examples(_adapted(there[split].inputs, shape, f"{reader} {split}"))


def _shifted(
    splits: Splits, reader: sources.Reader, shape: tuple[int, ...], class_names: tuple[str, ...], in_domain: str
) -> Examples:
    if splits.test is None:
        raise DataError(
            f"{reader} has no test split (there: {_there(splits)}), which a shifted set needs. Name a set with one."
        )
    if splits.test.labels is None:
        raise DataError(f"{reader} test has no labels, which a shifted set needs. Use it under data.ood.")
    # TFDS numbers the classes of cifar10_corrupted, cifar10_1 and the like; of SVHN too, which is no CIFAR-10.
    numbers = tuple(str(i) for i in range(len(class_names))) if reader.name.startswith(in_domain) else ()
    if splits.class_names not in ((), class_names, numbers):
        raise DataError(
            f"{reader} has the classes {_listed(splits.class_names)}; the in-domain data have {_listed(class_names)}. "
            "A shifted set needs the same, in the same order. Use it under data.ood."
        )
    inputs = _adapted(splits.test.inputs, shape, f"{reader} test")
    checks.check_labels(splits.test.labels, len(inputs), len(class_names), f"{reader} test labels")
    return Examples(inputs, splits.test.labels.astype(np.int64))


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''} ({len(names)})"


def _adapted(inputs: np.ndarray | Stream, shape: tuple[int, ...], name: str) -> np.ndarray | Stream:
    """Returns checked inputs in the in-domain shape."""
    checks.check_inputs(inputs, f"{name} inputs")
    if inputs.shape[1:] == shape:
        return inputs
    if inputs.ndim == 2 or len(shape) == 1:
        raise DataError(
            f"{name} inputs have shape {inputs.shape[1:]} each, the in-domain data {shape}. Name a set that fits."
        )
    size = (shape[0], shape[1], shape[2])
    try:
        if isinstance(inputs, Stream):
            images.adapt_images(np.zeros((1, *inputs.shape[1:]), np.uint8), size)  # whether it can be done, now
            return inputs.map(lambda part: images.adapt_images(part, size), size)
        return images.adapt_images(inputs, size)
    except DataError as error:
        raise DataError(f"{name} {error}") from None


def _checked(examples: Examples, name: str, class_names: tuple[str, ...]) -> Examples:
    checks.check_inputs(examples.inputs, f"{name} inputs")
    labels = _labels(examples, name)
    checks.check_labels(labels, len(examples), len(class_names), f"{name} labels")
    return Examples(examples.inputs, labels.astype(np.int64))


def _labels(examples: Examples, name: str) -> np.ndarray:
    if examples.labels is None:
        raise DataError(f"{name} has no labels, which in-domain data need. It can be an auxiliary or OOD set.")
    return examples.labels


def _there(splits: Splits) -> str:
    return ", ".join(splits.named()) or "none"


def _limit_every_class(train: Examples, num: int | None, class_names: tuple[str, ...], seed: int) -> Examples:
    """Returns `num` training examples, each class in its own proportion."""
    if num is None or num >= len(train):
        return train
    if num < len(class_names):
        raise ConfigError(
            f"data.max_train is {num}, but there are {len(class_names)} classes. Allowed: at least one example a class."
        )
    _, kept = hold_out(train, num / len(train), seed)
    checks.check_every_class(_labels(kept, "train"), class_names, f"train labels with data.max_train={num}")
    return kept


def _limit(examples: Examples, num: int | None, seed: int) -> Examples:
    return examples if num is None else examples.take(num, seed)
