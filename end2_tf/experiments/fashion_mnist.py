"""Compact networks on Fashion-MNIST, with grey CIFAR-100 and procedural images as auxiliary data."""

from end2_tf.config import (
    Augmentation,
    Data,
    Ensemble,
    Experiment,
    Method,
    Optimizer,
    Source,
    Student,
    Transfer,
    with_auxiliary,
)

_DATA = Data(
    name="fashion_mnist",
    validation_fraction=1 / 12,  # 5,000 of 60,000
    auxiliary=Source(
        "several",
        {
            "of": ["cifar100", {"name": "procedural", "options": {"size": 28, "channels": 1}}],
            "size": 28,
            "channels": 1,
        },
    ),
    ood={name: Source(name) for name in ("mnist", "not_mnist")},
)
# Members hardly disagree on the images they were trained on. On slightly deformed ones they do as on new ones.
_TRANSFER = Transfer(
    mode="views",
    num_views=24,
    augmentation=Augmentation(shift=0.75, rotation=3.75, scale=0.045, mixup=0.5),
    auxiliary_augmentation=Augmentation(flip=True, shift=4, scale=0.35, invert=0.5, mixup=0.3),
    auxiliary_share=1 / 3,
    keep_inputs=True,
    dtype="float16",
)
# Each method as good as it gets on validation data: BUILD_NOTES.md has the grid.
_METHODS = with_auxiliary(
    {
        "single_matched": Method(loss="cross_entropy"),
        "single_mixup": Method(loss="cross_entropy", augmentation=_TRANSFER.augmentation),  # the students' inputs
        "end": Method(loss="ensemble_distillation"),
        "end2_nll": Method(
            loss="dirichlet_nll", loss_options={"smoothing": 1e-4}, temperature=10.0, temperature_schedule="anneal"
        ),
        "end2_proxy": Method(loss="proxy_reverse_kl", offset=1.0),
        "end2": Method(loss="mean_precision"),
    }
)
_SHIFT = Augmentation(flip=True, shift=2)
_SMOKE = {
    "transfer.num_views": 2,
    "data.max_train": 6000,
    "data.max_test": 2000,
    "ensemble.num_members": 3,
    "ensemble.epochs": 2,
    "student.epochs": 2,
    "methods.end2_nll.temperature": 1.0,  # nothing can be annealed in two epochs
    "methods.end2_nll_aux.temperature": 1.0,
}

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
        transfer=_TRANSFER,
        methods=_METHODS,
        student=Student(
            epochs=150,
            optimizer=Optimizer(learning_rate=2e-3, floor=0.1, average=0.9995),
            num_seeds=3,
            methods=tuple(_METHODS),
        ),
        smoke=_SMOKE,
    ),
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
        smoke=_SMOKE,
    ),
}
