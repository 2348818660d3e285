"""What each stage's result depends on, as digests: where it is kept, and whether it is there."""

from __future__ import annotations

import dataclasses
import functools
import glob
from pathlib import Path

from end2_tf import config, registry, workdir
from end2_tf.config import Experiment
from end2_tf.data import dataset
from end2_tf.workdir import Artefact, Workdir

FORMAT = 1  # goes into every digest: raise it when a change of the code makes older artefacts wrong


class Plan:
    """The artefacts of one experiment in one workdir.

    A digest covers the stage's own part of the config, the data it reads and the digests of the stages before it. So
    more student seeds or another OOD set leave the ensemble as it is.

    Args:
        experiment: Its values.
        root: The workdir.
        data_dir: Where TFDS keeps its data; None for its default.
        deterministic: Whether results must be bit-equal; those of runs that needn't be aren't taken for them.

    Raises:
        DataError: data aren't there; raised at the first digest.
    """

    def __init__(self, experiment: Experiment, root: Workdir, data_dir: str | None, deterministic: bool = False):
        self.experiment, self.root, self.data_dir = experiment, root, data_dir
        self._always = [FORMAT, deterministic, experiment.seed]

    def _artefact(self, stage: str, *parts: object) -> Artefact:
        return self.root.artefact(stage, config.digest(stage, self._always, *parts))

    @functools.cached_property
    def prints(self) -> dict[str, str]:
        """Fingerprints of the in-domain data alone, with auxiliary inputs, and with the OOD sets too."""
        data = self.experiment.data
        alone = dataclasses.replace(data, auxiliary=None, ood={})
        variants = {"alone": alone, "auxiliary": dataclasses.replace(data, ood={}), "all": data}
        return {key: dataset.fingerprint(value, data_dir=self.data_dir) for key, value in variants.items()}

    @functools.cached_property
    def ensemble(self) -> Artefact:
        settings = self.experiment.ensemble
        if settings.models is None:
            return self._artefact("ensemble", self.prints["alone"], settings)
        own = [workdir.model_digest(Path(p)) for p in sorted(glob.glob(settings.models))]
        return self._artefact("ensemble", self.prints["alone"], own)

    @functools.cached_property
    def transfer(self) -> Artefact:
        settings = dataclasses.replace(self.experiment.transfer, auxiliary_share=0.5)  # matters to students only
        return self._artefact("transfer", self.ensemble.digest, self.prints["auxiliary"], settings)

    def student(self, method: str, seed: int) -> Artefact:
        """Returns the artefact of one student; seeds count from 0."""
        experiment = self.experiment
        settings = dataclasses.replace(experiment.student, num_seeds=1, methods=("any",))
        teacher = self.transfer.digest if self.is_distilled(method) else self.prints["alone"]
        own = self.ensemble.digest if experiment.ensemble.models else ""  # the student copies their architecture
        architecture = [experiment.ensemble.backbone, experiment.ensemble.options, own]
        how = experiment.methods[method]
        return self._artefact("student", teacher, how, settings, experiment.transfer, architecture, seed)

    def students(self) -> list[tuple[str, int, Artefact]]:
        """Returns (method, seed, artefact) of every student the experiment asks for."""
        settings = self.experiment.student
        return [(m, s, self.student(m, s)) for m in settings.methods for s in range(settings.num_seeds)]

    @functools.cached_property
    def evaluation(self) -> Artefact:
        students = [(method, seed, artefact.digest) for method, seed, artefact in self.students()]
        return self._artefact(
            "evaluation", self.ensemble.digest, self.prints["all"], students, self.experiment.evaluation
        )

    def is_distilled(self, method: str) -> bool:
        """Returns whether a method needs the transfer set."""
        return not registry.is_on_labels(self.experiment.methods[method].loss)
