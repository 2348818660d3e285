"""What an entry is, as data for metadata.json and as sentences for its card."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import registry
from end2_tf.config import Experiment
from end2_tf.data.dataset import DataSet
from end2_tf.report import style
from end2_tf.zoo import licences

SCHEMA = 1

_UNITS = {"probs": "probability", "alphas": "concentration of the Dirichlet distribution", "logits": "log-odds"}
_PLACES = ("workdir", "data_dir", "zoo_dir", "stage", "quiet", "download")  # flags that say where, not what


def kind_of(method: str) -> str:
    """Returns an entry's kind: `ensemble`, `member` (the method `single`) or `student`."""
    return {"ensemble": "ensemble", "single": "member"}.get(method, "student")


def label(method: str) -> str:
    """Returns what readers call a method."""
    return style.of(method).label


def group_of(experiment: Experiment) -> str:
    """Returns what the names of a run's entries begin with: data set and backbone of the members."""
    backbone = "own" if experiment.ensemble.models else experiment.ensemble.backbone
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{experiment.data.name}_{backbone}")


def describe(
    *,
    method: str,
    experiment: Experiment,
    data: DataSet,
    results: Mapping[str, Any],
    outputs: Mapping[str, np.ndarray],
    weights: Mapping[str, Any],
    seconds: float,
    commit: str,
) -> dict[str, Any]:
    """Returns the content of an entry's metadata.json.

    Args:
        method: `single`, `ensemble`, or a student's method.
        experiment: Its config.
        data: What it was trained and tested on.
        results: The run's results.json.
        outputs: What the model predicts for its golden inputs, for names and shapes.
        weights: How they are kept: dtype, digest and so on.
        seconds: Of training.
        commit: Of the code.
    """
    kind, group = kind_of(method), group_of(experiment)
    rows = [r for r in results["rows"] if r["model"] == method]
    num_seeds = max((r["n"] for r in rows), default=1)
    sources = [experiment.data.name]
    if kind == "student" and experiment.methods[method].auxiliary and experiment.data.auxiliary is not None:
        sources.append(experiment.data.auxiliary.name)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "entry": f"{group}_{method}",
        "group": group,
        "kind": kind,
        "method": method,
        "dataset": experiment.data.name,
        "backbone": experiment.ensemble.backbone,
        "classes": list(data.class_names),
        "input": _input(data),
        "outputs": {name: _output(name, values, kind) for name, values in outputs.items()},
        "num_members": int(results["num_members"]),
        "num_seeds": num_seeds if kind == "student" else 1,
        "seed": 0,
        "weights": dict(weights),
        "training": training(method, experiment),
        "training_seconds": round(seconds, 1),
        "results": [
            {"dataset": r["dataset"], "metric": r["metric"], "mean": r["value"], "sd": r["sd"], "n": r["n"]}
            for r in rows
        ],
        "examples": dict(results["counts"]),
        "experiment": results["experiment"],
        "command": repeatable(results["command"]),
        "commit": commit,
        "created": results["created"],
        "versions": dict(results["versions"]),
        "data": {name: dataclasses.asdict(licences.of(name)) for name in sources},
        "licence": "Apache-2.0",
    }
    found["summary"] = _summary(found, rows)
    return found


