"""Compact networks on Fashion-MNIST, with grey CIFAR-100 images as auxiliary data."""

from end2_tf.config import Augmentation, Data, Ensemble, Experiment, Optimizer, Source, Student, Transfer

_DATA = Data(
    name="fashion_mnist",
    validation_fraction=1 / 12,  # 5,000 of 60,000
    auxiliary=Source("cifar100"),
    ood={name: Source(name) for name in ("mnist", "not_mnist")},
)
_SHIFT = Augmentation(flip=True, shift=2)

EXPERIMENTS = {
    "fashion_mnist_cnn_end2": Experiment(
        data=_DATA,
        ensemble=Ensemble(
            backbone="cnn",
            options={"filters": [32, 64], "dense": 128, "dropout": 0.3},  # 421k weights
            num_members=10,
            epochs=30,
            augmentation=_SHIFT,
            optimizer=Optimizer(learning_rate=1e-3),
        ),
        transfer=Transfer(mode="online", augmentation=_SHIFT, auxiliary_share=0.25),
        student=Student(epochs=60, optimizer=Optimizer(learning_rate=1e-3)),
        smoke={
            "data.max_train": 6000,
            "data.max_test": 2000,
            "ensemble.num_members": 3,
            "ensemble.epochs": 2,
            "student.epochs": 2,
            "methods.end2_nll.temperature": 1.0,  # nothing can be annealed in two epochs
            "methods.end2_nll_aux.temperature": 1.0,
        },
    ),
}
