"""What studies on Fashion-MNIST are measured on: validation images, and OOD sets that no experiment is tested on."""

from typing import Any

from end2_tf.config import Source

GREY = {"size": 28, "channels": 1}
BASE: dict[str, Any] = {
    "evaluation.split": "validation",
    "data.shifted": {},
    "data.ood": {
        "cifar10": Source("cifar10"),
        "procedural": Source("procedural", {**GREY, "num": 4, "generator_seed": 900}),
        "gratings": Source("gratings", GREY),
        "corrupted": Source("corrupted", {"of": "fashion_mnist", "kind": "all", "severity": 3, "split": "validation"}),
    },
}
