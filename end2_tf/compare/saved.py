"""A page's comparisons as a file, so that the next page needs the workdirs of new runs only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from end2_tf import workdir
from end2_tf.compare.differences import Difference
from end2_tf.compare.runs import Run
from end2_tf.errors import ConfigError, DataError
from end2_tf.reading import texts

Found = list[tuple[Run, list[Difference]]]

_SCHEMA = 1
_AGAIN = "Give the end_or_end2.json of a page, or workdirs of finished runs."


@dataclasses.dataclass(frozen=True)
class _Compared:
    run: Run
    differences: list[Difference]


def write(path: Path, found: Found) -> Path:
    """Writes runs and their differences as JSON without spaces, in the units of `Difference`."""
    runs = [{"run": dataclasses.asdict(run), "differences": [_plain(d) for d in of_run]} for run, of_run in found]
    text = json.dumps({"schema": _SCHEMA, "runs": runs}, ensure_ascii=False, separators=(",", ":"))
    return workdir.write_text(path, text + "\n")


def _plain(difference: Difference) -> dict[str, object]:
    return dataclasses.asdict(difference) | {"pair": list(difference.pair)}


def read(paths: Iterable[Path]) -> Found:
    """Returns the runs of pages, with their differences.

    Raises:
        DataError: a file is none that `write` wrote.
        ConfigError: two files have the same run.
    """
    found: Found = []
    places: dict[str, Path] = {}
    for path in paths:
        content = texts.read_object(path, DataError, _AGAIN)
        if content.get("schema") != _SCHEMA:
            raise DataError(f"{path} is no comparison of schema {_SCHEMA}. {_AGAIN}")
        for one in texts.fit(list[_Compared], content.get("runs"), f"{path}", DataError, _AGAIN):
            name = one.run.name
            if name in places:
                raise ConfigError(f"{places[name]} and {path} both have a run of {name}. Give one of them.")
            places[name] = path
            found.append((one.run, one.differences))
    return found
