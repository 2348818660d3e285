"""100 small networks on the paper's three spirals, distilled into one network of the same size.

Cost and result on 2 cores: see README, which `make run` regenerates.
"""

from end2_tf.config import (
    OTHER_METHODS,
    Augmentation,
    Data,
    Ensemble,
    Evaluation,
    Experiment,
    Method,
    Optimizer,
    Source,
    Student,
    Transfer,
    with_auxiliary,
)

_MLP = {"hidden": [64, 64, 64], "sine": "last", "sine_scale": 2.0}
# Each method as good as it gets on validation data: BUILD_NOTES.md has the grid.
_METHODS = {
    "single_matched": Method(loss="cross_entropy"),
    **OTHER_METHODS,
    "end": Method(loss="ensemble_distillation"),
    "end2_nll": Method(
        loss="dirichlet_nll", loss_options={"smoothing": 1e-4}, temperature=2.5, temperature_schedule="anneal"
    ),
    "end2": Method(
        loss="mean_precision", loss_options={"precision": "mutual_information", "weight": 0.1, "penalty": "squared"}
    ),
}

EXPERIMENTS = {
    "spirals_mlp_end2": Experiment(
        data=Data(
            name="spirals",
            options={
                "noise": 0.4
            },  # Bayes error 12.0 % (180,000 points); at the generator's own 0.1 there is no data uncertainty to see
            auxiliary=Source("ring", {"radius": 600.0, "noise": 100.0, "num": 3000}),
            ood={
                f"ring_{radius}": Source("ring", {"radius": float(radius), "noise": 1.0}) for radius in (410, 500, 800)
            },
        ),
        ensemble=Ensemble(
            backbone="mlp",
            options=_MLP,
            num_members=100,
            epochs=60,
            batch_size=100,
            optimizer=Optimizer(learning_rate=3e-3),
        ),
        # On the points they were trained on members agree closely; beside them they show what they don't know.
        transfer=Transfer(mode="views", num_views=10, augmentation=Augmentation(jitter=0.05)),
        methods=with_auxiliary(_METHODS),
        student=Student(
            epochs=300,
            batch_size=100,
            optimizer=Optimizer(learning_rate=1e-2),
            methods=("single_matched", "end", "end_aux", "end2_nll", "end2_nll_aux", "end2", "end2_aux"),
        ),
        evaluation=Evaluation(batch_size=5000),
        smoke={
            "ensemble.num_members": 10,
            "ensemble.epochs": 20,
            "student.epochs": 40,
            "data.max_test": 3000,
        },
    ),
}
