"""From how many members a student learns, for any experiment: the paper's ablation over the size of the ensemble.

All variants share the ensemble and what was recorded of it; students learn from its first members.
"""

from __future__ import annotations

from pathlib import Path

from end2_tf import workdir
from end2_tf.config import Experiment
from end2_tf.errors import ConfigError
from end2_tf.grid import Axis, Study, Template
from end2_tf.reading import npz
from end2_tf.studies import _methods, _ood

_KINDS = ("logits", "probs")
_NUMBERS = (1, 2, 5, 10, 20, 50, 100)
_QUESTION = "How many members does a student need to learn from?"


def _make(name: str, experiment: Experiment) -> Study:
    total = _total(experiment)
    numbers = [num for num in _NUMBERS if num < total]
    labels = {num: f"{num} member{'' if num == 1 else 's'}" for num in [*numbers, total]}
    return Study(
        title=f"Number of members: {name}",
        question=_QUESTION,
        experiment=name,
        methods=_methods.those_of(experiment, name, ("dirichlet_nll", "mean_precision")),
        base=_ood.of(experiment),
        variants={
            **{labels[num]: {"transfer.num_members": num} for num in numbers},
            labels[total]: {"transfer.num_members": None},
        },
        num_seeds=_methods.NUM_SEEDS,
        smoke=_methods.SMOKE,
        axis=Axis("Members learnt from", {labels[num]: num for num in labels}, is_log=True),
        reference=(
            "The paper's ablation: students of 20 members beat those of 5, with no clear gain beyond 20; it gives no "
            "numbers that could stand here."
        ),
    )


def _total(experiment: Experiment) -> int:
    """Returns how many members there are; those that are brought are counted."""
    settings = experiment.ensemble
    if settings.predictions is not None:
        return _recorded(settings.predictions)
    if settings.models is None:
        return settings.num_members
    num = len(workdir.model_files(settings.models))
    if num == 0:
        raise ConfigError(f"ensemble.models is {settings.models!r}, which no file matches. Give a glob of Keras files.")
    return num


def _recorded(path: str) -> int:
    place = Path(path)
    try:
        if place.is_dir():
            (shape,) = (npz.mapped(file).shape for k in _KINDS if (file := place / f"{k}.npy").is_file())
        else:
            (shape,) = (header.shape for header in npz.headers(place, _KINDS).values())
        return shape[1]
    except (ValueError, IndexError) as error:  # DataError is a ValueError
        raise ConfigError(
            f"ensemble.predictions is {path!r}, in which members can't be counted. Give an .npz file or a folder of "
            ".npy files with logits or probs, (n, members, classes)."
        ) from error


STUDIES = {"num_members": Template(question=_QUESTION, make=_make)}
