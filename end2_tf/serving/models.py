"""Models that are served: versions that come and go while requests run."""

from __future__ import annotations

import asyncio
import enum
import gc
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from end2_tf.errors import ModelError, plain
from end2_tf.export import savedmodel, warmup
from end2_tf.reading import saved_models
from end2_tf.serving import catalogue
from end2_tf.serving.batching import Batcher
from end2_tf.serving.catalogue import Model
from end2_tf.serving.request_error import Code, RequestError
from end2_tf.serving.settings import Settings
from end2_tf.serving.tensors import Arrays, Signature, Spec

LOG = logging.getLogger("end2_tf.serving")


class State(enum.Enum):
    """A version's state; the values are those of TensorFlow Serving's `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Status:
    """What became of a version: its state, and what went wrong."""

    state: State
    error: str = ""
    stamp: int = 0  # of the files of a version that couldn't be loaded


class Servable:
    """One loaded version.

    Attributes:
        name, version: What it is.
        signatures: What can be asked, by name.
        metadata: What stands in its end2_tf.json; nothing if another tool wrote it, or what can't be told to the page.
        definitions: The SavedModel's `SignatureDef` protos, by name.
        max_inputs: That a request may have.
    """

    max_inputs: int

    def __init__(self, name: str, version: int, folder: Path):
        proto = saved_models.check(folder)
        loaded = tf.saved_model.load(str(folder))
        self.name, self.version = name, version
        self._loaded = loaded  # its variables live as long as it does
        self._functions = dict(loaded.signatures)
        self.signatures = {key: _signature(key, function) for key, function in self._functions.items()}
        if not self.signatures:
            raise ModelError("it has no signatures that could be served. Export it with --stage=export.")
        self.definitions = _definitions(proto)
        self.metadata = _metadata(name, version, folder)
        self._batchers: dict[str, Batcher] = {}
        self._warm_up(folder / savedmodel.WARMUP)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Runs a signature on arrays; blocks."""
        tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        outputs = sorted(self._functions[signature](**tensors).items())
        return {name: np.asarray(value.numpy(), value.dtype.as_numpy_dtype) for name, value in outputs}

    def start(
        self, settings: Settings, executor: Executor, threads: int, observe: Callable[[str, int], None]
    ) -> Servable:
        """Makes it answer requests in the running event loop."""

        def batcher(signature: Signature) -> Batcher:
            return Batcher(
                lambda inputs: self.run(signature.name, inputs),
                settings,
                executor,
                threads,
                lambda size: observe(self.name, size),
                is_batched=signature.is_batched,
            )

        self._batchers = {key: batcher(signature) for key, signature in self.signatures.items()}
        self.max_inputs = settings.max_queued
        return self

    async def __call__(self, signature: str, inputs: Arrays) -> Arrays:
        """Answers a request, together with others."""
        return await self._batchers[signature](inputs)

    @property
    def num_queued(self) -> int:
        return sum(batcher.num_queued for batcher in self._batchers.values())

    def _warm_up(self, path: Path) -> None:
        if path.is_file():
            for signature, inputs in warmup.read(path):
                if signature in self.signatures:
                    self.run(signature, dict(inputs))


