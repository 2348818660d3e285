"""A zoo behind a URL: fetched, checked, kept, and used again without the server."""

import hashlib
import http.server
import json
import shutil
import threading
import warnings

import numpy as np
import pytest

from end2_tf import zoo
from end2_tf.errors import ZooError
from end2_tf.zoo import places

ENTRY = "spirals_mlp_end2_aux"


class Server:
    """Serves a folder on this machine; `answers` maps paths to what is sent instead of a file."""

    def __init__(self, folder):
        self.requests, self.answers = [], {}
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=str(folder), **kwargs)

            def do_GET(self):
                outer.requests.append(self.path)
                answer = outer.answers.get(self.path)
                if answer is None:
                    super().do_GET()
                    return
                status, length, body = answer
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(zoo_copy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server(zoo_copy)
    yield running
    running.stop()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def _cached(cache, name="model.keras"):
    return list(cache.glob(f"*/{ENTRY}/{name}"))


def test_a_model_is_fetched_once_and_opens_without_the_server(server, cache):
    model = zoo.load(ENTRY, source=server.url, cache=cache)
    assert server.requests == ["/index.json", f"/{ENTRY}/manifest.json", f"/{ENTRY}/model.keras"]
    server.requests.clear()
    zoo.load(ENTRY, source=f"{server.url}/", cache=cache)
    assert server.requests == ["/index.json"]  # everything else is there
    server.stop()
    with pytest.warns(UserWarning, match=r"index.json can't be fetched.*using the index fetched earlier"):
        again = zoo.load(ENTRY, source=server.url, cache=cache)
    x = np.zeros((3, 2), np.float32)
    np.testing.assert_array_equal(model.predict(x, verbose=0)["probs"], again.predict(x, verbose=0)["probs"])
    with pytest.warns(UserWarning, match="earlier"), pytest.raises(ZooError, match="Check the connection"):
        zoo.load("spirals_mlp_end", source=server.url, cache=cache)  # was never fetched


def test_environment_names_source_and_cache(server, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("END2_TF_ZOO", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert ENTRY in zoo.list()
    assert list((tmp_path / "xdg" / "end2_tf" / "zoo").glob("*/index.json"))
    monkeypatch.setenv("END2_TF_CACHE", str(cache))
    zoo.list()
    assert list(cache.glob("*/index.json"))


def test_no_server_and_no_cache(cache):
    with pytest.raises(ZooError, match=r"index.json can't be fetched .* Check the connection") as error:
        zoo.list(source="http://127.0.0.1:9", cache=cache)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["manifest.json", "model.keras"])
def test_an_altered_file_is_refused_by_name_and_not_kept(server, cache, zoo_copy, file):
    path = zoo_copy / ENTRY / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"{ENTRY}/{file} was altered") as error:
        zoo.load(ENTRY, source=server.url, cache=cache)
    assert hashlib.sha256(content).hexdigest()[:12] in str(error.value)
    assert "Fetch it again" in str(error.value)
    assert not _cached(cache, file)
    assert not list(cache.rglob("tmp*"))


def test_check_fetches_and_checks_every_file(server, cache, zoo_copy):
    zoo.check(ENTRY, source=server.url, cache=cache)
    assert {p.name for p in next(cache.glob(f"*/{ENTRY}")).iterdir()} == {p.name for p in (zoo_copy / ENTRY).iterdir()}
    (zoo_copy / ENTRY / "README.md").write_text("another card")
    zoo.check(ENTRY, source=server.url, cache=cache)  # what was fetched is what was published


def test_a_damaged_cache_is_mended(server, cache):
    zoo.load(ENTRY, source=server.url, cache=cache)
    (path,) = _cached(cache)
    published = path.read_bytes()
    path.write_bytes(published[:-7])
    zoo.load(ENTRY, source=server.url, cache=cache)
    assert path.read_bytes() == published


def test_a_file_that_ends_early_is_refused(server, cache, zoo_copy):
    content = (zoo_copy / ENTRY / "model.keras").read_bytes()
    half = content[: len(content) // 2]
    server.answers[f"/{ENTRY}/model.keras"] = (200, len(content), half)  # the connection breaks
    with pytest.raises(ZooError, match=r"model.keras can't be fetched"):
        zoo.load(ENTRY, source=server.url, cache=cache)
    server.answers[f"/{ENTRY}/model.keras"] = (200, len(half), half)  # it says so itself
    with pytest.raises(ZooError, match=rf"model.keras has {len(half):,} bytes"):
        zoo.load(ENTRY, source=server.url, cache=cache)
    assert not _cached(cache)
    server.answers.clear()
    zoo.load(ENTRY, source=server.url, cache=cache)


def test_a_file_larger_than_declared_is_not_written_out(server, cache, zoo_copy):
    size = (zoo_copy / ENTRY / "model.keras").stat().st_size
    server.answers[f"/{ENTRY}/model.keras"] = (200, size + 1000, b"x" * (size + 1000))
    with pytest.raises(ZooError, match=f"larger than the {size:,} bytes"):
        zoo.load(ENTRY, source=server.url, cache=cache)
    server.answers["/index.json"] = (200, 2_000_000, b" " * 2_000_000)
    with pytest.raises(ZooError, match=r"index.json is larger than the 1,000,000 bytes"):
        zoo.list(source=server.url, cache=cache)


def test_a_missing_file(server, cache, zoo_copy):
    (zoo_copy / ENTRY / "model.keras").unlink()
    with pytest.raises(ZooError, match=r"model.keras can't be fetched \(HTTP status 404\)"):
        zoo.load(ENTRY, source=server.url, cache=cache)


def test_a_bad_index_never_replaces_a_good_one(server, cache):
    zoo.list(source=server.url, cache=cache)
    server.answers["/index.json"] = (200, 5, b"<html")
    with pytest.raises(ZooError, match="is no index of a zoo"):
        zoo.list(source=server.url, cache=cache)
    server.answers["/index.json"] = (503, 4, b"busy")
    with pytest.warns(UserWarning, match="HTTP status 503"):
        assert ENTRY in zoo.list(source=server.url, cache=cache)


def test_a_manifest_cannot_write_outside_the_cache(server, cache, zoo_copy):
    evil = b"owned"
    (zoo_copy / "evil.txt").write_bytes(evil)
    manifest = json.loads((zoo_copy / ENTRY / "manifest.json").read_text())
    manifest["files"]["../../../evil.txt"] = {"sha256": hashlib.sha256(evil).hexdigest(), "bytes": len(evil)}
    text = json.dumps(manifest).encode()
    (zoo_copy / ENTRY / "manifest.json").write_bytes(text)
    index = json.loads((zoo_copy / "index.json").read_text())
    index["entries"][ENTRY]["manifest"] = hashlib.sha256(text).hexdigest()
    (zoo_copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(ZooError, match="only names inside its folder"):
        zoo.check(ENTRY, source=server.url, cache=cache)
    assert not list(cache.parent.rglob("evil.txt")) or list(cache.parent.rglob("evil.txt")) == [zoo_copy / "evil.txt"]


@pytest.mark.parametrize("more", [-1, 1])
def test_a_manifest_of_another_size_than_the_index_says_is_refused(server, cache, zoo_copy, more):
    index = json.loads((zoo_copy / "index.json").read_text())
    index["entries"][ENTRY]["bytes"] += more
    (zoo_copy / "index.json").write_text(json.dumps(index))
    server.requests.clear()
    for source in (server.url, zoo_copy):
        with pytest.raises(ZooError, match=r"manifest.json lists [\d,]+ bytes with its own, but the index [\d,]+\."):
            zoo.load(ENTRY, source=source, cache=cache)
    assert server.requests == ["/index.json", f"/{ENTRY}/manifest.json"]  # no file was asked for


@pytest.mark.parametrize("url", ["http://", "https:///zoo", "HTTP://"])
def test_a_url_without_a_host_is_refused(url, cache):
    with pytest.raises(ZooError, match="begins with http or https, then a host"):
        zoo.list(source=url, cache=cache)


def test_two_urls_do_not_share_files(server, cache, zoo_copy, tmp_path):
    other = Server(shutil.copytree(zoo_copy, tmp_path / "other"))
    zoo.load(ENTRY, source=server.url, cache=cache)
    zoo.load(ENTRY, source=other.url, cache=cache)
    other.stop()
    assert len(_cached(cache)) == 2


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="Set END2_TF_CACHE"):
        zoo.list(source=server.url, cache=tmp_path / "file" / "cache")


def test_a_folder_makes_no_requests(zoo_dir, monkeypatch):
    def refuse(*args):
        raise AssertionError("a folder needs no download")

    monkeypatch.setattr(places, "_download", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        zoo.check(ENTRY, source=zoo_dir)
