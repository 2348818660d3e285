"""Compact networks on CIFAR-10, with CIFAR-100 and procedural images as auxiliary data."""

import dataclasses

from end2_tf.config import Augmentation, Data, Ensemble, Experiment, Optimizer, Source, Student
from end2_tf.experiments._images import SMOKE, TRANSFER, corrupted, methods, without_dropout

# The OOD images of tiny_imagenet32 were JPEG files once and CIFAR-10's never were. A network that told JPEG files from
# others would look good there, so CIFAR-10 as JPEG files is a control: it must not be told from CIFAR-10.
_JPEG = Source("corrupted", {"of": "cifar10", "kind": "jpeg", "quality": 75})

EXPERIMENTS = {
    "cifar10_cnn_end2": Experiment(
        data=Data(
            name="cifar10",
            calibration_fraction=1 / 9,  # 5,000 of the 45,000 that validation leaves
            auxiliary=Source("several", {"of": ["cifar100", "procedural"]}),
            ood={name: Source(name) for name in ("tiny_imagenet32", "fashion_mnist", "mnist")} | {"jpeg": _JPEG},
            shifted={"jpeg": _JPEG} | corrupted("cifar10"),
        ),
        ensemble=Ensemble(
            backbone="cnn",
            options={  # 456k weights
                "filters": [32, 64, 128, 128],
                "convolutions": [1, 1, 1, 2],
                "dense": 128,
                "dropout": 0.3,
                "batch_norm": True,
            },
            num_members=8,
            epochs=24,
            augmentation=Augmentation(flip=True),
            optimizer=Optimizer(learning_rate=1e-3),
            mixed_precision=True,
        ),
        transfer=dataclasses.replace(
            TRANSFER,
            num_views=12,
            augmentation=Augmentation(flip=True, shift=0.75, rotation=3.75, scale=0.045, mixup=0.5),
        ),
        methods=without_dropout(methods(labels=0.3, offset=0.01)),
        student=Student(
            epochs=48,
            start="member",  # it is short of steps, not of images, and so small batches too: BUILD_NOTES.md
            batch_size=64,
            optimizer=Optimizer(learning_rate=2e-3, floor=0.1, average=0.999),
            seeds_of={"end": 3, "end_aux": 3, "end2": 3, "end2_aux": 3},
            mixed_precision=True,
        ),
        smoke={**SMOKE, "ensemble.options.filters": [8, 16, 32, 32]},
    ),
}
