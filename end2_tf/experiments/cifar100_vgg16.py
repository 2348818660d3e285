"""The paper's experiments on CIFAR-100: 100 VGG-16s, distilled into one; meant for GPUs. The protocol is in `_paper`.

LSUN's test images come as a folder (`data.ood.lsun.options.path`), Tiny ImageNet from its published archive.
"""

from end2_tf.config import Data, Expected, Source
from end2_tf.experiments._paper import Length, Protocol, family

_TINY_IMAGENET = Source("tiny_imagenet", {"size": 32})
_SMALL = {"name": "tiny_imagenet32", "options": {"test_fraction": 0.5}}

_PROTOCOL = Protocol(
    data=Data(
        name="cifar100",
        validation_fraction=0.1,  # the paper trains on all 50,000; whether it held any out isn't said
        auxiliary=_TINY_IMAGENET,  # [paper]: its train split
        ood={
            "lsun": Source("images", {"path": "~/tensorflow_datasets/lsun_test", "size": 32, "channels": 3}),  # [paper]
            # [paper]. The images are unseen, but students with AUX and the Prior Network were shown Tiny ImageNet's
            # train split: of these, the set says less than LSUN.
            "tiny_imagenet": _TINY_IMAGENET,
            "svhn_cropped": Source("svhn_cropped"),  # not in the paper's tables
        },
        expected=Expected(input_shape=(32, 32, 3), num_classes=100, train=45_000, auxiliary=100_000),
    ),
    members=Length(100, 70),  # [unverified]
    prior_network=Length(100, 70),  # [unverified]: the members', as on CIFAR-10
    students=Length(200, 140),  # [unverified]: twice the members', as on CIFAR-10
    test={
        "single": {"error": (0.304, 0.003), "prr": (72.5, 1.0), "ece": (0.093, 0.008), "nll": (1.16, 0.03)},
        "ensemble": {"error": (0.263, None), "prr": (75.0, None), "ece": (0.012, None), "nll": (0.88, None)},
        "end": {"error": (0.280, 0.004), "prr": (73.1, 0.5), "ece": (0.082, 0.003), "nll": (1.06, 0.01)},
        "end2_nll": {"error": (0.279, 0.003), "prr": (73.7, 0.7), "ece": (0.049, 0.005), "nll": (1.14, 0.01)},
        "end_aux": {"error": (0.282, 0.003), "prr": (74.0, 0.3), "ece": (0.019, 0.003), "nll": (0.98, 0.00)},
        "end2_nll_aux": {"error": (0.280, 0.005), "prr": (74.0, 0.2), "ece": (0.056, 0.005), "nll": (1.14, 0.01)},
        "prior_network": {"error": (0.280, 0.007), "prr": (63.7, 0.8), "ece": (0.379, 0.004), "nll": (1.87, 0.03)},
    },
    ood={
        "lsun": {
            "single": {"ood_auroc_total": (0.756, 0.011)},
            "ensemble": {"ood_auroc_total": (0.824, None), "ood_auroc_knowledge": (0.884, None)},
            "end": {"ood_auroc_total": (0.738, 0.006)},
            "end2_nll": {"ood_auroc_total": (0.806, 0.011), "ood_auroc_knowledge": (0.838, 0.009)},
            "end_aux": {"ood_auroc_total": (0.806, 0.006)},
            "end2_nll_aux": {"ood_auroc_total": (0.836, 0.005), "ood_auroc_knowledge": (0.865, 0.005)},
            "prior_network": {"ood_auroc_total": (0.748, 0.017), "ood_auroc_knowledge": (0.738, 0.022)},
        },
        # Three figures by knowledge uncertainty couldn't be read for certain and are left out.
        "tiny_imagenet": {
            "single": {"ood_auroc_total": (0.705, 0.015)},
            "ensemble": {"ood_auroc_total": (0.766, None), "ood_auroc_knowledge": (0.817, None)},
            "end": {"ood_auroc_total": (0.685, 0.012)},
            "end2_nll": {"ood_auroc_total": (0.744, 0.015)},
            "end_aux": {"ood_auroc_total": (0.742, 0.008)},
            "end2_nll_aux": {"ood_auroc_total": (0.777, 0.009)},
            "prior_network": {"ood_auroc_total": (0.734, 0.029)},
        },
    },
    # A set of which one split alone is there is divided: CIFAR-100 into train and test, half of Tiny ImageNet's
    # published validation images, at 32 pixels, into AUX and OOD. `test_fraction` leaves complete sets as they are.
    smoke={
        "data.options": {"test_fraction": 0.2},
        "data.auxiliary": _SMALL,
        "data.ood": {"tiny_imagenet": _SMALL},
    },
)

EXPERIMENTS = family("cifar100_vgg16", _PROTOCOL)
