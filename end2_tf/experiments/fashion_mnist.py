"""Compact networks on Fashion-MNIST, with grey CIFAR-100 and procedural images as auxiliary data."""

import dataclasses

from end2_tf.config import OTHER_METHODS, Augmentation, Data, Ensemble, Experiment, Method, Optimizer, Source, Student
from end2_tf.experiments._images import SMOKE, TRANSFER, corrupted, methods, without_dropout

_DATA = Data(
    name="fashion_mnist",
    validation_fraction=1 / 12,  # 5,000 of 60,000
    calibration_fraction=1 / 11,  # 5,000 of the other 55,000
    auxiliary=Source(
        "several",
        {
            "of": ["cifar100", {"name": "procedural", "options": {"size": 28, "channels": 1}}],
            "size": 28,
            "channels": 1,
        },
    ),
    ood={name: Source(name) for name in ("mnist", "not_mnist")},
    shifted=corrupted("fashion_mnist"),
)
# More of the methods than elsewhere: here the study is done.
_METHODS = {
    **methods(labels=0.3, offset=0.05),
    "single_mixup": Method(loss="cross_entropy", augmentation=TRANSFER.augmentation),  # the students' inputs
    **{
        name: Method(loss="proxy_reverse_kl", offset=1.0, auxiliary=name.endswith("_aux"))
        for name in ("end2_proxy", "end2_proxy_aux")
    },
}
_SMOKE = {**SMOKE, "data.max_train": 6000, "data.max_test": 2000}

EXPERIMENTS = {
    "fashion_mnist_mlp_end2": Experiment(
        data=_DATA,
        ensemble=Ensemble(
            backbone="mlp",
            options={"hidden": [256, 256]},
            num_members=20,
            epochs=30,
            optimizer=Optimizer(learning_rate=1e-3),
        ),
        transfer=TRANSFER,
        methods=_METHODS,
        student=Student(
            epochs=100,
            optimizer=Optimizer(learning_rate=2e-3, floor=0.1, average=0.9995),
            num_seeds=3,
            methods=tuple(name for name in _METHODS if name.removesuffix("_aux") not in OTHER_METHODS),
        ),
        smoke=_SMOKE,
    ),
    "fashion_mnist_cnn_end2": Experiment(
        data=_DATA,
        ensemble=Ensemble(
            backbone="cnn",
            options={"filters": [32, 64], "dense": 128, "dropout": 0.3},  # 421k weights
            num_members=10,
            epochs=24,
            optimizer=Optimizer(learning_rate=1e-3),
            mixed_precision=True,
        ),
        # Members that generalise this well disagree enough on images that are changed a little less.
        transfer=dataclasses.replace(
            TRANSFER, num_views=16, augmentation=Augmentation(shift=0.5, rotation=3.0, scale=0.04, mixup=0.2)
        ),
        methods=without_dropout(methods(labels=0.3)),
        student=Student(
            epochs=48,
            optimizer=Optimizer(learning_rate=2e-3, floor=0.1, average=0.999),
            seeds_of=dict.fromkeys(Student.methods, 3),  # in a smoke test one
            mixed_precision=True,
        ),
        smoke=_SMOKE,
    ),
}
