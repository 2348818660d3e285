"""Names, sizes and digests, as a stranger's server might send them."""

import hashlib
import json

import pytest

from end2_tf.errors import ZooError
from end2_tf.zoo import manifest
from end2_tf.zoo.manifest import Index, Manifest

DIGEST = "0" * 64


def _manifest(**changes):
    value = {"format": 1, "entry": "a_b_c", "files": {"model.keras": {"sha256": DIGEST, "bytes": 3}}, **changes}
    return json.dumps(value).encode()


def test_a_manifest_and_its_nested_files():
    files = {name: {"sha256": DIGEST, "bytes": 3} for name in ("model.keras", "1/saved_model.pb", "1/variables/v.x-1")}
    found = manifest.parse(Manifest, _manifest(files=files), "here")
    assert set(found.files) == set(files)
    assert found.files["1/saved_model.pb"].bytes == 3


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../model.keras",
        "a/../../model.keras",
        "a/..",
        "a//b",
        "a/",
        "",
        ".",
        ".hidden",
        "a/.hidden",
        "a\\b",
        "C:model.keras",
        "model\n.keras",
        "model.keras\n",
        "manifest.json",
        "x" * 300,
        "/".join("abcdefghijk"),
    ],
)
def test_files_outside_the_folder_are_refused(name):
    with pytest.raises(ZooError, match="only names inside its folder") as error:
        manifest.parse(Manifest, _manifest(files={name: {"sha256": DIGEST, "bytes": 3}}), "here")
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("name", ["../zoo", "a/b", "", ".a", "a b", "-rf", "a\n"])
def test_entries_outside_the_zoo_are_refused(name):
    record = {"manifest": DIGEST, "bytes": 3, "kind": "student"}
    with pytest.raises(ZooError, match="can't be the name of an entry"):
        manifest.parse(Index, json.dumps({"format": 1, "entries": {name: record}}).encode(), "here")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"not json", "JSON"),
        (b"[]", "manifest"),
        (b"{}", "entry"),
        (_manifest(files={"a": {"sha256": "xyz", "bytes": 3}}), "sha256"),
        (_manifest(files={"a": {"sha256": DIGEST, "bytes": -1}}), "bytes"),
        (_manifest(files={"a": {"sha256": DIGEST, "bytes": 10**12}}), "bytes"),
        (_manifest(files={"a": {"bytes": 3}}), "sha256"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(content, place):
    with pytest.raises(ZooError, match="here is no manifest of a zoo") as error:
        manifest.parse(Manifest, content, "here")
    assert place in str(error.value)
    assert "\n" not in str(error.value)


def test_a_later_format_is_told_first():
    with pytest.raises(ZooError, match="format 7"):
        manifest.parse(Manifest, b'{"format": 7, "files": 3}', "here")


METADATA = {
    "entry": "a_b_c",
    "group": "a_b",
    "kind": "student",
    "summary": "s",
    "input": {"shape": [2]},
    "classes": ["x", "y"],
}


def test_sealing_covers_every_file_below_the_entry(tmp_path):
    folder = tmp_path / "a_b_c"
    (folder / "1" / "variables").mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(METADATA))
    (folder / "1" / "saved_model.pb").write_bytes(b"graph")
    (folder / "1" / "variables" / "v").write_bytes(b"weights")
    (folder / ".scratch").write_bytes(b"not published")
    record = manifest.seal(folder, "a_b_c")
    found = json.loads((folder / "manifest.json").read_text())
    assert set(found["files"]) == {"metadata.json", "1/saved_model.pb", "1/variables/v"}
    assert found["files"]["1/saved_model.pb"] == {"bytes": 5, "sha256": _sha256(b"graph")}
    assert record.bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != ".scratch")
    assert record.manifest == _sha256((folder / "manifest.json").read_bytes())


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_links_and_odd_names_cannot_be_sealed(tmp_path):
    (tmp_path / "metadata.json").write_text('{"kind": "student", "summary": "s"}')
    (tmp_path / "odd\\name").write_text("x")
    with pytest.raises(ZooError, match="Rename it"):
        manifest.seal(tmp_path, "a")
    (tmp_path / "odd\\name").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "metadata.json")
    with pytest.raises(ZooError, match="is a link"):
        manifest.seal(tmp_path, "a")
