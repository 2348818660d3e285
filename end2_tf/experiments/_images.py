"""What the experiments on images share: methods, transfer inputs, shifted sets."""

import dataclasses

from end2_tf import registry
from end2_tf.config import OTHER_METHODS, Augmentation, Method, Source, Transfer, with_auxiliary

# Members hardly disagree on the images they were trained on. On slightly deformed ones they do as on new ones.
TRANSFER = Transfer(
    mode="views",
    num_views=24,
    augmentation=Augmentation(shift=0.75, rotation=3.75, scale=0.045, mixup=0.5),
    auxiliary_augmentation=Augmentation(flip=True, shift=4, scale=0.35, invert=0.5, mixup=0.3),
    auxiliary_share=1 / 3,
    keep_inputs=True,
    dtype="float16",
)


def methods(labels: float, offset: float = 0.0) -> dict[str, Method]:
    """Returns each method as good as it gets on validation data; BUILD_NOTES.md has the grid.

    Args:
        labels: Share of the label in the target of the mean; the likelihood takes none.
        offset: Of the recommended EnD²'s head; see `losses.MeanPrecision`.
    """
    return with_auxiliary(
        {
            "single_matched": Method(loss="cross_entropy"),
            **OTHER_METHODS,
            "end": Method(loss="ensemble_distillation", labels=labels),
            "end2_nll": Method(
                loss="dirichlet_nll", loss_options={"smoothing": 1e-4}, temperature=10.0, temperature_schedule="anneal"
            ),
            "end2": Method(loss="mean_precision", labels=labels, offset=offset),
        }
    )


def without_dropout(methods: dict[str, Method]) -> dict[str, Method]:
    """Returns methods whose students, shown many views of what members say, have no dropout; on labels they keep it."""
    return {
        name: method if registry.is_on_labels(method.loss) else dataclasses.replace(method, options={"dropout": 0.0})
        for name, method in methods.items()
    }


def corrupted(name: str) -> dict[str, Source]:
    """Returns a set's test images under a corruption drawn for each, at severities 1 to 5, for `data.shifted`."""
    return {
        f"corrupted_{severity}": Source("corrupted", {"of": name, "kind": "all", "severity": severity})
        for severity in range(1, 6)
    }


SMOKE = {
    "transfer.num_views": 2,
    "data.max_train": 3000,
    "data.max_test": 1000,
    "ensemble.num_members": 3,
    "ensemble.epochs": 2,
    "student.epochs": 2,
    "student.seeds_of": {},
    "methods.end2_nll.temperature": 1.0,  # nothing can be annealed in two epochs
    "methods.end2_nll_aux.temperature": 1.0,
}
