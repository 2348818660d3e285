"""What an entry is, as data for metadata.json and as sentences for its card."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from end2_tf import registry, tables
from end2_tf.config import Experiment, Method, Optimizer, Source
from end2_tf.data import shards
from end2_tf.data.dataset import DataSet
from end2_tf.report import style
from end2_tf.zoo import licences

SCHEMA = 1

_UNITS = {
    "probs": "probability",
    "alphas": "concentration of the Dirichlet distribution",
    "logits": "unnormalised log-probability",
    "logit_variance": "the logits' squared",
}
_PLACES = ("workdir", "data_dir", "zoo_dir", "stage", "quiet", "download")  # flags that say where, not what
_FILES = ("path", "models")  # fields of a config that hold paths
_ENTRY = re.compile(r"(?:^|[/\\])(zoo)[/\\]([A-Za-z0-9][A-Za-z0-9._-]*)[/\\](model\.keras)$")  # which anybody has


def kind_of(method: str) -> str:
    """Returns an entry's kind: `ensemble`, `member` (the method `single`) or `student`."""
    return {"ensemble": "ensemble", "single": "member"}.get(method, "student")


def label(method: str) -> str:
    """Returns what readers call a method."""
    return style.of(method).label


def group_of(experiment: Experiment) -> str:
    """Returns what the names of a run's entries begin with: data set, own file's name, backbone of the members."""
    data, members = experiment.data, experiment.ensemble
    return tables.group(data.name, data.path, "own" if members.is_brought else members.backbone)


