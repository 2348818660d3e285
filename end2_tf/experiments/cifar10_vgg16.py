"""The paper's experiments on CIFAR-10: 100 VGG-16s, distilled into one; meant for GPUs. The protocol is in `_paper`.

LSUN's test images come as a folder (`data.ood.lsun.options.path`), Tiny ImageNet from its published archive.
"""

from end2_tf.config import Data, Expected, Source
from end2_tf.experiments._paper import Length, Protocol, family

_PROTOCOL = Protocol(
    data=Data(
        name="cifar10",
        validation_fraction=0.1,  # the paper trains on all 50,000; whether it held any out isn't said
        auxiliary=Source("cifar100"),  # [paper]
        ood={
            "lsun": Source("images", {"path": "~/tensorflow_datasets/lsun_test", "size": 32, "channels": 3}),  # [paper]
            "tiny_imagenet": Source("tiny_imagenet", {"size": 32}),  # [paper]: the published validation images
            "svhn_cropped": Source("svhn_cropped"),  # not in the paper's tables
        },
        expected=Expected(input_shape=(32, 32, 3), num_classes=10, train=45_000, auxiliary=50_000),
    ),
    members=Length(45, 30),  # [repro], and [paper] of 2018
    prior_network=Length(45, 30),  # [repro]
    students=Length(90, 60),  # [repro]
    test={
        "single": {"error": (0.080, 0.004), "prr": (84.6, 1.2), "ece": (0.022, 0.004), "nll": (0.25, 0.01)},
        "ensemble": {"error": (0.062, None), "prr": (86.8, None), "ece": (0.013, None), "nll": (0.19, None)},
        "end": {"error": (0.067, 0.003), "prr": (84.8, 0.8), "ece": (0.026, 0.002), "nll": (0.22, 0.01)},
        "end2_nll": {"error": (0.073, 0.002), "prr": (85.3, 1.1), "ece": (0.010, 0.002), "nll": (0.25, 0.01)},
        "end_aux": {"error": (0.067, 0.002), "prr": (85.1, 0.1), "ece": (0.026, 0.006), "nll": (0.22, 0.01)},
        "end2_nll_aux": {"error": (0.069, 0.002), "prr": (85.7, 0.3), "ece": (0.022, 0.004), "nll": (0.24, 0.00)},
        "prior_network": {"error": (0.075, 0.003), "prr": (82.0, 1.4), "ece": (0.120, 0.007), "nll": (0.38, 0.01)},
    },
    ood={
        "lsun": {
            "single": {"ood_auroc_total": (0.913, 0.013)},
            "ensemble": {"ood_auroc_total": (0.945, None), "ood_auroc_knowledge": (0.944, None)},
            "end": {"ood_auroc_total": (0.890, 0.013)},
            "end2_nll": {"ood_auroc_total": (0.915, 0.008), "ood_auroc_knowledge": (0.922, 0.007)},
            "end_aux": {"ood_auroc_total": (0.886, 0.011)},
            "end2_nll_aux": {"ood_auroc_total": (0.944, 0.007), "ood_auroc_knowledge": (0.938, 0.007)},
            "prior_network": {"ood_auroc_total": (0.957, 0.009), "ood_auroc_knowledge": (0.958, 0.008)},
        },
        "tiny_imagenet": {
            "single": {"ood_auroc_total": (0.889, 0.016)},
            "ensemble": {"ood_auroc_total": (0.918, None), "ood_auroc_knowledge": (0.914, None)},
            "end": {"ood_auroc_total": (0.869, 0.012)},
            "end2_nll": {"ood_auroc_total": (0.886, 0.015), "ood_auroc_knowledge": (0.888, 0.016)},
            "end_aux": {"ood_auroc_total": (0.865, 0.016)},
            "end2_nll_aux": {"ood_auroc_total": (0.913, 0.008), "ood_auroc_knowledge": (0.906, 0.007)},
            "prior_network": {"ood_auroc_total": (0.957, 0.007), "ood_auroc_knowledge": (0.958, 0.008)},
        },
    },
    # Without the sets that are fetched by hand: half of Tiny ImageNet's published validation images, at 32 pixels.
    smoke={"data.ood": {"tiny_imagenet": {"name": "tiny_imagenet32"}}},
)

EXPERIMENTS = family("cifar10_vgg16", _PROTOCOL)
