"""What leaves a run: exported models, and entries of the zoo."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from end2_tf import config
from end2_tf.config import Experiment
from end2_tf.errors import ConfigError, ModelError, WorkdirError, ZooError
from end2_tf.plan import Plan
from end2_tf.progress import Progress
from end2_tf.workdir import Artefact, Workdir


class Run(Protocol):
    """What is asked of a run; `stages.Run` is one."""

    experiment: Experiment
    root: Workdir
    plan: Plan
    progress: Progress
    zoo_dir: Path

    @property
    def data(self) -> Any: ...

    @property
    def ensemble(self) -> Any: ...

    def say(self, line: str, /) -> None: ...

    def prepare(self) -> None: ...

    def require(self, artefact: Artefact, stage: str) -> None: ...


def write_inputs(run: Run, path: Path) -> tuple[int, dict[str, int]]:
    """Writes every input that the run's members are asked about; returns how many, and how many of what with doubles.

    The file has `inputs` (n, ...), each once, and their `digests` (n,), see `ensemble.recorded`.

    Raises:
        ConfigError: training inputs are in shards, so they needn't fit into memory.
    """
    if run.experiment.data.shard_rows is not None:
        raise ConfigError(
            f"data.shard_rows is {run.experiment.data.shard_rows}, but --write_inputs has all inputs in memory. Set "
            "data.shard_rows=null."
        )
    import numpy as np

    from end2_tf import evaluate, workdir
    from end2_tf.ensemble import recorded

    data = run.data
    parts = {"train": data.train, "validation": data.validation, "calibration": data.calibration, "test": data.test}
    parts |= {"auxiliary": data.auxiliary, **data.ood, **data.shifted}
    sets = {name: each.inputs for name, each in parts.items() if each is not None}
    if (grid := evaluate.grid(data)) is not None:
        sets["for the report's map"] = grid["inputs"]
    inputs = np.concatenate(list(sets.values()))
    keys = recorded.digests(inputs)
    order = np.sort(np.unique(keys, return_index=True)[1])  # each input once, in the sets' order
    try:
        workdir.write_npz(path, inputs=inputs[order], digests=keys[order])
    except WorkdirError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise ConfigError(
            f"--write_inputs is {str(path)!r}, which can't be written ({reason}). Name another."
        ) from error
    return len(order), {name: len(each) for name, each in sets.items()}


def export(run: Run) -> tuple[bool, Path, str]:
    """Exports what the experiment says, and writes TensorFlow Serving's files; returns what a stage returns."""
    config.check_exported(run.experiment)
    made = _export(run, run.experiment.export.models, run.experiment)
    from end2_tf.serving import deployment

    folder = run.root.path / "export"
    files = deployment.write(folder)
    summary = f"{len(made)} model{'' if len(made) == 1 else 's'}; for TensorFlow Serving: {files[0].parent}"
    return all(each.was_ready for each in made.values()), folder, summary


def publish(run: Run) -> tuple[bool, Path, str]:
    """Writes the run's models to the zoo, each with what is exported of it; returns what a stage returns."""
    experiment = run.experiment
    if experiment.evaluation.split != "test":
        raise ConfigError(
            f"evaluation.split is {experiment.evaluation.split!r}, but the zoo's numbers are the test set's. "
            "Set evaluation.split=test."
        )
    if experiment.ensemble.predictions is not None:
        raise ConfigError(
            f"ensemble.predictions is {experiment.ensemble.predictions!r}, so there is no ensemble to publish. Use "
            "--stage=export for students."
        )
    first = _first_students(run)
    run.require(run.plan.evaluation, "evaluate")
    run.require(run.plan.ensemble, "ensemble")
    for artefact in first.values():
        run.require(artefact, "student")
    run.prepare()
    from end2_tf.zoo import joined
    from end2_tf.zoo import publish as publisher

    found = joined.find(experiment, run.ensemble, run.zoo_dir)
    if found is not None and not first:
        raise ZooError(
            f"{experiment.ensemble.models} is published already, and the run has no students. Name some with "
            "--set student.methods."
        )
    told = found or experiment
    artefacts = {"ensemble": run.plan.ensemble, **first}
    own = () if found else ("single", "ensemble")
    exported = [method for method in experiment.export.models if method in (*own, *first)]
    finished = publisher.Finished(
        experiment=told,
        data=run.data,
        ensemble=run.ensemble,
        students={method: artefact.path / "model.keras" for method, artefact in first.items()},
        seconds={name: (a.manifest() or {}).get("seconds") for name, a in artefacts.items()},
        evaluation=run.plan.evaluation.path,
        exports={method: made.path for method, made in _export(run, exported, told).items()},
        joins=found is not None,
    )
    published = publisher.publish(finished, run.zoo_dir, run.progress)
    num = len(published.entries)
    summary = f"{num} entr{'y' if num == 1 else 'ies'}, {', '.join(published.entries)}"
    if finished.joins:
        summary += ", beside those of the ensemble that taught them"
    removed = f"; removed, as this run has no such method: {', '.join(published.removed)}"
    return False, run.zoo_dir, summary + (removed if published.removed else "")


def _export(run: Run, methods: Iterable[str], told: Experiment) -> dict[str, Any]:
    """Returns what is exported of each method; it is called as the entry of that experiment."""
    first = _first_students(run)
    for method in methods:
        if method in first:
            run.require(first[method], "student")
    run.require(run.plan.ensemble, "ensemble")
    run.prepare()
    from end2_tf import export as exporter
    from end2_tf.zoo import metadata

    made: dict[str, Any] = {}
    for method in methods:
        name = f"{metadata.group_of(told)}_{method}"
        run.progress(f"exporting {name}", len(made), len(made) + 1, {})
        made[method] = exporter.export(
            _servable(run, method),
            name,
            run.root.path / "export",
            run.data,
            run.experiment.export,
            seed=run.experiment.seed,
        )
        run.progress.end()
        run.say(f"  {made[method].path}: {made[method].summary()}")
        for caution in made[method].cautions:
            run.say(f"    Note: {caution}.")
    return made


def _servable(run: Run, method: str) -> Any:
    """Returns a model of this run as one Keras model: seed 0 of a method, the first member, or the ensemble."""
    if method == "ensemble":
        if not run.ensemble.returns_logits:
            raise ModelError(
                "export.models has 'ensemble', but its members return probabilities, and one that returns logits "
                "is exported. Leave it out."
            )
        return run.ensemble.as_model()
    if method == "single":
        from end2_tf import heads, models

        return models.UncertaintyClassifier(run.ensemble.member(0), heads.SoftmaxHead())
    from end2_tf import student

    return student.open_model(_first_students(run)[method].path)


def _first_students(run: Run) -> dict[str, Artefact]:
    return {method: artefact for method, seed, artefact in run.plan.students() if seed == 0}
