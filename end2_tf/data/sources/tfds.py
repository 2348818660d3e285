"""Any image classification set of TFDS by its name, `set`, `set/config` or `set:version`.

Sets are read from their folders under the data directory, never through TFDS's catalogue, so that a set which somebody
prepared there is found without a network and whether or not TFDS knows its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import types
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from end2_tf import registry
from end2_tf.data import images, shards, sources
from end2_tf.data.examples import Examples, Splits, hold_out
from end2_tf.data.streams import Stream
from end2_tf.errors import DataError, suggestion
from end2_tf.reading import memory, texts

_NAME = re.compile(r"(?P<set>[\w-]+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_DEGREE = re.compile(r"(?P<kind>.+)_(?P<severity>[1-5])")  # configs of cifar10_corrupted and imagenet2012_corrupted
_BATCH = 1000
_ITS_OWN = "tensorflow_datasets."
_MAX_CLASSES = 1_000_000
_ENDS = 65536  # bytes at each end of a record file that go into the fingerprint


def load(
    *,
    name: str,
    data_dir: str | None,
    download: bool,
    seed: int,
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None,
    lazily: bool = False,
    wanted: Sequence[str] = (),
) -> Splits:
    """Reads a set's train, validation and test splits, those that it has.

    Without a test split, validation takes its place, as with ImageNet. Where there is one split alone, whichever it is,
    `test_fraction` divides it into train and test.

    Args:
        name: Of the set.
        data_dir: TFDS's data directory; None for TFDS_DATA_DIR or ~/tensorflow_datasets.
        download: Whether TFDS may fetch it.
        seed: Of the draw of a test split.
        image_size: Height and width to resize to; needed where the set's images differ in size.
        test_fraction: Share of each class that becomes the test split, where the set has one split alone.
        lazily: Whether images stay in the set's files until they are asked for.
        wanted: Splits of which the first that is there is read alone; none: all. What is to be divided is read anyway.

    Raises:
        DataError: the set isn't there, isn't one of images, or is damaged.
    """
    if download:
        _download(name, data_dir)
    folder = _folder(name, data_dir)
    builder = _builder(folder)
    image_key, label_key = _keys(builder, name)
    there = {split: split for split in ("train", "validation", "test") if split in builder.info.splits}
    if not there:
        others = ", ".join(builder.info.splits) or "none"
        raise DataError(
            f"TFDS set {name!r} has no split called train, validation or test (there: {others}). Choose another set."
        )
    class_names = tuple(builder.info.features[label_key].names or ()) if label_key else ()
    if "test" not in there and "validation" in there:
        there["test"] = there.pop("validation")
    share = test_fraction if len(there) == 1 and label_key else None
    found = {}
    for split in sources.chosen(there, wanted if share is None else ()):
        reader = _Split(builder, name, there[split], image_key, label_key, image_size)
        found[split] = reader.lazily() if lazily else reader.at_once()
    if share is not None:
        (only,) = found.values()
        found["train"], found["test"] = hold_out(only, share, seed)
    return Splits(found.get("train"), found.get("validation"), found.get("test"), class_names)


def download(*, name: str, data_dir: str | None) -> None:
    """Fetches and prepares a set unless it is there already."""
    _download(name, data_dir)


def fingerprint(*, name: str, data_dir: str | None, **options: Any) -> str:
    """Returns a digest of the record files' names, sizes and ends, the class names and the options."""
    folder = _folder(name, data_dir)
    digest = hashlib.sha256(json.dumps(["tfds", options], sort_keys=True).encode())
    for path in sorted(folder.iterdir()):
        # The .json files differ between versions of TFDS that wrote the same records.
        if path.is_file() and path.suffix != ".json":
            size = path.stat().st_size
            digest.update(f"\n{path.name} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_ENDS))
                file.seek(max(0, size - _ENDS))
                digest.update(file.read(_ENDS))
    return digest.hexdigest()


def location(*, name: str, data_dir: str | None) -> Path:
    """Returns the folder of the set's versions, there or not: that of its config, of the only one if none is named."""
    base, config, _ = _parts(name)
    folder = root_of(data_dir) / base
    if config is None and not _versions(folder) and len(configs := _configs(folder)) == 1:
        (config,) = configs
    return folder / config if config else folder


def severity(*, name: str) -> tuple[str, int] | None:
    """Returns the shift and its severity of sets like `cifar10_corrupted/fog_3`, None for others."""
    base, config, _ = _parts(name)
    degree = _DEGREE.fullmatch(config) if config and base.endswith("_corrupted") else None
    return (f"{base}, {degree['kind']}", int(degree["severity"])) if degree else None


# Sets of the published experiments that somebody else's machine lacks, and what comes near.
_ELSEWHERE = {
    "not_mnist": "it is 10,000 images of Bulatov's notMNIST_small. Unpack that and name its folder instead: "
    '{"name": "images", "options": {"path": "notMNIST_small", "size": 28, "channels": 1, "num": 10000}}.',
    "tiny_imagenet32": "it is half of Tiny ImageNet's validation images at 32×32. Name those instead, which --download "
    'fetches: {"name": "tiny_imagenet", "options": {"size": 32}}.',
}


def root_of(data_dir: str | None) -> Path:
    """Returns the data directory; TFDS's own default where none is given."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _parts(name: str) -> tuple[str, str | None, str | None]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name!r} is no name of a data source. Allowed: a file in end2_tf/data/sources/, or set, set/config or "
            "set:1.0.0 of TFDS. Your own files are the source own_data: data.name=own_data and data.path, elsewhere "
            '{"name": "own_data", "options": {"path": …}}.'
        )
    return match["set"], match["config"], match["version"]


def _folder(name: str, data_dir: str | None) -> Path:
    """Returns the folder of the set's prepared version, the newest unless the name says which."""
    base, config, version = _parts(name)
    place = location(name=name, data_dir=data_dir)
    versions = _versions(place)
    if config is None and not versions and (configs := _configs(place)):
        raise DataError(
            f"TFDS set {name!r} has several configs in {place}: {', '.join(configs)}. Write {base}/{configs[0]}."
        )
    if version is not None:
        versions = [v for v in versions if v.name == version]
    if not versions:
        raise DataError(_missing(name, base, root_of(data_dir)))
    return versions[-1]


def _configs(place: Path) -> list[str]:
    """Returns a set's configs that are there, by name."""
    return sorted(path.name for path in place.iterdir() if _versions(path)) if place.is_dir() else []


def _versions(place: Path) -> list[Path]:
    """Returns the complete versions in a set's folder, oldest first."""
    if not place.is_dir():
        return []
    found = [path for path in place.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    complete = [path for path in found if (path / "dataset_info.json").is_file()]
    return sorted(complete, key=lambda path: [int(part) for part in path.name.split(".")])


def _missing(name: str, base: str, root: Path) -> str:
    """Returns the message for a set that isn't in the data directory, known to TFDS or not."""
    there = []
    if root.is_dir():
        there = sorted(
            p.name for p in root.iterdir() if p.is_dir() and (_versions(p) or any(_versions(q) for q in p.iterdir()))
        )
    looked = f"{root} (there: {', '.join(there)})" if there else f"{root} (no set there)"
    known = _tfds().list_builders(with_community_datasets=False)
    if base in known:
        return (
            f"TFDS set {name!r} isn't in {looked}. Give --download to fetch it, or --data_dir=DIR where it is prepared."
        )
    if base in _ELSEWHERE:
        return f"{name!r} isn't in {looked}, and TFDS doesn't know it: {_ELSEWHERE[base]}"
    files = [source for source in registry.names("data source") if source != "tfds"]
    return (
        f"{name!r} is no data source: no file in end2_tf/data/sources/ ({', '.join(files)}), no TFDS set, and not in "
        f"{looked}. {suggestion(base, [*files, *there, *known])}"
        "Check the name, or give --data_dir=DIR where it is prepared."
    )


def _tfds() -> types.ModuleType:
    """Imports TFDS so that it doesn't look for anything on the network by itself."""
    os.environ.setdefault("NO_GCE_CHECK", "true")
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import gcs_utils

    gcs_utils._is_gcs_disabled = True  # TFDS 4.9 asks a bucket even for sets that are on disk
    return tfds


def _builder(folder: Path) -> Any:
    _check_features(folder)
    tfds = _tfds()
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # a damaged description raises whatever its parser does
        raise DataError(
            f"{folder} can't be read by TFDS ({_reason(error)}). Delete it and prepare the set anew."
        ) from error


def _check_features(folder: Path) -> None:
    """Raises DataError where a set's description names classes that aren't TFDS's: it would import their modules."""
    path, advice = folder / "features.json", "Delete the set and prepare it anew."
    if not path.exists():
        return  # as in sets of old versions; TFDS says what it misses
    waiting = [texts.read_json(path, DataError, advice)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
            for key in ("pythonClassName", "python_class_name", "type", "proto_cls"):
                if isinstance(found := item.get(key), str) and not found.startswith(_ITS_OWN):
                    raise DataError(f"{path} names the class {texts.listed([found])}, which isn't TFDS's own. {advice}")
            if str(item.get("numClasses", 0)).isdecimal() and int(str(item.get("numClasses", 0))[:10]) > _MAX_CLASSES:
                raise DataError(f"{path} has {texts.listed([str(item['numClasses'])])} classes. {advice}")


def _download(name: str, data_dir: str | None) -> None:
    base, config, version = _parts(name)
    root = root_of(data_dir)
    with contextlib.suppress(DataError):
        _folder(name, data_dir)
        return
    tfds = _tfds()
    if base not in tfds.list_builders(with_community_datasets=False):
        raise DataError(_missing(name, base, root))
    full = f"{base}/{config}" if config else base
    try:
        builder = tfds.builder(f"{full}:{version}" if version else full, data_dir=root)
        _check_network(builder)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except DataError:
        raise
    except Exception as error:  # each set has its own script and its own kinds of failure
        raise DataError(
            f"TFDS set {name!r} can't be prepared in {root} ({_reason(error)}). "
            "Mend that, or give --data_dir=DIR where it is prepared."
        ) from error


def _check_network(builder: Any) -> None:
    """Raises DataError if the set's host has no address; TFDS alone would try for minutes."""
    host = next((urllib.parse.urlparse(url).hostname for url in builder.url_infos), None)
    if host is None or builder.MANUAL_DOWNLOAD_INSTRUCTIONS or urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        raise DataError(
            f"TFDS set {builder.name!r} can't be fetched: {host} has no address here. Check the network, or prepare "
            "the set on another machine and give --data_dir=DIR."
        ) from None


def _keys(builder: Any, name: str) -> tuple[str, str | None]:
    """Returns the features that are the image and its class; a set without classes can be auxiliary or OOD."""
    features = builder.info.features
    tfds = _tfds()
    keys = builder.info.supervised_keys or ("image", "label")
    image, label = keys[0], keys[1]
    flat = isinstance(features, tfds.features.FeaturesDict)
    if not flat or image not in features or not isinstance(features[image], tfds.features.Image):
        there = ", ".join(sorted(features)) if flat else type(features).__name__
        raise DataError(
            f"TFDS set {name!r} is no image classification set: it has no image feature {image!r} (features: {there})."
        )
    if features[image].np_dtype != np.uint8:
        raise DataError(f"TFDS set {name!r} has {np.dtype(features[image].np_dtype).name} images. Allowed: uint8.")
    is_class = label in features and isinstance(features[label], tfds.features.ClassLabel)
    return image, label if is_class else None


class _Split:
    """One split of a prepared set."""

    def __init__(
        self, builder: Any, name: str, split: str, image_key: str, label_key: str | None, image_size: int | None
    ):
        self._builder, self._split, self._image, self._label = builder, split, image_key, label_key
        self._name = f"TFDS set {name!r}, split {split}"
        self._num = builder.info.splits[split].num_examples
        height, width, channels = builder.info.features[image_key].shape
        if image_size is None and (height is None or width is None):
            raise DataError(
                f"TFDS set {name!r} has images of different sizes. Set the option image_size=NN to resize all."
            )
        self._shape = (image_size or height, image_size or width, channels or 3)
        self._batch = min(_BATCH, shards.rows_of(int(np.prod(self._shape))))
        self._image_batch = self._batch if None not in (height, width, channels) else 1

    def at_once(self) -> Examples:
        """Returns all examples in memory."""
        memory.check_fits(
            self._num * int(np.prod(self._shape)),
            f"{self._name},",
            "Set data.shard_rows for those to train on, or a smaller image_size, or choose another set.",
        )
        inputs = np.empty((self._num, *self._shape), np.uint8)
        labels = np.empty(self._num, np.int64) if self._label else None
        filled = 0
        for batch in self._batches([self._image, *([self._label] if self._label else [])]):
            end = filled + len(batch[self._image])
            inputs[filled:end] = images.adapt_images(batch[self._image], self._shape)
            if labels is not None and self._label:
                labels[filled:end] = batch[self._label]
            filled = end
        return Examples(inputs, labels)

    def lazily(self) -> Examples:
        """Returns the labels in memory, and images that are decoded when they are asked for."""
        labels = None
        if self._label:
            labels = np.concatenate([batch[self._label] for batch in self._batches([self._label])])

        def read(ids: np.ndarray) -> Iterator[np.ndarray]:
            for batch in self._batches([self._image], ids):
                yield images.adapt_images(batch[self._image], self._shape)

        return Examples(Stream(read, self._num, self._shape, np.dtype(np.uint8), self._name), labels)

    def _batches(self, keys: list[str], ids: np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Yields features in the files' order, some examples at a time; of those with these numbers, if there are any.

        Images that aren't asked for aren't decoded.
        """
        import tensorflow as tf

        tfds = _tfds()
        with_images = self._image in keys
        feature = self._builder.info.features[self._image]
        is_wanted = np.zeros(self._num, bool)
        is_wanted[slice(None) if ids is None else ids] = True

        def pick(example: dict[str, Any]) -> dict[str, Any]:  # others may not form batches
            decode = {self._image: feature.decode_example} if with_images else {}
            return {key: decode.get(key, tf.identity)(example[key]) for key in keys}

        seen = 0
        try:
            data = self._builder.as_dataset(
                split=self._split,
                read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),  # the files' order
                shuffle_files=False,
                decoders={self._image: tfds.decode.SkipDecoding()},
            )
            wanted = tf.constant(is_wanted)
            if ids is not None:
                data = data.enumerate().filter(lambda i, _: wanted[i]).map(lambda _, example: example)
            chosen = data.map(pick, num_parallel_calls=tf.data.AUTOTUNE)
            size = self._image_batch if with_images else self._batch
            for batch in chosen.batch(size).prefetch(1).as_numpy_iterator():
                yield batch
                seen += len(batch[keys[0]])
        except (tf.errors.OpError, ValueError) as error:
            raise DataError(
                f"{self._name}, is damaged after {seen} of {self._num} examples ({_reason(error)}). "
                f"Delete {self._builder.data_dir} and prepare it anew."
            ) from error


def _reason(error: BaseException) -> str:
    """Returns the first line of a foreign message, short enough for one of ours."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", str(error))  # TensorFlow's names of nodes
    lines = [line.strip().rstrip(".:") for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