class Models:
    """Finds, loads and drops versions, and knows which of them a request means.

    A new version is loaded beside the old one, and takes over when it is ready; requests that the old one has are
    answered by it. A version that can't be loaded changes nothing for the others.

    Args:
        models: What to serve.
        settings: How.
        executor: Threads for batches.
        threads: Batches of a signature that may run at the same time.
        observe: Told (model, size) of each batch.
    """

    def __init__(
        self,
        models: Iterable[Model],
        settings: Settings,
        executor: Executor,
        threads: int,
        observe: Callable[[str, int], None] = lambda name, size: None,
    ):
        self.models = {model.name: model for model in models}
        self._settings, self._executor, self._threads, self._observe = settings, executor, threads, observe
        self._loaded: dict[str, dict[int, Servable]] = {name: {} for name in self.models}
        self.statuses: dict[str, dict[int, Status]] = {name: {} for name in self.models}

    def get(self, name: str, version: int | None = None, label: str | None = None) -> Servable:
        """Returns the version that a request means: that number, or with that label, or the latest.

        Raises:
            RequestError: there is none, in TensorFlow Serving's words.
        """
        if label is not None:
            version = self._labelled(name, label)
        loaded = self._loaded.get(name, {})
        if version is None and loaded:
            return loaded[max(loaded)]
        if version is not None and version in loaded:
            return loaded[version]
        which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise RequestError(Code.NOT_FOUND, f"Servable not found for request: {which}")

    def status(self, name: str, version: int | None = None, label: str | None = None) -> dict[int, Status]:
        """Returns the states of a model's versions, or of one of them; raises RequestError if there is none."""
        if label is not None:
            version = self._labelled(name, label)
        found = self.statuses.get(name, {})
        if version is None:
            if not found:
                raise RequestError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
            return dict(sorted(found.items(), reverse=True))
        if version not in found:
            raise RequestError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        return {version: found[version]}

    def servables(self) -> list[Servable]:
        """Returns all versions that are loaded, by name, the latest first."""
        return [
            versions[number]
            for _, versions in sorted(self._loaded.items())
            for number in sorted(versions, reverse=True)
        ]

    def labels(self, name: str) -> Mapping[str, int]:
        """Returns the labels of a model, and the version that each means now."""
        model = self.models[name]
        return catalogue.label(self._loaded[name]) if model.is_labelled_anew else model.labels

    @property
    def is_ready(self) -> bool:
        """Whether each model has a version that answers."""
        return all(self._loaded.values())

    async def poll(self) -> None:
        """Looks at all folders once, and loads and drops what has changed."""
        before = set(self._keys())
        for model in self.models.values():
            wanted = await asyncio.to_thread(model.wanted)
            loaded, statuses = self._loaded[model.name], self.statuses[model.name]
            for version in sorted(set(wanted) - set(loaded)):
                folder = wanted[version]
                known = statuses.get(version)
                if known is None or known.stamp != _stamp(folder):
                    await self._load(model.name, version, folder)
            if not set(wanted) & set(loaded):
                continue  # what is there goes on until something else answers
            is_one_missing = not set(wanted) <= set(loaded)
            for version in set(loaded) - set(wanted):
                if is_one_missing and (model.folder / str(version)).is_dir():
                    continue  # in place of the one that can't be loaded
                del loaded[version]  # whoever is being answered by it keeps it until then
                statuses[version] = Status(State.END)
                LOG.info("%s, version %d: unloaded", model.name, version)
        if set(self._keys()) != before:
            _spare_the_collector()

    def _keys(self) -> list[tuple[str, int]]:
        return [(name, version) for name, versions in self._loaded.items() for version in versions]

    async def _load(self, name: str, version: int, folder: Path) -> None:
        statuses, started = self.statuses[name], time.monotonic()
        statuses[version] = Status(State.LOADING)
        stamp = _stamp(folder)
        try:
            servable = await asyncio.to_thread(Servable, name, version, folder)
        except Exception as error:  # whatever is wrong with a stranger's files; the other versions go on
            said = plain((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
            statuses[version] = Status(State.END, said, stamp)
            LOG.error("%s, version %d: can't be loaded from %s: %s", name, version, folder, said)
            return
        self._loaded[name][version] = servable.start(self._settings, self._executor, self._threads, self._observe)
        statuses[version] = Status(State.AVAILABLE)
        LOG.info("%s, version %d: loaded in %.1f s", name, version, time.monotonic() - started)

    def _labelled(self, name: str, label: str) -> int:
        if name not in self.models:
            raise RequestError(Code.NOT_FOUND, f"Servable not found for request: Latest({name})")
        labels = self.labels(name)
        if label not in labels:
            known = ", ".join(sorted(labels)) or "none"
            raise RequestError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label[:100]}. Labels: {known}."
            )
        return labels[label]


def _spare_the_collector() -> None:
    """Keeps Python's garbage collector from going through TensorFlow's and the models' objects again and again.

    A request of many numbers makes many lists, and so sets it off; going through half a million objects takes .3 s,
    in which nothing is answered. What a dropped version left is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _stamp(folder: Path) -> int:
    """Returns a number that is another one after any file of a version has changed, whatever the clock says."""
    try:
        files = [(str(path), path.stat()) for path in (folder, *folder.rglob("*"))]
    except OSError:  # gone
        return 0
    return hash(tuple(sorted((path, found.st_mtime_ns, found.st_size) for path, found in files)))


def _signature(name: str, function: Any) -> Signature:
    _, inputs = function.structured_input_signature
    return Signature(name, _specs(inputs), _specs(function.structured_outputs))


def _specs(specs: Mapping[str, Any]) -> dict[str, Spec]:
    return {
        name: Spec(np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list()))
        for name, spec in sorted(specs.items())
    }


def _metadata(name: str, version: int, folder: Path) -> dict[str, Any]:
    found = savedmodel.metadata(folder)
    try:
        orjson.dumps(found)
    except orjson.JSONEncodeError as error:  # half of a surrogate pair, or a number beyond 64 bits: Python reads both
        LOG.warning("%s, version %d: served without its metadata, which JSON can't hold: %s", name, version, error)
        return {}
    return found


def _definitions(proto: Any) -> dict[str, Any]:
    return {
        name: definition
        for name, definition in sorted(proto.meta_graphs[0].signature_def.items())
        if not name.startswith("__")
    }
