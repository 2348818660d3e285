"""Text and JSON: listings and tables of a zoo, results of a run, manifests, settings, descriptions of TFDS sets."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from end2_tf import config, registry, workdir
from end2_tf.compare import page, saved, targets
from end2_tf.data.sources import tfds
from end2_tf.errors import End2Error, WorkdirError
from end2_tf.reading import texts
from end2_tf.report.inputs import Evaluation
from end2_tf.zoo import manifest, results

INSTRUMENT = ["end2_tf", "json", "csv"]

_ZOO = registry.PACKAGE.parent / "zoo"
_ENTRY = _ZOO / "spirals_mlp_end2"
_EXPERIMENT = registry.experiments()["spirals_mlp_end2"]
_ROW = {"model": "end2", "dataset": "test", "metric": "error", "value": 0.1, "sd": None, "n": 1}
_RESULTS = {"experiment": "x", "rows": [_ROW], "severities": {"a": ["b", 1]}, "class_names": ["a", "b"]}
_COMPARED = {
    "run": {
        **{"name": "x", "experiment": "x", "commit": "", "data": "x", "backbone": "mlp", "num_members": 2, "epochs": 3},
        **{"is_brought": False, "is_smoke": False, "counts": {"test": 2}, "models": ["end", "end2"], "ood": ["far"]},
        **{"labels": {"end": "EnD"}, "label_shares": {"end": 0.1}, "scores": {"end2": "knowledge"}, "kept": {"end": 1}},
        **{"rows": [_ROW], "gap_closed": [{"model": "end", "metric": "error", "value": 0.5, "gap": 0.1}]},
    },
    "differences": [
        {"pair": ["end2", "end"], "dataset": "test", "metric": "error", "score": ""}
        | {"value": 0.1, "low": 0, "high": 0.2, "spread": 0.01}
    ],
}
SEEDS = [
    json.dumps({"schema": 1, "runs": [_COMPARED]}).encode(),
    (_ZOO / "index.json").read_bytes()[:2_000],
    (_ENTRY / "manifest.json").read_bytes(),
    json.dumps(_RESULTS).encode(),
    (_ZOO / "results.csv").read_bytes()[:1_000],
    b'{"files": {"a": {"bytes": 1, "sha256": "0"}}}',
    b'{"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "numClasses": "3"}',
    b"student.optimizer.learning_rate=NaN",
    b'methods={"mine": {"loss": "dirichlet_nll"}}',
    b"data.ood=mnist,cifar10",
]


def read(content: bytes, folder: Path) -> None:
    for name in ("results.json", "manifest.json", "features.json", "results.csv"):
        (folder / name).write_bytes(content)
    readers = (
        lambda: manifest.parse(manifest.Index, content, "index.json"),
        lambda: manifest.parse(manifest.Manifest, content, "manifest.json"),
        lambda: manifest.read_metadata(folder / "results.json"),
        lambda: results.read(folder / "results.csv"),
        lambda: Evaluation(folder).shifts,
        lambda: _page(folder / "results.json"),
        lambda: tfds._check_features(folder),
        lambda: config.override(_EXPERIMENT, [content.decode("utf-8", "replace")]),
        lambda: config.from_dict(texts.read_object(folder / "results.json", WorkdirError, "")),
    )
    artefact = workdir.Artefact(folder.parent, folder.name, "")
    artefact.path = folder
    artefact.manifest()
    for each in readers:
        with contextlib.suppress(End2Error):
            each()


def _page(path: Path) -> None:
    found = saved.read([path])
    checked = {run.name: targets.checks(run) for run, _ in found}
    page.page(found, checked, has_picture=False)
    page.numbers(found, checked)
