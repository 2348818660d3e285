"""Runs the notebooks and keeps what they show; the tests run them the same way and compare.

python examples/run.py                                   # all of them, in place
python examples/run.py examples/answer_or_abstain.ipynb  # some

A notebook is its own source: edit it in Jupyter, or as text, then run this. It is executed in an empty folder in which
the other files of examples/ lie, so that nothing of an earlier run is taken for a result. What depends on the machine
or the hour, or on TensorFlow's mood, isn't kept: metadata, and what goes to standard error.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
WIDTH = 860  # of the pictures that are kept, as wide as GitHub shows them
LARGEST = 150_000  # bytes of one of them; what is larger is kept in fewer colours
TIMEOUT = 600  # seconds a cell, on a busy machine; on two quiet cores a whole notebook takes less than 60


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs of a run of now.

    Args:
        notebook: Its file, which stays as it is.
        folder: Where it runs; gets a copy of the other files of examples/.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    for path in HERE.iterdir():
        if path.is_file() and path.suffix != ".ipynb":
            shutil.copy(path, folder)
    nodes = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(
        nodes,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    with _environment(PYTHONPATH=str(HERE.parent), TF_CPP_MIN_LOG_LEVEL="3"):
        client.execute()
    return tidied(nodes)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns a notebook without what depends on the machine, and with pictures of moderate size; changes it."""
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": python, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            output.pop("metadata", None)
            if "data" in output:
                output.metadata = nbformat.from_dict({})
                if "image/png" in output.data:
                    output.data["image/png"] = _shrunk(output.data["image/png"])
    return notebook


def _shrunk(encoded: str) -> str:
    """Returns a PNG, in base64, at most `WIDTH` pixels wide, with as many colours as `LARGEST` allows."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    for num_colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        reduced = picture.quantize(num_colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        reduced.save(buffer, "png", optimize=True)
        if buffer.tell() <= LARGEST:
            break
    return base64.b64encode(buffer.getvalue()).decode()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Sets variables for the kernels that are started within."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main(paths: Sequence[Path]) -> None:
    for path in paths or NOTEBOOKS:
        print(path, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            nodes = execute(path, Path(folder))
        nbformat.write(nodes, path)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
