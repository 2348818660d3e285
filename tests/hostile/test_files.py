"""Arrays, JSON, images, folders, configs and workdirs from strangers: input → reader → what is said."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from end2_tf import config, distribution, registry, workdir
from end2_tf.compare import runs
from end2_tf.data import checks, image_folder
from end2_tf.data.sources import tfds, tiny_imagenet
from end2_tf.errors import WorkdirError
from end2_tf.reading import archives, npz, texts
from end2_tf.report.inputs import Evaluation

DEEP = "[" * 100_000 + "]" * 100_000
TO_THE_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"
CLEAR_SCREEN = "\x1b[2J"


class Bomb:
    """Whoever unpickles it makes a folder called "ran"."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


# Arrays


def header(shape="(3,)", descr="'<f4'", extra="", version=(1, 0)) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {extra}}}\n".encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text


def archive(content: bytes, name="x.npy", change=lambda entry: None, **how):
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.npz", "w", **how) as file:
            file.writestr(name, content)
            change(file.filelist[0])
        return folder / "a.npz"

    return make


def array(content: bytes):
    return written("x.npy", content)


def written(name: str, content: bytes | str):
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()], object), allow_pickle=True)
    return stream.getvalue()


def cut(make, share=0.5):
    def made(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return path

    return made


def changed(make, before: bytes, after: bytes):
    def made(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        assert before in content
        path.write_bytes(content.replace(before, after, 1))
        return path

    return made


def twice(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as file:
        file.writestr("x.npy", SOUND)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x.npy", SOUND)
    return folder / "a.npz"


def attribute(**values):
    def change(entry: zipfile.ZipInfo) -> None:
        for name, value in values.items():
            setattr(entry, name, value)

    return change


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.npz")
    return folder / "a.npz"


SOUND = header() + bytes(12)
EXABYTE = header(f"({10**18},)", "'|u1'")

ARRAYS = {
    "text": (written("a.npz", "no archive"), r"isn't an \.npz file, or only part of one \(File is not a zip file\)"),
    "empty": (written("a.npz", b""), r"isn't an \.npz file"),
    "cut short": (cut(archive(SOUND)), r"isn't an \.npz file, or only part"),
    "missing": (lambda folder: folder / "a.npz", r"a\.npz is missing\. Write it anew"),
    "a folder": (lambda folder: folder, r"is no plain file"),
    "a pipe, which never ends": (pipe, r"is no plain file"),
    "a pickle": (archive(pickled()), r"x holds Python objects, which can run code when read"),
    "a pickle alone": (archive(pickle.dumps(Bomb())), r"x has no readable header"),
    "a shape larger than the bytes": (archive(header("(10**9,)") + bytes(12)), r"x has no readable header"),
    "a larger shape": (archive(header("(4000000000,)") + bytes(12)), r"shape \(4000000000,\) of float32, but 12 bytes"),
    "a shape beyond 64 bits": (archive(header(f"({10**30}, {10**30})") + bytes(12)), r"but 12 bytes follow"),
    "a negative shape": (archive(header("(-3, -1)") + bytes(12)), r"shape \(-3, -1\) of float32, but 12 bytes"),
    "a hundred dimensions": (archive(header(str((1,) * 100)) + bytes(4)), r"but 4 bytes follow|no readable header"),
    "an exabyte of one byte": (
        archive(EXABYTE, change=attribute(file_size=10**18 + len(EXABYTE)), compression=zipfile.ZIP_DEFLATED),
        r"needs 1,000,000,000\.0 GB of memory; .* are left",
    ),
    "a header of code": (archive(header("__import__('os').mkdir('ran')")), r"x has no readable header"),
    "a header of brackets": (archive(header("(" * 5_000 + ")" * 5_000)), r"x has no readable header"),
    "a header of megabytes": (archive(header(extra=" " * 5_000_000, version=(2, 0))), r"x has no readable header"),
    "a header that never ends": (archive(header()[:10] + b"{[" + header()[12:]), r"x has no readable header"),
    "a header that unpacks to gigabytes": (
        archive(b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(200_000_000), compression=zipfile.ZIP_DEFLATED),
        r"x has no readable header",
    ),
    "a header of another key": (archive(header(extra="'more': 1")), r"x has no readable header"),
    "a later version": (archive(header(version=(9, 9))), r"x has no readable header"),
    "a dtype of gigabytes": (archive(header("(0,)", "'<U500000000'")), r"x has values of <U500000000\. Allowed"),
    "a dtype of fields": (archive(header("(0,)", "[('a', '<f4')]")), r"Allowed: plain numbers and short texts"),
    "a dtype of nothing": (archive(header("(3,)", "'|V0'")), r"x has values of \|V0|no readable header"),
    "values with a wrong checksum": (
        changed(archive(header("(30000,)") + b"sound values" * 10_000), b"sound values", b"other values"),
        r"x is damaged \(Bad CRC-32",
    ),
    "an encrypted entry": (archive(SOUND, change=attribute(flag_bits=1)), r"'x\.npy' is encrypted"),
    "another compression": (
        archive(SOUND, compression=zipfile.ZIP_LZMA),
        r"compressed in the way 14, which isn't read",
    ),
    "a link": (archive(SOUND, change=attribute(external_attr=0o120777 << 16)), r"'x\.npy' is a link"),
    "a name outside": (archive(SOUND, name="../x.npy"), r"'\.\./x\.npy' can't be the name of an entry"),
    "a name from the root": (archive(SOUND, name="/etc/x.npy"), r"'/etc/x\.npy' can't be the name"),
    "a name with a drive": (archive(SOUND, name="C:\\x.npy"), r"can't be the name of an entry"),
    "a name that clears the screen": (
        archive(SOUND, name=f"{CLEAR_SCREEN}.npy"),
        r"'\\x1b\[2J\.npy' can't be the name",
    ),
    "a name twice": (twice, r"it has 'x\.npy' twice"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_archives_of_arrays(refused, monkeypatch, tmp_path, case):
    make, message = ARRAYS[case]
    monkeypatch.chdir(tmp_path)
    refused(make, lambda path: npz.read(path, npz.names(path)), message)
    assert not (tmp_path / "ran").exists()


def test_an_archive_of_too_many_entries(refused, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 0)
    refused(archive(SOUND), npz.names, r"it has 1 entries, and at most 0 are allowed")


PLAIN_ARRAYS = {
    "text": (array(b"no array"), r"x\.npy has no readable header"),
    "a shape larger than the bytes": (array(header("(4000000000,)") + bytes(12)), r"but 12 bytes follow"),
    "a pickle": (array(pickled()), r"holds Python objects"),
    "a pickle alone": (array(pickle.dumps(Bomb())), r"no readable header"),
    "an archive": (lambda folder: archive(SOUND)(folder).rename(folder / "x.npy"), r"no readable header"),
    "cut short": (array(SOUND[:-1]), r"but 11 bytes follow"),
    "missing": (lambda folder: folder / "x.npy", r"x\.npy is missing"),
}


@pytest.mark.parametrize("read", [npz.mapped, npz.array])
@pytest.mark.parametrize("case", PLAIN_ARRAYS)
def test_arrays(refused, monkeypatch, tmp_path, case, read):
    make, message = PLAIN_ARRAYS[case]
    monkeypatch.chdir(tmp_path)
    refused(make, read, message)
    assert not (tmp_path / "ran").exists()


# Text and JSON

JSON = {
    "100,000 lists within each other": (written("a.json", DEEP), r"a\.json is no readable JSON \(it is more than 100"),
    "101 lists within each other": (written("a.json", "[" * 101 + "]" * 101), r"more than 100 levels deep"),
    "a number of 100,000 digits": (written("a.json", "9" * 100_000), r"no readable JSON \(Exceeds the limit"),
    "no UTF-8": (written("a.json", b'"\xff"'), r"is no text in UTF-8 \(invalid start byte at byte 1\)"),
    "cut short": (written("a.json", '{"a": '), r"no readable JSON \(Expecting value: line 1 column 7"),
    "a list": (written("a.json", "[]"), r"a\.json holds a list, not an object"),
    "more than is read": (written("a.json", " " * 32_000_001), r"has more than 32,000,000 bytes, so it isn't read"),
    "a device, which never ends": (lambda folder: Path("/dev/zero"), r"/dev/zero is no plain file"),
    "a name with a NUL": (lambda folder: folder / "a\0b", r"a\\x00b (can't be read|is missing)"),
    "a name that clears the screen": (lambda folder: folder / CLEAR_SCREEN, r"\\x1b\[2J is missing"),
}


@pytest.mark.parametrize("case", JSON)
def test_json(refused, case):
    make, message = JSON[case]
    refused(make, lambda path: texts.read_object(path, WorkdirError, "Do this."), rf"{message}.*Do this\.$")


CLASSES = {
    "two lines": (
        ("cat", "dog\nerror: all is well"),
        r"class 1 is 'dog\\nerror: all is well', which can't be a name",
    ),
    "a text that turns round": (("cat", f"{TO_THE_LEFT}gpj.exe"), r"class 1 is '\\u202egpj\.exe', which can't be"),
    "one that clears the screen": (("cat", CLEAR_SCREEN), r"class 1 is '\\x1b\[2J', which can't be a name"),
    "a megabyte": (("cat", "x" * 1_000_000), r"class 1 is 'x+ … x+', which can't be a name: allowed are up to 200"),
    "nothing": (("cat", " "), r"class 1 is ' ', which can't be a name"),
    "the same twice": (("cat", "dog", "cat"), r"two classes of the name 'cat'"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_names_of_classes(refused, case):
    names, message = CLASSES[case]
    refused(lambda folder: names, lambda names: checks.check_class_names(names, "set"), message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("-1.5", "-1.5"),
        ("a\r\n=1", "a\\r\\n=1"),
        (CLEAR_SCREEN, "\\x1b[2J"),
        ("café №7", "café №7"),
    ],
)
def test_cells_of_tables_are_text(text, shown):
    assert texts.cell(text) == shown


# Images


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, pixels: bytes = b"\0\0\0\0") -> bytes:
    first = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    last = (*more, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + first + b"".join(last)


def encoded(kind: str, mode="RGB", size=(4, 4)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    return stream.getvalue()


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile showpage\n"
GIF = bytearray(encoded("GIF", "L"))
GIF[6:10] = struct.pack("<HH", 65_535, 65_535)
BMP = bytearray(encoded("BMP"))
BMP[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)

IMAGES = {
    "a PNG of 10 GB": (
        png(60_000, 60_000),
        r"a\.png says it has more than 67,108,864 pixels, the most that are read\. Reduce it",
    ),
    "a PNG of 80 megapixels": (png(10_000, 8_000), r"says it has more than 67,108,864 pixels, the most that are read"),
    "a PNG of exabytes": (png(2**31 - 1, 2**31 - 1), r"says it has more than 67,108,864 pixels"),
    "a PNG of no width": (png(0, 5), r"can't be read as an image"),
    "a PNG cut short": (encoded("PNG", size=(64, 64))[:60], r"can't be read as an image"),
    "a PNG of no pixels": (png(64, 64), r"can't be read as an image"),
    "a PNG with a text of gigabytes": (
        png(1, 1, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))),
        r"can't be read as an image \(Decompressed data too large",
    ),
    "a PNG of 16 bits": (encoded("PNG", "I;16"), r"has more than 8 bits a channel"),
    "a GIF of 4 gigapixels": (bytes(GIF), r"says it has more than 67,108,864 pixels"),
    "a BMP of exabytes": (bytes(BMP), r"says it has more than 67,108,864 pixels|can't be read"),
    "a program for Ghostscript": (POSTSCRIPT.encode(), r"can't be read as an image \(cannot identify image file"),
    "text": (b"no image", r"can't be read as an image \(cannot identify image file"),
    "nothing": (b"", r"can't be read as an image"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(refused, case):
    content, message = IMAGES[case]
    make = written("a.png", content)
    refused(make, lambda path: image_folder.decode([image_folder.Folder(path.parent, ((path, 0),))], None), message)


def linked(to: str, name="a.png"):
    def make(folder: Path) -> Path:
        root = folder / "images"
        (root / "cats").mkdir(parents=True)
        (folder / "private").mkdir()
        (folder / "private" / "a.png").write_bytes(encoded("PNG"))
        os.symlink(to, root / name)
        return root

    return make


FOLDERS = {
    "a link to a file outside": (linked("../private/a.png"), r"images/a\.png is a link to .*private/a\.png, outside"),
    "a link from the root": (linked("/etc/hosts"), r"images/a\.png is a link to /etc/hosts, outside"),
    "a link to a folder outside": (linked("../private", "dogs"), r"images/dogs is a link to .*private, outside"),
    "a link deeper down": (linked("../../private", "cats/more"), r"cats/more is a link to .*private, outside"),
    "a link to itself": (linked("a.png"), r"images/a\.png is a link that leads nowhere"),
    "a link to nothing": (linked("nothing.png"), r"images/a\.png is a link that leads nowhere"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_links_in_a_folder_of_images(refused, case):
    make, message = FOLDERS[case]
    refused(make, image_folder.images_in, message)


def test_links_of_class_folders(refused):
    refused(linked("../private", "dogs"), image_folder.subfolders, r"images/dogs is a link to .*private, outside")


def test_links_within_a_folder_count_as_what_they_lead_to(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.png").write_bytes(encoded("PNG"))
    os.symlink("a/one.png", tmp_path / "two.png")
    os.symlink("..", tmp_path / "a" / "circle")
    os.mkfifo(tmp_path / "pipe.png")
    assert [path.name for path in image_folder.images_in(tmp_path)] == ["one.png", "two.png"]


# Data sets


def tiny(folder: Path, wnids="n01443537 n01629819", annotations="val_0.JPEG\tn01443537\t0\t0\t1\t1\n") -> Path:
    for name in ("train", "val/images"):
        (folder / name).mkdir(parents=True)
    (folder / "wnids.txt").write_text(wnids)
    (folder / "words.txt").write_text("n01443537\tgoldfish\n")
    (folder / "val" / "val_annotations.txt").write_text(annotations)
    return folder


def load_tiny(folder: Path):
    return tiny_imagenet.load(path=str(folder), data_dir=None, download=False, wanted=("test",))


TINY = {
    "a class outside": (
        {"wnids": "n01443537 ../../etc"},
        r"wnids\.txt has '\.\./\.\./etc', which is no class's number",
    ),
    "an image outside": (
        {"annotations": "../../../a.png\tn01443537\n"},
        r"val_annotations\.txt, line 1, is '\.\./\.\.",
    ),
    "an image from the root": ({"annotations": "/etc/a.png\tn01443537\n"}, r"val_annotations\.txt, line 1"),
    "a line of a megabyte": ({"annotations": "x" * 1_000_000}, r"val_annotations\.txt, line 1, is 'x{100}'\. Allowed"),
}


@pytest.mark.parametrize("case", TINY)
def test_tiny_imagenet(refused, case):
    values, message = TINY[case]
    refused(lambda folder: tiny(folder, **values), load_tiny, message)


def described(value) -> str:
    return json.dumps({"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "f": value})


FEATURES = {
    "a class of another module": (
        described([{"pythonClassName": "antigravity.Image"}]),
        r"names the class antigravity",
    ),
    "a class in the old way": (described({"type": "os.system", "content": {}}), r"names the class os\.system, which"),
    "more classes than examples": (
        described({"classLabel": {"numClasses": "9" * 50}}),
        r"features\.json has 9{50} class",
    ),
    "100,000 lists within each other": (DEEP, r"features\.json is no readable JSON \(it is more than 100 levels"),
}


@pytest.mark.parametrize("case", FEATURES)
def test_descriptions_of_tfds_sets(refused, case):
    text, message = FEATURES[case]
    refused(written("features.json", text), lambda path: tfds._check_features(path.parent), message)


# Configs


def change(*assignments: str):
    return lambda _: config.override(registry.experiments()["spirals_mlp_end2"], list(assignments))


def methods(name: str) -> str:
    return f"methods={json.dumps({name: {'loss': 'dirichlet_nll'}})}"


CONFIGS = {
    "100,000 lists within each other": (f"student.epochs={DEEP}", r"--set has a value that can't be read \(it is more"),
    "a number of 100,000 digits": (
        f"student.epochs={'9' * 100_000}",
        r"--set has a value that can't be read \(Exceeds",
    ),
    "NaN": ("student.optimizer.learning_rate=NaN", r"student\.optimizer\.learning_rate is nan\. Allowed: a finite"),
    "Infinity": ("student.optimizer.learning_rate=Infinity", r"learning_rate is inf\. Allowed: a finite number"),
    "a number that overflows": ("student.optimizer.learning_rate=1e999", r"learning_rate is inf\. Allowed: a finite"),
    "a name outside the workdir": (
        methods("../../x"),
        r"methods has '\.\./\.\./x', which can't be the name of a method",
    ),
    "a name from the root": (methods("/etc/x"), r"methods has '/etc/x', which can't be the name"),
    "a hidden name": (methods("..x"), r"methods has '\.\.x', which can't be the name"),
    "a name of two lines": (methods("a\nb"), r"methods has 'a\\nb', which can't be the name"),
    "a name that is a formula": (
        'data.ood={"=1+1": {"name": "noise"}}',
        r"data\.ood has '=1\+1', which can't be the name of an OOD set",
    ),
    "a name of a megabyte": (methods("x" * 1_000_000), r"methods has 'x{100}', which can't be the name"),
    "no field": ("student.__class__=1", r"'student\.__class__' is no field"),
    "a loss that is a path": (
        "methods.end2.loss=../../evil",
        r"methods\.end2\.loss is '\.\./\.\./evil', which isn't a",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configs(refused, case):
    assignment, message = CONFIGS[case]
    refused(lambda folder: None, change(assignment), message)


@pytest.mark.parametrize("text", [DEEP, "[]", '{"cluster": 3}', "\x1b[2J", '{"cluster": {"worker": 7}}'])
def test_tf_config(refused, monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    refused(lambda folder: None, lambda _: distribution.num_workers(), r"^TF_CONFIG is .*Allowed: JSON with a cluster")


# Workdirs


def row(**values) -> dict:
    return {"model": "end2", "dataset": "test", "metric": "error", "value": 0.1, "sd": None, "n": 1} | values


def results(text: str | None = None, **values):
    content = {"experiment": "x", "rows": [row()]} | values
    return written("results.json", json.dumps(content) if text is None else text)


RESULTS = {
    "100,000 lists within each other": (results(DEEP), r"results\.json is no readable JSON \(it is more than 100"),
    "a list": (results("[]"), r"results\.json holds a list, not an object"),
    "rows that are none": (results(rows={"model": 1}), r"has no list 'rows'"),
    "a model outside the folder": (results(rows=[row(model="../../x")]), r"rows\.0\.model: it is '\.\./\.\./x', which"),
    "a set that clears the screen": (
        results(rows=[row(dataset=CLEAR_SCREEN)]),
        r"rows\.0\.dataset: it is '\\x1b\[2J'",
    ),
    "a metric that is a list": (results(rows=[row(metric=["error"])]), r"rows\.0\.metric: Input should be a valid str"),
    "a value that is text": (results(rows=[row(value="<b>")]), r"rows\.0\.value: Input should be a valid number"),
    "severities of nothing": (results(severities={"a": 3}), r"severities\.a: Input should be a valid tuple"),
    "a class of two lines": (results(class_names=["a\nb"]), r"class_names\.0: it is 'a\\nb', which can't be a name"),
    "more bins than examples": (results(num_bins=10**12), r"num_bins: Input should be less than or equal to 10000"),
}


@pytest.mark.parametrize("case", RESULTS)
def test_results_of_a_run(refused, case):
    make, message = RESULTS[case]
    refused(make, lambda path: Evaluation(path.parent), message)


def histories(text: str):
    def make(folder: Path) -> Path:
        results()(folder)
        (folder / "history").mkdir()
        written("history/end2.csv", text)(folder)
        return folder

    return make


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1," + "9" * 200_000, r"end2\.csv has a cell that is no number \(field larger than"),
        ("epoch,loss\n1,=1+1\n", r"has a cell that is no number"),
        ("epoch,loss\n1,2,3,4\n", r"has a cell that is no number"),
    ],
)
def test_histories_of_a_run(refused, text, message):
    refused(histories(text), lambda folder: Evaluation(folder).history("end2"), message)


def test_a_run_to_compare_that_has_nothing_but_a_page(refused):
    refused(results(), lambda path: runs.Finished(path.parent), r"is of no evaluation in")


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "[]",
        '{"files": []}',
        '{"files": {"a": 3}}',
        '{"files": {"../secret": {"bytes": 3, "sha256": ""}}}',
        '{"files": {"/etc/hosts": {}}}',
        '{"files": {"a\\u0000b": {}}}',
        '{"files": {"a": {"bytes": 1}}}',
    ],
)
def test_a_manifest_that_no_stage_wrote_is_as_good_as_none(tmp_path, text):
    (tmp_path / "secret").write_text("abc")
    artefact = workdir.Artefact(tmp_path, "student", "d")
    artefact.path.mkdir(parents=True)
    (artefact.path / workdir.MANIFEST).write_text(text)
    (artefact.path / "a").write_text("b")
    assert artefact.manifest() is None
    artefact.begin()
    assert (tmp_path / "secret").read_text() == "abc"
    assert not (artefact.path / "a").exists()
