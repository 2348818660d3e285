"""Whether members are saturated: what twice the epochs change on validation data.

From members that more training on labels would improve there is little to distil: a student of their size, trained
longer on labels alone, would beat their ensemble.
"""

from end2_tf import registry
from end2_tf.config import Experiment
from end2_tf.grid import Study


def _saturation(name: str) -> Study:
    experiment = registry.experiments()[name]
    assert isinstance(experiment, Experiment)
    doubled = 2 * experiment.ensemble.epochs
    return Study(
        title=f"Are the members of `{name}` saturated?",
        question=(
            "Are members trained out: does training them twice as long change their validation error by less than .2 "
            "points, and not lower their NLL?"
        ),
        experiment=name,
        methods=(),
        base={"evaluation.split": "validation", "data.ood": {}, "data.shifted": {}},
        variants={
            f"{experiment.ensemble.epochs} epochs": {},
            f"{doubled} epochs": {"ensemble.epochs": doubled, "ensemble.num_members": 4},
        },
        columns=("error", "nll", "ece"),
        smoke={"ensemble.num_members": 2},
    )


STUDIES = {
    f"{dataset}_saturation": _saturation(f"{dataset}_end2")
    for dataset in ("spirals_mlp", "fashion_mnist_mlp", "fashion_mnist_cnn", "cifar10_cnn")
}
