"""The entries in this repository: every byte, every config, and in a fresh process every prediction."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from end2_tf import config, zoo
from end2_tf.export import savedmodel
from end2_tf.zoo import manifest, results

ZOO = Path(__file__).resolve().parents[2] / "zoo"
INDEX = ZOO / "index.json"
NAMES = sorted(json.loads(INDEX.read_text(encoding="utf-8"))["entries"]) if INDEX.is_file() else []

pytestmark = pytest.mark.skipif(not NAMES, reason="nothing is published in this checkout")


@pytest.mark.parametrize("name", NAMES)
def test_files_config_and_name_agree(name):
    zoo.check(name, source=ZOO)
    metadata = json.loads((ZOO / name / "metadata.json").read_text(encoding="utf-8"))
    experiment = config.from_dict(json.loads((ZOO / name / "config.json").read_text(encoding="utf-8")))
    assert metadata["entry"] == name
    assert metadata["dataset"] == experiment.data.name
    assert metadata["kind"] != "student" or metadata["method"] in experiment.methods
    card = (ZOO / name / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", card):
        assert link.startswith("http") or (ZOO / name / link).exists(), link


def test_tensorflow_serving_is_given_the_exported_ones_in_order():
    found = re.findall(r'^    name: "(.+)"$', (ZOO / "models.config").read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [name for name in NAMES if list((ZOO / name).glob("*/saved_model.pb"))]


@pytest.mark.slow
def test_all_predictions_are_reproduced_in_a_fresh_process():
    code = (
        "import sys\nfrom end2_tf import zoo\n"
        "for name in sys.argv[2:]:\n    zoo.check(name, reproduce=True, source=sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(ZOO), *NAMES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


EXPORTED = [(name, p.parent) for name in NAMES for p in (ZOO / name).glob("*/saved_model.pb")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), EXPORTED, ids=[name for name, _ in EXPORTED])
def test_saved_models_say_what_their_keras_files_say(name, folder, tmp_path):
    """As far as rounding of the Keras file's weights lets them; in a process without this package."""
    with np.load(ZOO / name / "golden.npz") as golden:
        np.save(tmp_path / "inputs.npy", golden["inputs"])
        expected = {key: golden[key] for key in golden.files if key.endswith(("probs", "uncertainty"))}
    command = [sys.executable, "-I", str(savedmodel._BARE), str(folder), "inputs.npy", "outputs.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = np.load(tmp_path / "outputs.npz")
    for key, values in expected.items():
        np.testing.assert_allclose(answers[f"serving_default/{key}"], values, atol=1e-3 + 1e-4, err_msg=key)


def test_the_results_speak_of_these_entries():
    rows = results.read(ZOO / "results.csv")
    assert {row["entry"] for row in rows} == set(NAMES)
    places = [(row["entry"], row["dataset"], row["metric"]) for row in rows]
    assert len(set(places)) == len(places)


def test_the_zoo_is_small_enough_and_has_nothing_temporary():
    files = [path for path in ZOO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= manifest.MAX_BYTES
    assert not [path for path in ZOO.iterdir() if path.name.startswith(".")]
    folders = {path.name for path in ZOO.iterdir() if path.is_dir()}
    assert folders - {"pages"} == set(NAMES)
