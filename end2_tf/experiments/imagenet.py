"""ResNet-50 on ImageNet, after He et al. (2016) and Goyal et al. (2017); meant for GPUs.

TFDS can't download ImageNet: its page says how to get it, and `--data_dir` where it is prepared.
"""

from end2_tf.config import (
    Augmentation,
    Data,
    Ensemble,
    Expected,
    Experiment,
    Optimizer,
    Student,
    Transfer,
    default_methods,
)

_CLASSES = 1000
_OPTIMIZER = Optimizer(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule="cosine")

EXPERIMENTS = {
    "imagenet_resnet50_end2": Experiment(
        data=Data(
            name="imagenet2012",
            options={"image_size": 224},
            validation_fraction=0.02,
            shard_rows=512,  # 77 MB
            expected=Expected(input_shape=(224, 224, 3), num_classes=_CLASSES, train=1_255_543),
        ),
        ensemble=Ensemble(
            backbone="resnet50",
            num_members=10,
            epochs=90,
            batch_size=256,
            optimizer=_OPTIMIZER,
            augmentation=Augmentation(flip=True, shift=28, scale=0.35),
            mixed_precision=True,
        ),
        # With 1,000 classes what members say is more than the images: they are asked during training.
        transfer=Transfer(mode="online", augmentation=Augmentation(flip=True, shift=28, scale=0.35)),
        methods=default_methods(),
        student=Student(
            epochs=90,
            batch_size=256,
            optimizer=_OPTIMIZER,
            methods=("single_matched", "end", "end2_nll", "end2"),
            mixed_precision=True,
        ),
        smoke={
            "data.options.image_size": 64,
            "data.max_train": 3000,
            "data.max_test": 1000,
            "ensemble.num_members": 2,
            "ensemble.epochs": 1,
            "student.epochs": 1,
            "methods.end2_nll.temperature": 1.0,
        },
    ),
}
