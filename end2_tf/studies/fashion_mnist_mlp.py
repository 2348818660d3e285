"""How the recipe of `fashion_mnist_mlp_end2` was chosen: one thing varied at a time.

The OOD sets are none that the experiment is tested on: photographs in grey, what auxiliary images are made like but
with another seed, stripes, which are like no auxiliary image, and corrupted validation images. Questions that any
experiment can be asked are files of their own: `loss`, `temperature`, `num_members`, `aux_share`, `capacity`.
"""

import dataclasses
from typing import Any

from end2_tf.config import Augmentation, Source
from end2_tf.experiments._images import TRANSFER
from end2_tf.grid import Study
from end2_tf.studies import _ood

_COMMON: dict[str, Any] = {
    "experiment": "fashion_mnist_mlp_end2",
    "methods": ("end2_aux",),
    "base": _ood.base("fashion_mnist"),
}


def _deformed(strength: float) -> Augmentation:
    """Returns the experiment's augmentation with its deformation so many times as strong."""
    own = TRANSFER.augmentation
    return dataclasses.replace(
        own, shift=strength * own.shift, rotation=strength * own.rotation, scale=strength * own.scale
    )


_LOSS = "methods.end2_aux.loss_options"

STUDIES = {
    "fashion_mnist_mlp_inputs": Study(
        title="Transfer inputs: fashion_mnist_mlp_end2",
        question="Which changes of the training images should a student be shown, how strong, and in how many views?",
        variants={
            "deformation and mixup": {},
            "deformation half as strong, and mixup": {"transfer.augmentation": _deformed(0.5)},
            "deformation twice as strong, and mixup": {"transfer.augmentation": _deformed(2.0)},
            "half of the images as they are": {"transfer.augmentation.share": 0.5},
            "deformation alone": {"transfer.augmentation.mixup": 0.0},
            "mixup alone": {"transfer.augmentation": Augmentation(mixup=0.5)},
            "the images as they are": {"transfer.augmentation": Augmentation()},
            "deformation and mixup, 4 views": {"transfer.num_views": 4},
            "deformation and mixup, 1 view": {"transfer.num_views": 1},
        },
        **_COMMON,
    ),
    "fashion_mnist_mlp_held_out": Study(
        title="Held-out transfer inputs: fashion_mnist_mlp_end2",
        question="Should transfer inputs be images that no member was trained on, changed or as they are?",
        variants={
            f"{whose}, {how}": {
                "transfer.inputs": inputs,
                "transfer.augmentation": augmentation,
                "student.epochs": epochs,
            }
            for how, augmentation in (("as they are", Augmentation()), ("changed", TRANSFER.augmentation))
            for whose, inputs, epochs in (  # as many steps each
                ("the members' images", "seen", 50),
                ("held-out images", "held_out", 50),
                ("both", "all", 25),
            )
        },
        **(_COMMON | {"base": _COMMON["base"] | {"ensemble.held_out_fraction": 0.5}}),
    ),
    "fashion_mnist_mlp_auxiliary": Study(
        title="Auxiliary inputs: fashion_mnist_mlp_end2",
        question="Which auxiliary images teach a student where the members disagree?",
        variants={
            "none": {"student.methods": ("end2",)},
            "cifar100": {"data.auxiliary": Source("cifar100")},
            "procedural": {"data.auxiliary": Source("procedural", {"size": 28, "channels": 1})},
            "both": {},
        },
        **_COMMON,
    ),
    "fashion_mnist_mlp_penalty": Study(
        title="The precision's term: fashion_mnist_mlp_end2",
        question="Which target, which penalty and which weight should a student's precision have?",
        variants={
            "mutual information, Itakura-Saito, .02": {},
            "weight .005": {f"{_LOSS}.weight": 0.005},
            "weight .1": {f"{_LOSS}.weight": 0.1},
            "squared, .01": {f"{_LOSS}.penalty": "squared", f"{_LOSS}.weight": 0.01},  # as strong where it is small
            "Stirling's precision": {f"{_LOSS}.precision": "stirling"},
            "exact precision": {f"{_LOSS}.precision": "exact"},
        },
        **_COMMON,
    ),
    "fashion_mnist_mlp_offset": Study(
        title="Offset of the head: fashion_mnist_mlp_end2",
        question="How much should alphas have in common, so that the mean is flat where the precision is low?",
        variants={
            f"offset {offset:g}": {"methods.end2_aux.offset": offset} for offset in (0.0, 0.02, 0.05, 0.1, 0.3, 1.0)
        },
        **_COMMON,
    ),
    "fashion_mnist_mlp_length": Study(
        title="Length of the training: fashion_mnist_mlp_end2",
        question="How long does it pay to train a student, and what is averaging its weights worth?",
        variants={
            **{f"{epochs} epochs": {"student.epochs": epochs} for epochs in (50, 100, 200)},
            "100 epochs, no averaging": {"student.optimizer.average": 0.0, "student.optimizer.floor": 0.0},
        },
        **_COMMON,
    ),
    "fashion_mnist_mlp_labels": Study(
        title="Labels in the objective: fashion_mnist_mlp_end2",
        question="Does a student learn better if the true label has a share in the target of its mean?",
        variants={
            "members alone": {"methods.end2_aux.labels": 0.0},
            **{f"labels {share:g}": {"methods.end2_aux.labels": share} for share in (0.1, 0.2, 0.3, 0.5)},
        },
        **_COMMON,
    ),
}
