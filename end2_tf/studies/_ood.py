"""What studies are measured on: validation data, and OOD sets that no experiment is tested on.

Most are made by a program, so that they are there whatever the data.
"""

from __future__ import annotations

from typing import Any

from end2_tf import registry
from end2_tf.config import Experiment, Source

_SEED = 900  # of what is drawn; experiments have other ones
_GREY = {"size": 28, "channels": 1}

# The first kind is none that auxiliary images have; the second is made as some of them are.
_IMAGES = {
    "gratings": Source("gratings", {"generator_seed": _SEED}),
    "procedural": Source("procedural", {"num": 4, "generator_seed": _SEED}),
}

_OF = {  # in-domain source → OOD sets
    "spirals": {  # which reach to 355; the experiment is tested on 410, 500 and 800
        f"ring_{radius}": Source("ring", {"radius": float(radius), "num": 4, "generator_seed": _SEED})
        for radius in (450, 900)
    },
    "fashion_mnist": {
        "cifar10": Source("cifar10"),
        "procedural": Source("procedural", {**_GREY, "num": 4, "generator_seed": _SEED}),
        "gratings": Source("gratings", _GREY),
        "corrupted": Source("corrupted", {"of": "fashion_mnist", "kind": "all", "severity": 3, "split": "validation"}),
    },
    "tiny_imagenet": _IMAGES,
    "images": _IMAGES,
}


def of(experiment: Experiment) -> dict[str, Any]:
    """Returns `base` for an experiment; members that are known by their predictions made none of other inputs."""
    changes = base(experiment.data.name)
    return changes if experiment.ensemble.predictions is None else {**changes, "data.ood": {}}


def base(data: str) -> dict[str, Any]:
    """Returns the changes after which an experiment is measured on what may be chosen by.

    Sets of TFDS are images. Of a file in `data/sources/` that isn't named above nothing is known, so there are no OOD
    sets; who asks the study can name some, `--set data.ood=…`.

    Args:
        data: The in-domain set, `data.name`.
    """
    known_inputs = data not in registry.names("data source")
    sets = _OF.get(data, _IMAGES if known_inputs else {})
    return {"evaluation.split": "validation", "data.shifted": {}, "data.ood": sets}
