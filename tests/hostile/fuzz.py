"""Fuzzes every reader for a while each: `make fuzz`, or `python tests/hostile/fuzz.py --seconds=20 [READER …]`.

A reader is a file `fuzz_<reader>.py` beside this one: `SEEDS`, inputs that are sound, `INSTRUMENT`, the modules whose
branches guide the search, and `read(content, folder)`. Whatever bytes it is given, it may refuse them, with one line of
ours; any other exception, more than 2 GB, or an input that takes a minute is a finding. Each reader has a process of
its own. What is found is left in a folder, and belongs in the corpus, `test_*.py`, with its message.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIMITS = ("-timeout=60", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1")


def main() -> int:
    readers = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each reader")
    parser.add_argument("--findings", type=Path, default=Path("fuzz_findings"), help="folder of what is found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("readers", nargs="*", default=readers, help=f"of {', '.join(readers)}; all by default")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.readers if name not in readers]:
        parser.error(f"{unknown[0]!r} is no reader. Readers: {', '.join(readers)}.")
    if arguments.child:
        fuzz(arguments.readers[0], arguments.seconds, arguments.findings)
    return 0 if all([run(name, arguments.seconds, arguments.findings) for name in arguments.readers]) else 1


def run(name: str, seconds: int, findings: Path) -> bool:
    """Fuzzes one reader in a process of its own; prints a line, and what was found."""
    findings.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--child", f"--seconds={seconds}", f"--findings={findings.resolve()}", name]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    log = done.stdout + done.stderr
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
    covered = re.findall(r"cov: (\d+)", log)
    is_sound = done.returncode == 0 and tried is not None
    print(
        f"{name:<12} {int(tried[1]) if tried else 0:>9,} inputs, {covered[-1] if covered else 0:>5} branches, "
        f"{time.monotonic() - started:5.0f} s: {'nothing found' if is_sound else 'FOUND, see below'}",
        flush=True,
    )
    if not is_sound:
        print("\n".join(log.splitlines()[-60:]), flush=True)
    return is_sound


def fuzz(name: str, seconds: int, findings: Path) -> None:
    """Fuzzes one reader in this process, and ends it."""
    import atheris

    path = HERE / f"fuzz_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    reader: Any = importlib.util.module_from_spec(spec)
    wanted = re.search(r"^INSTRUMENT = \[(.*?)\]", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert wanted is not None
    with atheris.instrument_imports(include=re.findall(r'"(.*?)"', wanted[1])):
        spec.loader.exec_module(reader)
    from end2_tf.errors import End2Error

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        folder = Path(temporary)
        seeds = folder / "seeds"
        seeds.mkdir()
        for number, content in enumerate(reader.SEEDS):
            (seeds / str(number)).write_bytes(content)

        def one(content: bytes) -> None:
            try:
                reader.read(content, folder)
            except (End2Error, *getattr(reader, "REFUSALS", ())) as error:
                if not str(error).isprintable():
                    raise AssertionError(f"more than one plain line: {error!r}") from error

        limits = (*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={findings}/{name}-")
        atheris.Setup([sys.argv[0], *limits, str(seeds)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
