"""A zoo, its entries and their networks from strangers: input → reader → what is said."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from end2_tf import registry
from end2_tf.errors import ZooError
from end2_tf.zoo import catalogue, keras_file, manifest, results

NAME = "spirals_mlp_end"
PUBLISHED = registry.PACKAGE.parent / "zoo" / NAME
DEEP = "[" * 100_000 + "]" * 100_000
CLEAR_SCREEN = "\x1b[2J"


def zoo(folder: Path) -> Path:
    """Copies an entry as a zoo of its own."""
    root = folder / "zoo"
    shutil.copytree(PUBLISHED, root / NAME)
    return reindexed(root)


def reindexed(root: Path, **values) -> Path:
    """Writes the index of a zoo whose manifest a stranger sealed himself."""
    content = (root / NAME / "manifest.json").read_bytes()
    files = json.loads(content)["files"]
    size = len(content) + sum(file["bytes"] for file in files.values() if isinstance(file, dict))
    record = {"manifest": hashlib.sha256(content).hexdigest(), "bytes": size, "kind": "student", "summary": "a student"}
    entries = {values.pop("entry", NAME): record | values}
    (root / "index.json").write_text(json.dumps({"format": 1, "entries": entries}))
    return root


def resealed(root: Path, name: str, content: bytes) -> Path:
    """Replaces a file of an entry, with the right digests in manifest and index."""
    path = root / NAME / "manifest.json"
    (root / NAME / name).write_bytes(content)
    listed = json.loads(path.read_text())
    listed["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(listed))
    return reindexed(root)


def index(text: str | bytes | None = None, **values):
    def make(folder: Path) -> Path:
        root = reindexed(zoo(folder), **values)
        if text is not None:
            (root / "index.json").write_bytes(text.encode() if isinstance(text, str) else text)
        return root

    return make


def listing(**files):
    """Makes a zoo whose manifest lists one more file."""

    def make(folder: Path) -> Path:
        root = zoo(folder)
        path = root / NAME / "manifest.json"
        listed = json.loads(path.read_text())
        listed["files"] |= files["files"]
        path.write_text(json.dumps(listed))
        return reindexed(root)

    return make


def replaced(name: str, to: str):
    def make(folder: Path) -> Path:
        root = zoo(folder)
        path = root / name
        path.rename(folder / "outside")
        os.symlink(to, path)
        return root

    return make


def with_file(name: str, change):
    return lambda folder: _with_file(zoo(folder), name, change)


def _with_file(root: Path, name: str, change) -> Path:
    (root / NAME / name).write_bytes(change((root / NAME / name).read_bytes()))
    return root


def with_metadata(**values):
    def make(folder: Path) -> Path:
        root = zoo(folder)
        found = json.loads((root / NAME / "metadata.json").read_text()) | values
        return resealed(root, "metadata.json", json.dumps(found).encode())

    return make


DIGEST = "0" * 64
FILE = {"bytes": 3, "sha256": DIGEST}

ENTRIES = {
    "an index that is text": (index("no JSON"), r"index\.json is no index of a zoo \(Invalid JSON"),
    "an index 100,000 lists deep": (index(DEEP), r"index\.json is no index of a zoo \(Invalid JSON: recursion limit"),
    "an index of two megabytes": (index(b" " * 2_000_000), r"index\.json has more than 1,000,000 bytes"),
    "an index of a later format": (index('{"format": 2, "entries": {}}'), r"has format 2, but this end2_tf reads 1"),
    "a format of 5,000 digits": (index('{"format": ' + "9" * 5_000 + "}"), r"index\.json (is no index|has format 9)"),
    "an entry outside": (index(entry="../x"), r"entries\.\.\./x\.\[key\]: '\.\./x' can't be the name of an entry"),
    "an entry of a kilobyte": (index(entry="x" * 1_000), r"'x{100}' can't be the name of an entry"),
    "an entry that clears the screen": (index(entry=CLEAR_SCREEN), r"'\\x1b\[2J' can't be the name of an entry"),
    "a summary that clears the screen": (
        index(summary=CLEAR_SCREEN),
        r"summary: it has a character that can't be seen",
    ),
    "a summary of a kilobyte": (index(summary="x" * 1_000), r"summary: String should have at most 500 characters"),
    "a size below zero": (index(bytes=-1), r"bytes: Input should be greater than or equal to 0"),
    "a size of exabytes": (index(bytes=10**30), r"bytes: (Input should be less|Unable to parse)"),
    "a size that isn't the files'": (index(bytes=5), r"lists [\d,]+ bytes with its own, but the index 5"),
    "a digest that is none": (index(manifest="../x"), r"manifest: String should match pattern"),
    "a digest of something else": (
        index(manifest=DIGEST),
        r"manifest\.json was altered .* 000000000000… was published",
    ),
    "a file outside": (
        listing(files={"../../etc/passwd": FILE}),
        r"'\.\./\.\./etc/passwd' can't be a file of an entry",
    ),
    "a file from the root": (listing(files={"/etc/passwd": FILE}), r"'/etc/passwd' can't be a file of an entry"),
    "a hidden file": (listing(files={".ssh": FILE}), r"'\.ssh' can't be a file of an entry"),
    "a file on another drive": (listing(files={"C:\\x": FILE}), r"can't be a file of an entry"),
    "a file that isn't there": (listing(files={"x": FILE}), r"/x is missing at"),
    "a manifest that lists nothing": (listing(files={"x": 3}), r"is no manifest of a zoo \(files\.x: Input should be"),
    "a model that was altered": (with_file("model.keras", lambda c: c[:-1] + b"x"), r"model\.keras was altered at"),
    "a model that is longer": (with_file("model.keras", lambda c: c + b"x"), r"model\.keras has [\d,]+ bytes at"),
    "an index that is a link": (replaced("index.json", "../outside"), r"index\.json is a link, which a zoo can't hold"),
    "a model that is a link": (replaced(f"{NAME}/model.keras", "../../outside"), r"model\.keras is a link at"),
    "a folder that is a link": (
        replaced(NAME, "../outside"),
        r"is a link at .*zoo/spirals_mlp_end, which a zoo can't hold",
    ),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_zoos(refused, case):
    make, message = ENTRIES[case]
    refused(make, lambda root: catalogue.check(NAME, source=root), message)


METADATA = {
    "an input of no shape": (with_metadata(input={}), r"metadata\.json doesn't hold what it should \(input\.shape"),
    "an input of exabytes": (with_metadata(input={"shape": [10**9, 10**9]}), r"input\.shape\.0: Input should be less"),
    "a class of two lines": (
        with_metadata(classes=["a\nb", "c"]),
        r"classes\.0: it is 'a\\nb', which can't be a name",
    ),
    "classes of nothing": (with_metadata(classes=None), r"\(classes: Input should be a valid tuple"),
    "another kind": (with_metadata(kind="virus"), r"\(kind: Input should be 'student', 'member' or 'ensemble'"),
    "a list": (
        lambda folder: resealed(zoo(folder), "metadata.json", b"[]"),
        r"metadata\.json holds a list, not an obj",
    ),
    "100,000 lists within each other": (
        lambda folder: resealed(zoo(folder), "metadata.json", DEEP.encode()),
        r"metadata\.json is no readable JSON \(it is more than 100 levels deep",
    ),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata(refused, case):
    make, message = METADATA[case]

    def read(root: Path):
        return manifest.read_metadata(catalogue.find(NAME, root, None).fetch(NAME, "metadata.json"))

    refused(make, read, message)


def table(**values):
    def make(folder: Path) -> Path:
        text = io.StringIO()
        writer = csv.DictWriter(text, results.COLUMNS)
        writer.writeheader()
        writer.writerow(dict.fromkeys(results.COLUMNS, "1") | values)
        (folder / "results.csv").write_text(text.getvalue())
        return folder / "results.csv"

    return make


TABLES = {
    "a number that is a formula": (table(mean="=1+1"), r"results\.csv, row 2: mean is '=1\+1', no finite number"),
    "NaN": (table(sd="nan"), r"row 2: sd is 'nan', no finite number"),
    "a number that overflows": (table(mean="1e999"), r"row 2: mean is '1e999', no finite number"),
    "a name that clears the screen": (table(dataset=CLEAR_SCREEN), r"row 2: dataset is '\\x1b\[2J'"),
    "a cell of a megabyte": (
        table(entry="x" * 1_000_000),
        r"results\.csv can't be read \(field larger than field limit",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(refused, case):
    make, message = TABLES[case]
    refused(make, results.read, message)


# Networks


def network(config=None, weights=None, *more: tuple[str, bytes], **how):
    """Makes a published network's file with another config, other weights or further entries."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(PUBLISHED / "model.keras") as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        if config is not None:
            changed = config(json.loads(parts["config.json"])) if callable(config) else config
            parts["config.json"] = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        if weights is not None:
            parts["model.weights.h5"] = weights(parts["model.weights.h5"], folder)
        with zipfile.ZipFile(folder / "m.keras", "w", **how) as archive:
            for name, content in (*parts.items(), *more):
                archive.writestr(name, content)
        return folder / "m.keras"

    return make


