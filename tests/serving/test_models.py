"""Versions that come and go, and what labels mean then."""

import asyncio
import shutil

import pytest

from end2_tf.export import savedmodel
from end2_tf.serving import catalogue, models
from end2_tf.serving.catalogue import CANARY, STABLE, Model
from end2_tf.serving.models import Models
from end2_tf.serving.request_error import RequestError
from end2_tf.serving.settings import Settings


class _Servable:
    def __init__(self, name, version, folder):
        self.name, self.version = name, version
        if (folder / "saved_model.pb").read_bytes():
            raise ValueError("nonsense")

    def start(self, *_):
        return self


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    monkeypatch.setattr(models, "Servable", _Servable)


def _export(root, *versions, content=b""):
    for version in versions:
        (root / "net" / str(version)).mkdir(parents=True)
        (root / "net" / str(version) / "saved_model.pb").write_bytes(content)


def _polled(served):
    """Looks for versions; returns those that are loaded, and the version that each label means."""
    asyncio.run(served.poll())
    labels = served.labels("net")
    assert all(served.get("net", label=label).version == version for label, version in labels.items())
    return sorted(each.version for each in served.servables()), labels


def _served(*found):
    return Models(found, Settings(), None, 1)


def test_labels_move_on_with_the_versions_of_a_folder(tmp_path):
    _export(tmp_path, 1)
    served = _served(*catalogue.find(tmp_path))
    assert _polled(served) == ([1], {STABLE: 1})
    with pytest.raises(RequestError, match=r"^Unrecognized servable version label: canary\. Labels: stable\.$"):
        served.get("net", label=CANARY)
    for new in (2, 3, 4):
        _export(tmp_path, new)
        assert _polled(served) == ([new - 1, new], {STABLE: new - 1, CANARY: new})
    shutil.rmtree(tmp_path / "net" / "4")
    assert _polled(served) == ([2, 3], {STABLE: 2, CANARY: 3})


def test_a_version_that_cant_be_loaded_pushes_no_label_on(tmp_path):
    _export(tmp_path, 1)
    served = _served(*catalogue.find(tmp_path))
    _polled(served)
    _export(tmp_path, 2)
    before = _polled(served)
    _export(tmp_path, 3, content=b"nonsense")
    assert _polled(served) == before == ([1, 2], {STABLE: 1, CANARY: 2})
    shutil.rmtree(tmp_path / "net" / "2")
    assert _polled(served) == ([1], {STABLE: 1})
    (tmp_path / "net" / "3" / "saved_model.pb").write_bytes(b"")
    assert _polled(served) == ([1, 3], {STABLE: 1, CANARY: 3})


def test_labels_of_a_list_stay(tmp_path):
    _export(tmp_path, 1, 2)
    served = _served(Model("net", tmp_path / "net", num_latest=2, labels={"old": 1}))
    assert _polled(served) == ([1, 2], {"old": 1})
    _export(tmp_path, 3)
    asyncio.run(served.poll())
    with pytest.raises(RequestError, match=r"^Servable not found for request: Specific\(net, 1\)$"):
        served.get("net", label="old")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"classes": ["a"], "x": NaN}', ["a"]),
        ('{"classes": ["\\ud800"]}', None),
        ('{"classes": ["a"], "size": 36893488147419103232}', None),
    ],
)
def test_metadata_that_the_page_cant_be_told_are_left_out(tmp_path, caplog, text, expected):
    (tmp_path / savedmodel.METADATA).parent.mkdir()
    (tmp_path / savedmodel.METADATA).write_text(text)
    with caplog.at_level("WARNING", "end2_tf.serving"):
        assert models._metadata("net", 3, tmp_path).get("classes") == expected
    said = [record.getMessage() for record in caplog.records]
    assert [each.startswith("net, version 3: served without its metadata") for each in said] == [True] * (not expected)
