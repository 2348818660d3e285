"""What each stage's result depends on, as digests: where it is kept, and whether it is there."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from end2_tf import config, registry, workdir
from end2_tf.config import Experiment
from end2_tf.data import dataset
from end2_tf.errors import DataError
from end2_tf.workdir import Artefact, Workdir

FORMAT = 2  # goes into every digest: raise it when a change of the code makes older artefacts wrong


class Plan:
    """The artefacts of one experiment in one workdir.

    A digest covers the stage's own part of the config, the data it reads and the digests of the stages before it. So
    more student seeds or another OOD set leave the ensemble as it is.

    Args:
        experiment: Its values.
        root: The workdir.
        data_dir: Where TFDS keeps its data; None for its default.
        deterministic: Whether results must be bit-equal; those of runs that needn't be aren't taken for them.
        shared_by: Where they must be, the devices that share batches, as `Strategy.shared_by` names them: the order of
            sums over them shows in the last bits.

    Raises:
        DataError: data aren't there; raised at the first digest.
    """

    def __init__(
        self,
        experiment: Experiment,
        root: Workdir,
        data_dir: str | None,
        deterministic: bool = False,
        shared_by: str = "",
    ):
        self.experiment, self.root, self.data_dir = experiment, root, data_dir
        self._always = [FORMAT, deterministic, experiment.seed, *([shared_by] if deterministic and shared_by else [])]

    def _artefact(self, stage: str, *parts: object) -> Artefact:
        return self.root.artefact(stage, config.digest(stage, self._always, *parts))

    @functools.cached_property
    def prints(self) -> dict[str, str]:
        """Fingerprints of the in-domain data alone, with auxiliary inputs, and with the OOD and shifted sets too."""
        data = self.experiment.data
        to_train = dataclasses.replace(data, ood={}, shifted={}, max_test=None)  # which no training sees
        variants = {"alone": dataclasses.replace(to_train, auxiliary=None), "auxiliary": to_train, "all": data}
        return {key: dataset.fingerprint(value, data_dir=self.data_dir) for key, value in variants.items()}

    @property
    def places(self) -> dataset.Places | None:
        """Where data in shards are kept; None where none are. Held-out examples are kept beside them."""
        data = self.experiment.data
        if data.shard_rows is None:
            return None
        parts = [FORMAT, self.experiment.seed, data.shard_rows, data.max_test]
        digests = [config.digest("data", *parts, self.prints[key]) for key in ("alone", "auxiliary")]
        return dataset.Places(*(self.root.artefact("data", digest) for digest in digests))

    @functools.cached_property
    def ensemble(self) -> Artefact:
        settings = self.experiment.ensemble
        if settings.predictions is not None:
            return self._artefact("ensemble", self.prints["alone"], "predictions", _file_digest(settings.predictions))
        if settings.models is None:
            return self._artefact("ensemble", self.prints["alone"], settings)
        own = [workdir.model_digest(path) for path in workdir.model_files(settings.models)]
        return self._artefact("ensemble", self.prints["alone"], own)

    @functools.cached_property
    def transfer(self) -> Artefact:
        """What members said of the in-domain inputs."""
        return self._recording(self.prints["alone"], self._transfer(False), with_auxiliary=False)

    @functools.cached_property
    def auxiliary(self) -> Artefact:
        """What members said of the auxiliary inputs; in-domain views are nothing to them."""
        settings = dataclasses.replace(self._transfer(True), augmentation=config.Augmentation())
        return self._recording(self.prints["auxiliary"], settings, with_auxiliary=True)

    def _recording(self, data: str, settings: config.Transfer, *, with_auxiliary: bool) -> Artefact:
        parts: list[object] = []
        if settings.keep == "logits":  # of all members, however many a student learns from
            settings = dataclasses.replace(settings, num_members=None)
        else:
            parts = [self._said(name) for name in self.experiment.student.methods if self._uses(name, with_auxiliary)]
        if settings.inputs != "all":
            parts.append(self.experiment.ensemble.held_out_fraction)
        return self._artefact("transfer", self.ensemble.digest, data, settings, *parts)

    def _uses(self, method: str, with_auxiliary: bool) -> bool:
        return self.is_distilled(method) and (self.experiment.methods[method].auxiliary or not with_auxiliary)

    def _said(self, name: str) -> list[object]:
        """Returns what decides which statistics of members a method needs."""
        method = self.experiment.methods[name]
        how = dataclasses.replace(
            method, auxiliary=False, labels=0.0, augmentation=None, optimizer=None, epochs=None, options={}, offset=0.0
        )
        is_annealed = method.temperature_schedule == "anneal"
        return [how, method.offset, self.experiment.student.epochs_of(method) if is_annealed else None]

    def _transfer(self, with_auxiliary: bool) -> config.Transfer:
        """Returns the settings without what matters to training only, or to the other kind of inputs only."""
        settings = dataclasses.replace(self.experiment.transfer, auxiliary_share=0.5)
        if with_auxiliary:
            return dataclasses.replace(settings, inputs="all")
        return dataclasses.replace(settings, auxiliary_augmentation=config.Augmentation())

    def recordings(self, method: str) -> list[Artefact]:
        """Returns the recordings that a method learns from: of in-domain and, if it uses them, of auxiliary inputs."""
        if not self.is_distilled(method):
            return []
        return [self.transfer, self.auxiliary] if self.experiment.methods[method].auxiliary else [self.transfer]

    def all_recordings(self) -> list[Artefact]:
        """Returns the recordings that the experiment's methods learn from, each once."""
        return list(
            {a.digest: a for method in self.experiment.student.methods for a in self.recordings(method)}.values()
        )

    def student(self, method: str, seed: int) -> Artefact:
        """Returns the artefact of one student; seeds count from 0."""
        experiment = self.experiment
        settings = dataclasses.replace(experiment.student, num_seeds=1, seeds_of={}, methods=("any",))
        shown_too = "auxiliary" if experiment.methods[method].auxiliary else "alone"
        teacher = [recording.digest for recording in self.recordings(method)] or self.prints[shown_too]
        own = self.ensemble.digest if experiment.ensemble.models else ""  # the student copies their architecture
        architecture = [experiment.ensemble.backbone, experiment.ensemble.options, own]
        how = dataclasses.replace(experiment.methods[method], augmentation=None)  # stands in what is shown
        if how.optimizer is not None:
            settings = dataclasses.replace(settings, optimizer=config.Optimizer())
        if how.epochs is not None:
            settings = dataclasses.replace(settings, epochs=config.Student.epochs)
        if self.is_distilled(method):
            shown = experiment.transfer if how.auxiliary else self._transfer(False)
            return self._artefact(
                "student",
                teacher,
                how,
                settings,
                dataclasses.replace(shown, num_members=self.num_taught),
                architecture,
                seed,
            )
        augmentation = self.label_augmentation(method)
        views: list[object] = [] if augmentation.is_identity else ["own views"]  # by seed, unlike in early versions
        if how.auxiliary:
            views.append(experiment.transfer.auxiliary_share)
        if settings.start == "member":
            views.append(self.ensemble.digest)
            if self.num_taught is not None:  # of whom a student's number picks one
                views.append(self.num_taught)
        return self._artefact("student", teacher, how, settings, augmentation, architecture, seed, *views)

    def label_augmentation(self, method: str) -> config.Augmentation:
        """Returns what a method on labels is shown: the members' augmentation, unless it has one of its own."""
        return self.experiment.methods[method].augmentation or self.experiment.ensemble.augmentation

    @property
    def num_taught(self) -> int | None:
        """How many members students learn from, the first ones; None for all."""
        num, settings = self.experiment.transfer.num_members, self.experiment.ensemble
        return None if not settings.is_brought and num == settings.num_members else num

    def students(self) -> list[tuple[str, int, Artefact]]:
        """Returns (method, seed, artefact) of every student the experiment asks for."""
        settings = self.experiment.student
        return [
            (method, seed, self.student(method, seed))
            for method in settings.methods
            for seed in range(settings.seeds_of.get(method, settings.num_seeds))
        ]

    @functools.cached_property
    def evaluation(self) -> Artefact:
        students = [(method, seed, artefact.digest) for method, seed, artefact in self.students()]
        how = [self.num_taught, self.experiment.evaluation]
        return self._artefact("evaluation", self.ensemble.digest, self.prints["all"], students, *how)

    def is_distilled(self, method: str) -> bool:
        """Returns whether a method needs the transfer set."""
        return not registry.is_on_labels(self.experiment.methods[method].loss)


def _file_digest(path: str) -> str:
    """Returns a digest of recorded predictions: of the file, or of each file of a folder.

    Raises:
        DataError: there is nothing of that name.
    """
    place = Path(path).expanduser()
    files = sorted(place.glob("*.npy")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise DataError(
            f"ensemble.predictions is {path!r}, which isn't there. Give an .npz file or a folder of .npy files: logits "
            "or probs, and inputs or digests."
        )
    return config.digest(*(f"{file.name} {workdir.sha256(file)}" for file in files))