def with_object(**values):
    """Puts an object of a stranger's in the place of the head."""

    def change(config):
        config["config"]["head"] = {"config": {}, "registered_name": None, "module": "keras.layers"} | values
        return config

    return change


def wider(config):
    """Has the last dense layer ask for a petabyte."""
    layers = config["config"]["backbone"]["config"]["layers"]
    dense = next(layer for layer in reversed(layers) if layer["class_name"] == "Dense")
    dense["config"]["units"] = 10**14
    return config


def hdf5(change):
    def rewrite(content: bytes, folder: Path) -> bytes:
        stream = io.BytesIO(content)
        with h5py.File(stream, "r+") as file:
            change(file, folder)
        return stream.getvalue()

    return rewrite


def a_link(file, folder):
    file["stolen"] = h5py.ExternalLink(str(folder / "private.h5"), "/weights")


def a_soft_link(file, folder):
    file["stolen"] = h5py.SoftLink("/layers")


def external_storage(file, folder):
    (folder / "private").write_bytes(bytes(400))
    file.create_dataset("stolen", (100,), "f4", external=[(str(folder / "private"), 0, 400)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((100,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "private.h5"), "weights", (100,))
    file.create_virtual_dataset("stolen", layout)


def exabytes(file, folder):
    file.create_dataset("large", (10**9, 10**9), "f4", chunks=(10, 10), compression="gzip")


def texts_of_any_length(file, folder):
    file.create_dataset("words", data=["a", "b"], dtype=h5py.string_dtype())


def deep_groups(file, folder):
    file.create_group("/".join("a" * 100))


def a_circle(file, folder):
    file["layers/again"] = file["layers"]


def ends(text: str) -> str:
    return rf"the entry x .*{text}|{text}"


NETWORKS = {
    "text": (lambda folder: _text(folder, b"nothing"), r"m\.keras isn't a \.keras file"),
    "HDF5, as of old": (lambda folder: _text(folder, b"\x89HDF\r\n\x1a\n"), r"m\.keras isn't a \.keras file"),
    "a lambda": (
        network(with_object(class_name="Lambda")),
        r"the entry x has a Lambda, which would run code from m\.ker",
    ),
    "a lambda's bytecode": (network(with_object(class_name="__lambda__")), r"has a lambda, which would run code"),
    "another framework's module": (network(with_object(class_name="TorchModuleWrapper")), r"has a TorchModuleWrapper"),
    "a SavedModel": (network(with_object(class_name="TFSMLayer")), r"has a TFSMLayer, which would run code"),
    "os.system": (
        network(with_object(module="os", class_name="system")),
        r"needs the class os\.system, which isn't reg",
    ),
    "a function that downloads": (
        network(with_object(module="keras.utils", class_name="get_file")),
        r"names keras\.utils\.get_file, which is no part of a network",
    ),
    "a function that loads": (
        network(with_object(module="keras.saving", class_name="function", config="load_model")),
        r"names keras\.saving\.function, which is no part of a network",
    ),
    "a switch of Keras": (
        network(with_object(module="keras.config", class_name="enable_unsafe_deserialization")),
        r"which is no part of a network",
    ),
    "a class of ours that is no layer": (
        network(with_object(module="end2_tf.stages", class_name="Run")),
        r"can't be opened as a Keras model",
    ),
    "words from a file": (
        network(with_object(class_name="StringLookup", config={"vocabulary": "/etc/passwd"})),
        r"has a StringLookup, which may read other files",
    ),
    "an array of gigabytes": (
        network(with_object(class_name="__numpy__", config={"value": ["a"], "dtype": "U1000000000"})),
        r"has an array that isn't of numbers",
    ),
    "a layer of a petabyte": (
        network(wider),
        r"describes [\d,]{19,} weights, but its model\.weights\.h5 has [\d,]+ numbers",
    ),
    "a config 100,000 lists deep": (network(DEEP.encode()), r"its config\.json can't be read \(it is more than 100"),
    "a config that is none": (network(b"{"), r"its config\.json can't be read \(Expecting property name"),
    "a config that unpacks to gigabytes": (
        network(b" " * 17_000_000, compression=zipfile.ZIP_DEFLATED),
        r"its config\.json unpacks to more than 16 MB",
    ),
    "a config of nothing": (network({}), r"can't be opened as a Keras model"),
    "a class without a name": (network({"class_name": None, "config": {}}), r"can't be opened as a Keras model"),
    "a name that clears the screen": (
        network(with_object(module=CLEAR_SCREEN, class_name=CLEAR_SCREEN)),
        r"needs the class \\x1b\[2J\.\\x1b\[2J",
    ),
    "files beside the weights": (
        network(None, None, ("assets/words.txt", b"a")),
        r"it has assets/words\.txt, which no network needs",
    ),
    "a file outside": (network(None, None, ("assets/../../x", b"a")), r"can't be the name of an entry"),
    "weights that are text": (network(None, lambda *_: b"no weights"), r"has no readable model\.weights\.h5"),
    "weights cut short": (network(None, lambda content, _: content[: len(content) // 2]), r"has no readable model\.w"),
    "a link to another file": (network(None, hdf5(a_link)), r"'stolen' is a link to elsewhere"),
    "a soft link": (network(None, hdf5(a_soft_link)), r"'stolen' is a link to elsewhere"),
    "weights in another file": (network(None, hdf5(external_storage)), r"/stolen is kept in another file"),
    "weights made of another file's": (network(None, hdf5(virtual)), r"/stolen is kept in another file"),
    "weights of exabytes": (
        network(None, hdf5(exabytes)),
        r"/large says it has shape \(1000000000, 1000000000\), more",
    ),
    "weights that are texts": (network(None, hdf5(texts_of_any_length)), r"/words holds object, not numbers"),
    "a hundred groups within each other": (network(None, hdf5(deep_groups)), r"too many groups within each other"),
    "a group within itself": (network(None, hdf5(a_circle)), r"too many groups within each other"),
}


def _text(folder: Path, content: bytes) -> Path:
    (folder / "m.keras").write_bytes(content)
    return folder / "m.keras"


@pytest.mark.parametrize("case", NETWORKS)
def test_networks(refused, case):
    make, message = NETWORKS[case]
    refused(make, lambda path: keras_file.open_model(path, "x"), message)


def test_the_network_that_these_are_made_of_opens(tmp_path):
    model = keras_file.open_model(network()(tmp_path), "x")
    assert np.isfinite(model.predict_measures(np.zeros((1, 2), np.float32))["probs"]).all()


def test_a_refused_network_leaves_nothing_behind(tmp_path):
    path = network(wider)(tmp_path)
    with pytest.raises(ZooError, match="describes"):
        keras_file.open_model(path, "x")
    inputs = keras.Input((1,))
    assert keras.layers.Lambda(lambda x: x + 1)(inputs).shape == (None, 1)  # asks in such a scope for the shape
