"""`.keras` files from outside: layers alone are opened, with no more weights than the file holds."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from end2_tf.errors import End2Error, plain
from end2_tf.reading import archives, memory, texts

CONFIG, DATES, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_CONFIG_BYTES = 16_000_000
# Layers and values that bring code, or read files that their config names.
_CODE = ("__lambda__", "Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")
_FILES = ("StringLookup", "IntegerLookup", "TextVectorization")
_ARRAYS = ("__tensor__", "__numpy__")
_NUMBERS = ("bool", "int", "uint", "float", "bfloat")
# What a network is made of; not keras.utils, keras.saving, keras.config and the like, whose functions do things.
_PARTS = frozenset(
    {
        *("activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models"),
        *("ops", "optimizers", "quantizers", "random", "regularizers", "src", "tree"),
    }
)
_MAX_DEPTH, _MAX_ITEMS = 64, 200_000  # of an HDF5 file
_WAITING = "uninitialized_variables"  # where Keras keeps variables that have no values yet
_DEFLATED = 1_100  # times smaller than its contents is the most that gzip gets


def load(path: Path, *, what: str, error: type[End2Error], advice: str, **arguments: Any) -> Any:
    """Opens a `.keras` file that needs nothing but Keras and classes registered with it.

    Args:
        path: The file.
        what: How the message begins about a file that isn't opened: "the entry x".
        error: What to raise.
        advice: The end of the message about a file that is damaged: what to do.
        **arguments: For `keras.saving.load_model`.

    Raises:
        error: it would need code from the file, a class that isn't registered, other files, or more memory than there
            is or its weights explain; or Keras can't read it.
    """
    import keras

    with archives.opened(path, error, "a .keras file", advice) as archive:
        config = _config(archive, path, error, advice)
        _refuse_code(config, path, what, error)
        held = _num_values(archive, path, error, advice)
    try:
        _check_size(config, held)
    except _TooLargeError as fault:
        raise error(f"{what} {fault}. {advice}") from None
    except Exception as fault:  # whatever Keras meets in the file
        if all(_is_ours(part) for part in _objects(config)):  # classes of the user's own may need real variables
            raise _unreadable(path, fault, error, advice) from fault
    try:
        return keras.saving.load_model(path, safe_mode=True, **arguments)
    except Exception as fault:  # as above
        raise _unreadable(path, fault, error, advice) from fault


def _unreadable(path: Path, fault: Exception, error: type[End2Error], advice: str) -> End2Error:
    reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
    return error(f"{path} can't be opened as a Keras model ({plain(reason, 300)}). {advice}")


def _config(archive: zipfile.ZipFile, path: Path, error: type[End2Error], advice: str) -> Any:
    there = {entry.filename: entry for entry in archive.infolist()}
    wrong = next((name for name in there if name not in (CONFIG, DATES, WEIGHTS)), None)
    missing = next((name for name in (CONFIG, WEIGHTS) if name not in there), None)
    if wrong is not None or missing:
        reason = f"it has no {missing}" if missing else f"it has {texts.listed([str(wrong)])}, which no network needs"
        raise error(f"{path} is no .keras file that is opened: {reason}. {advice}")
    if there[CONFIG].file_size > MAX_CONFIG_BYTES:
        raise error(
            f"{path} is no .keras file that is opened: its {CONFIG} unpacks to more than "
            f"{MAX_CONFIG_BYTES / 1e6:.0f} MB. {advice}"
        )
    try:
        return texts.parse_json(archive.read(CONFIG))
    except archives.FAULTS as fault:
        raise error(
            f"{path} is no .keras file: its {CONFIG} can't be read ({plain(str(fault), 200)}). {advice}"
        ) from None


def _refuse_code(config: Any, path: Path, what: str, error: type[End2Error]) -> None:
    import keras

    for part in _objects(config):
        kind, module = str(part["class_name"]), part.get("module")
        shown = texts.listed([kind])
        if kind in _CODE:
            raise error(
                f"{what} has a {kind.strip('_')}, which would run code from {path.name}. It isn't opened: it must "
                "consist of layers alone."
            )
        if kind in _FILES:
            raise error(
                f"{what} has a {kind}, which may read other files. It isn't opened: networks here take numbers."
            )
        if kind in _ARRAYS and not _is_numeric(part.get("config")):
            raise error(f"{what} has an array that isn't of numbers. It isn't opened: a network needs no other.")
        root, _, rest = str(module).partition(".")
        if root == "keras" and rest and rest.split(".")[0] not in _PARTS:
            raise error(
                f"{what} names {texts.listed([f'{module}.{kind}'])}, which is no part of a network. It isn't opened: "
                "it must consist of layers alone."
            )
        is_known = _is_ours(part) or root == "keras_hub"
        if not is_known and keras.saving.get_registered_object(str(part.get("registered_name") or kind)) is None:
            raise error(
                f"{what} needs the class {texts.listed([str(module)])}.{shown}, which isn't registered with Keras. "
                "If you trust it, import the module that registers it first."
            )


def _is_ours(part: dict[str, Any]) -> bool:
    """Returns whether a serialised object is of Keras or of this package."""
    module = part.get("module")
    return module is None or str(module).partition(".")[0] in ("keras", "builtins", "end2_tf")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every serialised object in a Keras config."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _is_numeric(config: Any) -> bool:
    return isinstance(config, dict) and str(config.get("dtype")).rstrip("0123456789") in _NUMBERS


def _num_values(archive: zipfile.ZipFile, path: Path, error: type[End2Error], advice: str) -> int:
    """Returns how many numbers a file's weights are, by their shapes.

    Raises:
        error: the HDF5 file in it leads to other files, holds something else than numbers, or says that it holds more
            than its bytes can.
    """
    import h5py

    entry = archive.getinfo(WEIGHTS)
    memory.check_fits(entry.file_size, f"{path}", "Use a machine with more.")
    try:
        with h5py.File(io.BytesIO(archive.read(entry)), "r") as file:
            sizes = [_checked(item) for item in _datasets(file)]
    except archives.FAULTS as fault:
        raise error(f"{path} has no readable {WEIGHTS} ({plain(str(fault), 200)}). {advice}") from None
    memory.check_fits(sum(num_bytes for _, num_bytes in sizes), f"{path}", "Use a machine with more.")
    return sum(num for num, _ in sizes)


def _datasets(file: Any) -> Iterator[Any]:
    import h5py

    stack, num = [(file, 0)], 0
    while stack:
        group, depth = stack.pop()
        for name in group:
            num += 1
            if depth > _MAX_DEPTH or num > _MAX_ITEMS:
                raise ValueError("it has too many groups within each other")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{plain(name, 80)!r} is a link to elsewhere")
            item = group[name]
            if isinstance(item, h5py.Group):
                stack.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                yield item
            else:
                raise ValueError(f"{plain(name, 80)!r} is neither a group nor an array")


def _checked(item: Any) -> tuple[int, int]:
    """Returns how many numbers a dataset has, and their bytes; raises ValueError where it can't be what it says."""
    name = plain(item.name, 80)
    if item.external or item.is_virtual:
        raise ValueError(f"{name} is kept in another file")
    if item.dtype.kind not in "biuf" or item.shape is None:
        raise ValueError(f"{name} holds {item.dtype}, not numbers")
    num = math.prod(item.shape)
    num_bytes = num * item.dtype.itemsize
    if num_bytes > _DEFLATED * item.id.get_storage_size():
        raise ValueError(f"{name} says it has shape {item.shape}, more than its bytes can hold")
    return num, num_bytes


def _uncompiled(value: Any) -> Any:
    """Returns a config without optimisers, which are as large as the weights and want real variables."""
    if isinstance(value, dict):
        return {key: _uncompiled(item) for key, item in value.items() if key != "compile_config"}
    return [_uncompiled(item) for item in value] if isinstance(value, list) else value


class _TooLargeError(Exception):
    """A config describes more than the weights that come with it."""


def _check_size(config: Any, held: int) -> None:
    """Raises _TooLargeError where a network has more weights than its file, before any is allocated."""
    import keras
    from keras.src.backend.common import global_state

    waiting = list(global_state.get_global_attribute(_WAITING) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):  # variables have shapes, and no values
            model = keras.saving.deserialize_keras_object(_uncompiled(config), safe_mode=True)
            wanted = sum(math.prod(weight.shape) for weight in model.weights)
    finally:  # else the next such scope, of anybody's, would give them values
        global_state.set_global_attribute(_WAITING, waiting)
    if wanted > held:
        raise _TooLargeError(f"describes {wanted:,} weights, but its {WEIGHTS} has {held:,} numbers")