def describe(
    *,
    method: str,
    experiment: Experiment,
    data: DataSet,
    results: Mapping[str, Any],
    outputs: Mapping[str, np.ndarray],
    weights: Mapping[str, Any],
    seconds: float | None,
    export: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the content of an entry's metadata.json.

    Args:
        method: `single`, `ensemble`, or a student's method.
        experiment: Its config.
        data: What it was trained and tested on.
        results: The run's results.json.
        outputs: What the model predicts for its golden inputs, for names and shapes.
        weights: How they are kept: dtype, digest and so on.
        seconds: Of training; None where it isn't known.
        export: Of its SavedModel: version, signatures, thresholds, decisions, parity.
    """
    kind, group, num_members = kind_of(method), group_of(experiment), int(results["num_members"])
    rows = [r for r in results["rows"] if r["model"] == method]
    num_seeds = max((r["n"] for r in rows), default=1)
    on_labels = kind == "student" and registry.is_on_labels(experiment.methods[method].loss)
    brought = kind != "student" and experiment.ensemble.is_brought
    seen = [Source(experiment.data.name, experiment.data.options)]
    if kind == "student" and experiment.methods[method].auxiliary and experiment.data.auxiliary is not None:
        seen.append(experiment.data.auxiliary)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "entry": f"{group}_{method}",
        "group": group,
        "kind": kind,
        "method": method,
        "on_labels": on_labels,
        "dataset": experiment.data.name,
        "backbone": _backbone(kind, experiment),
        "classes": list(data.class_names),
        "input": _input(data),
        "outputs": {name: _output(name, values) for name, values in outputs.items()},
        "num_members": num_members,
        "num_taught": min(experiment.transfer.num_members or num_members, num_members),
        "num_seeds": num_seeds if kind == "student" else 1,
        "seed": 0,
        "weights": dict(weights),
        "training": training(method, experiment),
        "training_seconds": None if brought or seconds is None else float(f"{seconds:.3g}"),
        "results": [
            {"dataset": r["dataset"], "metric": r["metric"], "mean": r["value"], "sd": r["sd"], "n": r["n"]}
            for r in rows
        ],
        "examples": dict(results["counts"]),
        "experiment": results["experiment"],
        "command": repeatable(results["command"]),
        "commit": results["commit"] or None,
        "created": results["created"],
        "versions": dict(results["versions"]),
        "data": {name: dataclasses.asdict(licences.of(name)) for source in seen for name in _made_of(source)},
        "licence": "Apache-2.0",
        **({"export": dict(export)} if export else {}),
    }
    found["summary"] = _summary(found, experiment, rows)
    return found


def taught_by(found: Mapping[str, Any]) -> str:
    """Returns whom a student with these metadata learnt from: "20 networks", or "the first 5 of 20 networks"."""
    taught, of = found["num_taught"], found["num_members"]
    return f"{of} networks" if taught == of else f"the first {taught} of {of} networks"


def _made_of(source: Source) -> list[str]:
    """Returns the names of the data that a source shows: its own, or of those that it is made of."""
    return list(dict.fromkeys(part.name for part in source.parts() if "of" not in part.options))


def _summary(found: Mapping[str, Any], experiment: Experiment, rows: list[dict[str, Any]]) -> str:
    what = {
        "ensemble": f"ensemble of {found['num_members']} networks",
        "member": f"the first of {found['num_members']} networks",
        "student": f"{label(found['method'])}, a student of {taught_by(found)}",
    }[found["kind"]]
    if found["on_labels"]:
        shown = _label_inputs(experiment.methods[found["method"]], experiment)
        what = f"one network, trained on labels as long as the students, on {shown}"
        if registry.knows_outside(experiment.methods[found["method"]].loss):
            what = "a Prior Network, trained on labels and on auxiliary inputs, without an ensemble"
    error = next((r["value"] for r in rows if (r["dataset"], r["metric"]) == ("test", "error")), None)
    return what if error is None else f"{what}; test error {100 * error:.2f} %"


def _input(data: DataSet) -> dict[str, Any]:
    inputs = data.train.inputs
    if inputs.ndim == 4:
        return {"shape": list(data.input_shape), "dtype": "uint8", "range": [0, 255], "unit": "pixel values"}
    low, high = zip(*((part.min(), part.max()) for part in shards.parts(inputs)), strict=True)
    spread = [float(min(low)), float(max(high))]
    return {"shape": list(data.input_shape), "dtype": "float32", "range": spread, "unit": "features as they are"}


def _output(name: str, values: np.ndarray) -> dict[str, Any]:
    axes = {1: [], 2: ["classes"], 3: ["members", "classes"]}[values.ndim]
    unit = _UNITS.get(name, "nats")
    return {"shape": ["batch", *values.shape[1:]], "axes": ["batch", *axes], "unit": unit}


def _backbone(kind: str, experiment: Experiment) -> str:
    members = "own" if experiment.ensemble.is_brought else experiment.ensemble.backbone
    return (experiment.student.backbone or members) if kind == "student" else members


def training(method: str, experiment: Experiment) -> str:
    """Returns in a sentence or two how a model was trained, from its config."""
    members, student = experiment.ensemble, experiment.student
    if kind_of(method) != "student":
        whose = "Each member was" if method == "ensemble" else "It was"
        if members.models:
            return f"{whose} brought as a Keras file, not trained here, so how isn't recorded."
        part = f"{100 * (1 - members.held_out_fraction):.3g} % of " if members.held_out_fraction else ""
        text = f"{whose} trained on the labels of {part}{experiment.data.name} for {members.epochs} epochs"
        differ = {
            "deep": "members differ by their seeds",
            "dropout": "members are that network with units dropped, each in its own way",
            "snapshots": "each member went on from the one before, with the learning rate from its beginning",
        }[members.kind]
        return f"{text} with batches of {members.batch_size}{_rate(members.optimizer)}; {differ}."
    how = experiment.methods[method]
    text = f"It was trained {_objective(how)} for {student.epochs_of(how)} epochs with batches of {student.batch_size}"
    text += _rate(how.optimizer or student.optimizer)
    if student.start == "member":
        text += ", from a copy of a member on"
    shown_too = ""
    if how.auxiliary and experiment.data.auxiliary is not None:
        kinds = " and ".join(_made_of(experiment.data.auxiliary))
        share = 100 * experiment.transfer.auxiliary_share
        shown_too = f"; {share:.0f} % of each batch were auxiliary inputs without labels ({kinds})"
    if registry.knows_outside(how.loss):
        return f"{text}, on {_label_inputs(how, experiment)}{shown_too}: no ensemble.{_network(how, experiment)}"
    if registry.is_on_labels(how.loss):
        return (
            f"{text}, on {_label_inputs(how, experiment)}: what the students are compared with, since it has their "
            f"architecture and budget but no teacher.{_network(how, experiment)}"
        )
    text += shown_too
    if experiment.transfer.num_members is not None:
        text += f"; its teachers were the first {experiment.transfer.num_members} members"
    seen = {
        "online": "the members were asked about every input as the student saw it",
        "views": f"the members' predictions were recorded on {experiment.transfer.num_views} views of each input",
        "clean": "the members' predictions were recorded once for each input",
    }[experiment.transfer.mode]
    return f"{text}; {seen}{_INPUTS[experiment.transfer.inputs]}.{_network(how, experiment)}"


# Which training examples a student was shown, where it wasn't all.
_INPUTS = {
    "all": "",
    "held_out": ", of those that no member was trained on",
    "seen": ", of those the members were trained on",
}


def _rate(optimizer: Optimizer) -> str:
    name = {"adam": "Adam", "sgd": f"SGD of momentum {optimizer.momentum:g}"}[optimizer.name]
    text = f" and {name} at a learning rate of {optimizer.learning_rate:g} ({optimizer.schedule.replace('_', ' ')})"
    if optimizer.weight_decay:
        text += f", weight decay {optimizer.weight_decay:g}"
    if optimizer.average:
        text += f", its weights a moving average of momentum {optimizer.average:g}"
    return text


def _label_inputs(how: Method, experiment: Experiment) -> str:
    """Returns what a network on labels was shown."""
    if how.augmentation is None:
        return "the members' inputs"
    is_students = how.augmentation == experiment.transfer.augmentation
    return "the students' inputs" if is_students else "inputs with an augmentation of its own"


def _network(how: Method, experiment: Experiment) -> str:
    """Returns a sentence on a student's backbone and its options where they aren't the members'."""
    members, student = experiment.ensemble, experiment.student
    if members.models and student.backbone is None:
        return ""  # it was copied from theirs
    backbone = student.backbone or members.backbone
    inherited = members.options if backbone == members.backbone else {}
    options = (inherited if student.options is None else student.options) | how.options
    if not members.models and backbone == members.backbone:
        if options == members.options:
            return ""
        theirs, own = (each.get("dropout") for each in (members.options, options))
        if None not in (theirs, own) and options == members.options | {"dropout": own}:  # the network is the same
            return f" It has a dropout of {own:g}, where the members have {theirs:g}."
    return f" Its network isn't the members': {backbone}{_options(options)}."


def _options(values: Mapping[str, Any]) -> str:
    shown = (f"{name.replace('_', ' ')} {v:g}" if isinstance(v, float) else f"{name} {v}" for name, v in values.items())
    return f" ({', '.join(shown)})" if values else ""


# Losses that are told without their temperature, unless it is another than 1.
_COLD = (
    "cross_entropy",
    "mean_precision",
    "proxy_reverse_kl",
    "prior_network",
    "self_distribution",
    "logit_gaussian",
)

_PENALTIES = {
    "itakura_saito": "the Itakura-Saito divergence of its precision",
    "squared": "the squared error of ln alpha0",
}


def _objective(how: Method) -> str:
    """Returns what was minimised; options of a loss that the words don't hold follow in brackets."""
    options = dict(how.loss_options)
    mean = "the ensemble's mean prediction" + (f" ({100 * how.labels:g} % of it the true label)" if how.labels else "")
    known = {
        "cross_entropy": "on labels alone",
        "ensemble_distillation": f"by cross-entropy to {mean}",
        "dirichlet_nll": "by the likelihood of the members' predictions under its Dirichlet",
        "proxy_reverse_kl": f"by the reverse KL divergence to a Dirichlet with {mean} and the ensemble's precision",
        "prior_network": "by a KL divergence to a Dirichlet on the label, flat outside the domain",
        "self_distribution": "on labels, and by a KL divergence to a Dirichlet fitted to its predictions under noise",
        "logit_gaussian": "by the likelihood of the members' centred logits under a Gaussian a class",
        "hydra": "by the KL divergence of one head a member to that member's prediction",
    }
    text = known.get(how.loss, f"by the loss {how.loss}" + (f" to {mean}" if how.labels else ""))
    if how.loss == "mean_precision":
        weight, penalty = options.pop("weight", 0.02), options.pop("penalty", "itakura_saito")
        target = str(options.pop("precision", "mutual_information")).replace("_", " ")
        text = f"by cross-entropy to {mean} plus {weight:g} times {_PENALTIES[penalty]} (target: {target})"
    text += _options(options | ({"offset of alphas": how.offset} if how.offset else {}))
    if how.temperature != 1 or how.loss not in _COLD:
        annealed = how.temperature_schedule == "anneal" and how.temperature > 1
        text += f" at temperature {how.temperature:g}{', annealed to 1,' if annealed else ''}"
    return text


def repeatable(command: str) -> str:
    """Returns a command line without what is true of one machine only: flags and folders that say where things are."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    kept: list[str] = []
    skip = assigns = False
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if skip:
            skip = False
        elif assigns:
            kept.append(_assignment(word))
            assigns = False
        elif word.startswith("-") and name in _PLACES:
            skip = not equals and name not in ("quiet", "download")
        elif word.startswith("-") and name == "set":
            kept.append(f"{word.partition('=')[0]}={_assignment(value)}" if equals else word)
            assigns = not equals
        else:
            kept.append(word)
    return shlex.join(kept)


def _assignment(text: str) -> str:
    """Returns the text of `--set` without folders."""
    field, equals, value = text.partition("=")
    try:
        given = json.loads(value)
    except ValueError:
        given = value
    kept = without_folders({field: given})[field]
    if kept == given:
        return text
    return f"{field}{equals}{kept if isinstance(kept, str) else json.dumps(kept)}"


def without_folders(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config's plain values with files by their names alone: what folders somebody has is private."""
    return {key: _without_folders(value, key.rpartition(".")[2]) for key, value in values.items()}


def _without_folders(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return without_folders(value)
    if isinstance(value, list):
        return [_without_folders(each, key) for each in value]
    if isinstance(value, str) and key in _FILES:
        if entry := _ENTRY.search(value):
            return "/".join(entry.groups())
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


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
