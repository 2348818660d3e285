"""The image experiments of the EnD² paper (Malinin, Mlodozeniec & Gales, ICLR 2020): one protocol, a row a data set.

The paper leaves hyper-parameters open. Where a value comes from is marked:

    [paper]       tables of the paper, or of the Prior Networks paper of 2018 that it builds on
    [code]        the authors' code, KaosEngineer/PriorNetworks and its TensorFlow predecessor
    [repro]       the reproduction of 2020, lennelov/endd-reproduce
    [unverified]  from memory of the paper's appendix, or chosen here; not confirmed by any source

Each family is one experiment with all methods, named like the data set and the backbone, and one for each method alone.
They share runs/<family>/: who trains single methods one after another trains the members once, and the experiment
with all of them then finds everything done and writes the whole table.
"""

import dataclasses
from typing import Any

from end2_tf.config import (
    Augmentation,
    Data,
    Ensemble,
    Experiment,
    Export,
    Figure,
    Method,
    Optimizer,
    Published,
    Student,
    Transfer,
    default_methods,
)

MEMBERS = 100  # [paper]
SEEDS = 3  # [paper]: its ± are two standard deviations over three models
# [repro] for CIFAR-10, [unverified] for the others. The paper's column of dropout is the probability to keep.
DROPOUT, STUDENT_DROPOUT = 0.5, 0.3
RATE, PRIOR_NETWORK_RATE = 1e-3, 5e-4
BATCH = 128  # [repro]
CLIP_NORM = 10.0  # [code]
TEMPERATURE = 10.0  # [repro]: T0 of EnD² for half of the cycle, then linearly down to 1 at its end
END_TEMPERATURE = 2.5  # [repro]: of EnD, to the end
SMOOTHING = 1e-4  # [repro]
# [code]: it rotates by .25 rad, 14.3°. At 64 pixels a side the shift is [unverified].
AUGMENTATION = Augmentation(flip=True, shift=4, rotation=15)

SINGLE, ENSEMBLE = "single", "ensemble"  # without students: a network alone, and all members
PAPER = ("end", "end_aux", "end2_nll", "end2_nll_aux", "prior_network")
RECOMMENDED = ("end2", "end2_aux")  # this package's EnD²; see losses.MeanPrecision
# What the paper reports of the same kind of model, where it isn't of the same name.
COUNTERPARTS = {"end2": "end2_nll", "end2_aux": "end2_nll_aux"}

SOURCE = "Malinin, Mlodozeniec & Gales (ICLR 2020), tables 3 and 4; ± two standard deviations over three models"


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a training is, and the part of it that the one-cycle schedule takes, both in epochs."""

    epochs: int
    cycle: int


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What differs between the data sets.

    Attributes:
        data: In-domain data, auxiliary inputs, OOD test sets.
        members: Of members and of the single network.
        prior_network: Of the Prior Network.
        students: Of EnD and EnD².
        test: The paper's table 3, by model and metric.
        ood: Its table 4, by set, model and metric.
        smoke: What of the data is used where only small sets are there.
    """

    data: Data
    members: Length
    prior_network: Length
    students: Length
    test: dict[str, dict[str, Figure]]
    ood: dict[str, dict[str, dict[str, Figure]]]
    smoke: dict[str, Any]


def family(name: str, protocol: Protocol) -> dict[str, Experiment]:
    """Returns the experiment with all methods, under the family's name, and `<name>_<method>` for each of them."""
    everything = _experiment(name, protocol, ("single_matched", *PAPER, *RECOMMENDED))
    everything = dataclasses.replace(
        everything,
        export=Export(models=("end2_aux",)),
        smoke=everything.smoke | {"student.methods": ("end2_nll", "end2_aux", "prior_network")},
    )
    alone = {method: _experiment(name, protocol, (method,)) for method in (*PAPER, *RECOMMENDED)}
    ensemble = dataclasses.replace(_experiment(name, protocol, ()), export=Export(models=(ENSEMBLE,)))
    one = {key: value for key, value in ensemble.smoke.items() if key != "ensemble.num_members"}
    single = dataclasses.replace(
        ensemble,
        ensemble=dataclasses.replace(ensemble.ensemble, num_members=1),
        published=_published(protocol, (SINGLE,)),
        export=Export(models=(SINGLE,)),
        smoke=one,
    )
    named = {SINGLE: single, ENSEMBLE: ensemble, **alone}
    return {name: everything} | {f"{name}_{method}": experiment for method, experiment in named.items()}


