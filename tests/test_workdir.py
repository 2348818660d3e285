import json
import multiprocessing
import os

import numpy as np
import pytest

from end2_tf import workdir
from end2_tf.errors import WorkdirError
from end2_tf.workdir import Workdir


def test_artefact_is_complete_only_with_its_manifest(tmp_path):
    artefact = Workdir(tmp_path).artefact("stage", "abc")
    workdir.write_text(artefact.path / "a.txt", "hello")
    assert artefact.manifest() is None
    artefact.finish(seconds=1.0)
    assert artefact.manifest()["seconds"] == 1.0
    assert set(artefact.manifest()["files"]) == {"a.txt"}


@pytest.mark.parametrize("damage", ["alter", "truncate", "remove", "manifest"])
def test_damage_is_noticed(tmp_path, damage):
    artefact = Workdir(tmp_path).artefact("stage", "abc")
    path = workdir.write_npz(artefact.path / "a.npz", x=np.arange(100))
    artefact.finish()
    content = path.read_bytes()
    if damage == "alter":
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "truncate":
        path.write_bytes(content[:-7])
    elif damage == "remove":
        path.unlink()
    else:
        (artefact.path / workdir.MANIFEST).write_text("{")
    again = Workdir(tmp_path).artefact("stage", "abc")
    assert again.manifest() is None
    again.begin()
    assert not path.exists()
    assert not (artefact.path / workdir.MANIFEST).exists()


def test_sound_files_of_an_altered_artefact_stay(tmp_path):
    artefact = Workdir(tmp_path).artefact("stage", "abc")
    for name in ("a.txt", "b.txt"):
        workdir.write_text(artefact.path / name, name)
    artefact.finish()
    (artefact.path / "b.txt").write_text("other")
    Workdir(tmp_path).artefact("stage", "abc").begin()
    assert os.listdir(artefact.path) == ["a.txt"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = workdir.write_text(tmp_path / "a.txt", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkdirError, match=r"No space left on device\. Free some space"):
        workdir.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_full_disk_is_noticed_before_work(tmp_path):
    with pytest.raises(WorkdirError, match=r"MB free, but this run writes about 1,000,000,000,000.0 MB"):
        Workdir(tmp_path).check_writable(10**18)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkdirError, match="--workdir"):
        Workdir(tmp_path / "file" / "run").check_writable()


def _hold(path, ready, release):
    with Workdir(path).lock():
        ready.set()
        release.wait(20)


def test_a_second_run_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, release))
    process.start()
    try:
        assert ready.wait(20)
        with pytest.raises(WorkdirError, match="another run holds the workdir"), Workdir(tmp_path).lock():
            pass
    finally:
        release.set()
        process.join()
    with Workdir(tmp_path).lock():
        pass


def test_weights_digest_sees_values_shapes_and_config():
    a, b = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    digests = {workdir.weights_digest([w], c) for w in (a, b, a + 1) for c in ("x", "y")}
    assert len(digests) == 6


def test_broken_json_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("{")
    with pytest.raises(WorkdirError, match=r"results\.json is no readable JSON"):
        workdir.read_json(path)
    with pytest.raises(WorkdirError, match=r"nothing\.json"):
        workdir.read_json(tmp_path / "nothing.json")
    assert json.loads(workdir.write_json(path, {"a": 1}).read_text()) == {"a": 1}
