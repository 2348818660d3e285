"""The paper's experiment on CIFAR-10: 100 VGG-16s, distilled into one; meant for GPUs.

Hyper-parameters are those of the authors' code and of the reproduction where the paper doesn't give them.
"""

from end2_tf.config import (
    Augmentation,
    Data,
    Ensemble,
    Expected,
    Experiment,
    Optimizer,
    Source,
    Student,
    Transfer,
    default_methods,
)

_AUGMENTATION = Augmentation(flip=True, shift=4, rotation=15)
_OPTIMIZER = Optimizer(learning_rate=1e-3, schedule="one_cycle", cycle=2 / 3, clip_norm=10.0)

EXPERIMENTS = {
    "cifar10_vgg16_end2": Experiment(
        data=Data(
            name="cifar10",
            auxiliary=Source("cifar100"),
            ood={"tiny_imagenet32": Source("tiny_imagenet32")},
            expected=Expected(input_shape=(32, 32, 3), num_classes=10, train=45_000, auxiliary=50_000),
        ),
        ensemble=Ensemble(
            backbone="vgg16",
            options={"dropout": 0.5},
            num_members=100,
            epochs=45,
            optimizer=_OPTIMIZER,
            augmentation=_AUGMENTATION,
            mixed_precision=True,
        ),
        # Members are recorded on the images as they are, and the student sees them augmented, as in the paper.
        transfer=Transfer(mode="clean", augmentation=_AUGMENTATION, dtype="float16"),
        methods=default_methods(),
        student=Student(
            epochs=90,
            options={"dropout": 0.3},
            optimizer=_OPTIMIZER,
            num_seeds=3,
            mixed_precision=True,
        ),
        smoke={
            "data.max_train": 600,
            "data.max_test": 300,
            "ensemble.options.dense": 64,
            "student.options.dense": 64,
            "ensemble.num_members": 2,
            "ensemble.epochs": 1,
            "student.epochs": 2,
            "student.num_seeds": 1,
            "student.methods": ("end2_nll", "end2_aux"),
            "methods.end2_nll.temperature": 1.0,
            "methods.end2_nll_aux.temperature": 1.0,
        },
    ),
}