def _experiment(name: str, protocol: Protocol, shown: tuple[str, ...]) -> Experiment:
    methods = _methods(protocol)
    needs_auxiliary = any(methods[method].auxiliary for method in shown)
    return Experiment(
        data=protocol.data if needs_auxiliary else dataclasses.replace(protocol.data, auxiliary=None),
        ensemble=Ensemble(
            backbone="vgg16",
            options={"dropout": DROPOUT},
            num_members=MEMBERS,
            epochs=protocol.members.epochs,
            batch_size=BATCH,
            optimizer=_optimizer(RATE, protocol.members),
            augmentation=AUGMENTATION,
            mixed_precision=True,
        ),
        # [code], [repro]: members are recorded on the images as they are, and the student sees them augmented;
        # auxiliary images are never augmented.
        transfer=Transfer(mode="clean", augmentation=AUGMENTATION, dtype="float16"),
        methods=methods,
        student=Student(
            epochs=protocol.students.epochs,
            batch_size=BATCH,
            options={"dropout": STUDENT_DROPOUT},
            optimizer=_optimizer(RATE, protocol.students),
            num_seeds=SEEDS,
            methods=shown,
            mixed_precision=True,
        ),
        export=Export(models=shown),
        family=name,
        published=_published(protocol, (SINGLE, ENSEMBLE, *(COUNTERPARTS.get(method, method) for method in shown))),
        smoke=_SMOKE | protocol.smoke | ({"data.auxiliary": None} if not needs_auxiliary else {}),
    )


def _optimizer(rate: float, length: Length) -> Optimizer:
    """[code], [repro]: from the rate to ten times it and back in one cycle, then down to 1e-6."""
    return Optimizer(learning_rate=rate, schedule="one_cycle", cycle=length.cycle / length.epochs, clip_norm=CLIP_NORM)


def _methods(protocol: Protocol) -> dict[str, Method]:
    methods = default_methods()  # EnD² of the paper is annealed there
    cycle = protocol.students.cycle / protocol.students.epochs
    return methods | {
        "prior_network": dataclasses.replace(
            methods["prior_network"],
            optimizer=_optimizer(PRIOR_NETWORK_RATE, protocol.prior_network),
            epochs=protocol.prior_network.epochs,
        ),
        **{name: dataclasses.replace(methods[name], temperature=END_TEMPERATURE) for name in ("end", "end_aux")},
        **{
            name: dataclasses.replace(
                methods[name],
                loss_options={"smoothing": SMOOTHING},
                temperature=TEMPERATURE,
                temperature_cycle=cycle,
            )
            for name in ("end2_nll", "end2_nll_aux")
        },
    }


def _published(protocol: Protocol, models: tuple[str, ...]) -> Published:
    """Returns what the paper reports of these models."""
    return Published(
        source=SOURCE,
        test={model: figures for model, figures in protocol.test.items() if model in models},
        ood={
            name: {model: figures for model, figures in by_model.items() if model in models}
            for name, by_model in protocol.ood.items()
        },
    )


# A minute on two cores: few images, a quarter of the filters, dense layers of 64 units, and nothing annealed, since two
# epochs are no cycle. After so few steps batch normalisation needs moving statistics that forget their start.
_SMOKE = {
    "data.max_train": 600,
    "data.max_test": 300,
    **{
        f"{stage}.{field}": value
        for stage in ("ensemble", "student")
        for field, value in {
            "options.width": 16,
            "options.dense": 64,
            "options.momentum": 0.8,
            "batch_size": 32,
            "epochs": 2,
        }.items()
    },
    "ensemble.num_members": 2,
    "student.num_seeds": 1,
    "methods.prior_network.epochs": None,
    "methods.end2_nll.temperature": 1.0,
    "methods.end2_nll_aux.temperature": 1.0,
}