def _summary(found: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    what = {
        "ensemble": f"ensemble of {found['num_members']} networks",
        "member": f"the first of {found['num_members']} networks",
        "student": f"{label(found['method'])}, a student of {found['num_members']} networks",
    }[found["kind"]]
    if found["method"] == "single_matched":
        what = "one network, trained on labels as long as the students"
    error = next((r["value"] for r in rows if (r["dataset"], r["metric"]) == ("test", "error")), None)
    return what if error is None else f"{what}; test error {100 * error:.2f} %"


def _input(data: DataSet) -> dict[str, Any]:
    inputs = data.train.inputs
    if inputs.ndim == 4:
        return {"shape": list(data.input_shape), "dtype": "uint8", "range": [0, 255], "unit": "pixel values"}
    spread = [float(inputs.min()), float(inputs.max())]
    return {"shape": list(data.input_shape), "dtype": "float32", "range": spread, "unit": "features as they are"}


def _output(name: str, values: np.ndarray, kind: str) -> dict[str, Any]:
    axes = {1: [], 2: ["classes"], 3: ["members", "classes"]}[values.ndim]
    unit = _UNITS.get(name, "nats")
    return {"shape": ["batch", *values.shape[1:]], "axes": ["batch", *axes], "unit": unit}


def training(method: str, experiment: Experiment) -> str:
    """Returns in a sentence or two how a model was trained, from its config."""
    members, student = experiment.ensemble, experiment.student
    if kind_of(method) != "student":
        whose = "Each member was" if method == "ensemble" else "It was"
        text = f"{whose} trained on the labels of {experiment.data.name} for {members.epochs} epochs"
        return f"{text} with batches of {members.batch_size}{_rate(members.optimizer)}; members differ by their seeds."
    how = experiment.methods[method]
    text = f"It was trained {_objective(how)} for {student.epochs} epochs with batches of {student.batch_size}"
    text += _rate(how.optimizer or student.optimizer)
    if registry.is_on_labels(how.loss):
        return (
            f"{text}: what the students are compared with, since it has their architecture and budget but no teacher."
        )
    if how.auxiliary and experiment.data.auxiliary is not None:
        share, name = experiment.transfer.auxiliary_share, experiment.data.auxiliary.name
        parts = [
            each if isinstance(each, str) else each["name"] for each in experiment.data.auxiliary.options.get("of", [])
        ]
        kinds = " and ".join(parts) if name == "several" else name
        text += f"; {100 * share:.0f} % of each batch were auxiliary inputs without labels ({kinds})"
    seen = {
        "online": "the members were asked about every input as the student saw it",
        "views": f"the members' predictions were recorded on {experiment.transfer.num_views} views of each input",
        "clean": "the members' predictions were recorded once for each input",
    }[experiment.transfer.mode]
    return f"{text}; {seen}."


def _rate(optimizer: Any) -> str:
    return f" and Adam at a learning rate of {optimizer.learning_rate:g} ({optimizer.schedule.replace('_', ' ')})"


_PENALTIES = {
    "itakura_saito": "the Itakura-Saito divergence of its precision",
    "squared": "the squared error of ln alpha0",
}


def _objective(how: Any) -> str:
    options = how.loss_options
    annealed = how.temperature_schedule == "anneal" and how.temperature > 1
    heat = f" at temperature {how.temperature:g}{', annealed to 1,' if annealed else ''}"
    known = {
        "cross_entropy": "on labels alone",
        "ensemble_distillation": f"by cross-entropy to the ensemble's mean prediction{heat}",
        "dirichlet_nll": f"by the likelihood of the members' predictions under its Dirichlet{heat}",
        "proxy_reverse_kl": "by the reverse KL divergence to a Dirichlet with the ensemble's mean and precision",
        "mean_precision": f"by cross-entropy to the ensemble's mean plus {options.get('weight', 0.02):g} times "
        f"{_PENALTIES[options.get('penalty', 'itakura_saito')]} (target: "
        f"{str(options.get('precision', 'mutual_information')).replace('_', ' ')})",
    }
    return known.get(how.loss, f"by the loss {how.loss}{heat}")


def repeatable(command: str) -> str:
    """Returns a command line without the flags that say where things are on one machine."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    kept, skip = [], False
    for word in words:
        name = word.lstrip("-").split("=", 1)[0]
        if skip:
            skip = False
        elif word.startswith("-") and name in _PLACES:
            skip = "=" not in word and name not in ("quiet", "download")
        else:
            kept.append(word)
    return shlex.join(kept)


def commit(ignored: Path | None = None) -> str:
    """Returns the Git commit of this package's checkout, with `-dirty` if tracked files differ; "" outside one.

    Args:
        ignored: A folder whose changes don't count: the zoo that is being written.
    """
    root = registry.PACKAGE.parent
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return ""  # installed below somebody else's repository
        head = _git(root, "rev-parse", "HEAD")
        outside = [":/"]
        if ignored is not None and ignored.resolve().is_relative_to(root) and ignored.resolve() != root:
            outside.append(f":(exclude,top){ignored.resolve().relative_to(root).as_posix()}")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *outside)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}-dirty" if changed else head


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()
