"""Compact networks on CIFAR-10, with CIFAR-100 images as auxiliary data, as in the paper."""

from end2_tf.config import Augmentation, Data, Ensemble, Experiment, Optimizer, Source, Student, Transfer

_AUGMENTED = Augmentation(flip=True, shift=4)

EXPERIMENTS = {
    "cifar10_cnn_end2": Experiment(
        data=Data(
            name="cifar10",
            auxiliary=Source("cifar100"),
            ood={name: Source(name) for name in ("tiny_imagenet32", "fashion_mnist", "mnist")},
        ),
        ensemble=Ensemble(
            backbone="cnn",
            options={"filters": [32, 64, 128], "convolutions": 2, "dense": 256, "dropout": 0.4, "batch_norm": True},
            num_members=8,
            epochs=40,
            augmentation=_AUGMENTED,
            optimizer=Optimizer(learning_rate=1e-3),
        ),
        transfer=Transfer(mode="online", augmentation=_AUGMENTED, auxiliary_share=0.25),
        student=Student(epochs=80, optimizer=Optimizer(learning_rate=1e-3)),
        smoke={
            "data.max_train": 3000,
            "data.max_test": 1000,
            "ensemble.options.filters": [16, 32, 64],
            "ensemble.num_members": 3,
            "ensemble.epochs": 2,
            "student.epochs": 2,
            "methods.end2_nll.temperature": 1.0,  # nothing can be annealed in two epochs
            "methods.end2_nll_aux.temperature": 1.0,
        },
    ),
}
