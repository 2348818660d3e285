"""What the recipe of `cifar10_cnn_end2` pays: how far EnD²'s mean is behind EnD's, and for which of its parts."""

from end2_tf.grid import Study
from end2_tf.studies import _ood

_OFFSET, _WEIGHT = "methods.end2_aux.offset", "methods.end2_aux.loss_options.weight"

STUDIES = {
    "cifar10_cnn_precision": Study(
        title="What the precision costs the mean: cifar10_cnn_end2",
        question="Is it the offset or the weight of the precision for which EnD² has a higher NLL than EnD?",
        experiment="cifar10_cnn_end2",
        methods=("end2_aux",),
        base={**_ood.base("cifar10"), "student.epochs": 20, _OFFSET: 0.02},
        variants={
            "EnD": {"student.methods": ("end_aux",)},
            "EnD², offset .02": {},
            "offset 0": {_OFFSET: 0.0},
            "offset .02, weight .005": {_WEIGHT: 0.005},
            "offset 0, weight .005": {_OFFSET: 0.0, _WEIGHT: 0.005},
        },
    ),
    "cifar10_cnn_offset": Study(
        title="How small an offset may be: cifar10_cnn_end2",
        question="Which offset costs the mean least and still keeps knowledge uncertainty at the ensemble's scale?",
        experiment="cifar10_cnn_end2",
        methods=("end2_aux",),
        base=_ood.base("cifar10"),
        variants={f"offset {offset:g}": {_OFFSET: offset} for offset in (0.0, 0.005, 0.01)},
    ),
}
