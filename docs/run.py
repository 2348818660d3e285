"""Runs the code of a page, block by block, as a reader would who copies all of it.

    python docs/run.py docs/start.md

It runs in a new folder with the package and the zoo in it. The Python blocks of a page share their names;
shell blocks are bash's. A block with a file's name as its title is written to that file. A block of `text` is what the
one before it prints; numbers may differ by a twentieth. A comment on the line above a block changes how it runs:

    <!-- not run: why -->          left out: it needs a GPU, a cluster or the network
    <!-- runs with: --smoke -->    these flags are added to each of its commands: --smoke or --describe, and any --set
    <!-- runs beside the rest -->  a server, which goes on until the page's end, at free ports
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pages

BESIDE = "runs beside the rest"
NOT_RUN = "not run: "
WITH = "runs with: "
PORTS = ("8501", "8500")  # as pages have them: REST, gRPC
TOLERANCE = 0.05
_SECONDS = 900  # for a block, and for a server to be ready
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


class PageError(Exception):
    """A block failed, or printed something else than the page says."""


def run(page: Path, folder: Path) -> int:
    """Runs a page's blocks in an empty folder, and returns how many ran.

    Raises:
        PageError: with the block, and what it said.
    """
    text = pages.expanded(page.read_text(encoding="utf-8"), page.resolve().relative_to(pages.ROOT).as_posix())
    _furnish(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    servers: list[subprocess.Popen[bytes]] = []
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    printed, count = "", 0
    with contextlib.chdir(folder):
        sys.path.insert(0, str(folder))  # before the installed package
        try:
            for block in pages.blocks(text):
                if block.language == "text":
                    _compare(printed, block.code)
                    continue
                if block.said.startswith(NOT_RUN):
                    continue
                count += 1
                printed = ""
                if block.file:
                    Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                    Path(block.file).write_text(block.code, encoding="utf-8")
                elif block.language == "python":
                    printed = _python(_at(block.code, ports), names, page)
                elif block.said == BESIDE:
                    servers.append(_serve(block.code, ports))
                elif block.language == "sh":
                    printed = _shell(block, ports)
                else:
                    raise PageError(f"{page.name} has a block of {block.language!r}. Allowed: python, sh, text.")
        finally:
            sys.path.remove(str(folder))
            for server in servers:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()
    return count


def _furnish(folder: Path) -> None:
    """Puts into a folder what pages take for granted; the package as a copy, since pages add files to it."""
    shutil.copytree(pages.ROOT / "end2_tf", folder / "end2_tf")
    shutil.copy(pages.ROOT / "main.py", folder)
    (folder / "zoo").symlink_to(pages.ROOT / "zoo")


def _python(code: str, names: dict[str, Any], page: Path) -> str:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(code, page.name, "exec"), names)  # the point is to run what readers copy
    except Exception as error:
        raise PageError(f"{page.name}: {type(error).__name__}: {error}\nin\n{code}") from error
    return said.getvalue()


def _environment() -> dict[str, str]:
    # `python` is the one that runs this, and imports the folder's package.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.getcwd()}


def _shell(block: pages.Block, ports: dict[str, str]) -> str:
    code = _at(block.code, ports)
    if block.said.startswith(WITH):
        flags = block.said.removeprefix(WITH)
        joined = code.replace("\\\n", " ")
        code = re.sub(r"^(python main\.py [^#\n]*?)(\s*(?:#.*)?)$", rf"\1 {flags}\2", joined, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise PageError(f"exit code {done.returncode} of\n{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _serve(code: str, ports: dict[str, str]) -> subprocess.Popen[bytes]:
    rest, rpc = ports.values()
    command = re.sub(r"\s*(#.*)?$", "", code.strip()) + f" --port={rest} --grpc_port={rpc}"
    log = Path("server.log")
    with log.open("wb") as file:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], env=_environment(), stdout=file, stderr=file, start_new_session=True
        )
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{rest}/healthz", timeout=5)
            return server
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    raise PageError(f"no server at\n{command}\n{log.read_text(errors='replace')[-4000:]}")


def _at(code: str, ports: dict[str, str]) -> str:
    for usual, free in ports.items():
        code = code.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{free}")
    return code


def _free_ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(each.getsockname()[1]) for each in sockets]


def _compare(printed: str, shown: str) -> None:
    same = _NUMBER.sub("#", " ".join(printed.split())) == _NUMBER.sub("#", " ".join(shown.split()))
    numbers = ([float(n.replace(",", "")) for n in _NUMBER.findall(text)] for text in (printed, shown))
    if not same or any(abs(a - b) > TOLERANCE * max(abs(a), abs(b)) for a, b in zip(*numbers, strict=True)):
        raise PageError(f"the page shows\n{shown}\nbut its code prints\n{printed}")


def main(page: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        count = run(Path(page), Path(folder))
    print(f"{page}: {count} block{'' if count == 1 else 's'} ran")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except PageError as error:
        sys.exit(str(error))
