from __future__ import annotations

import dataclasses

import pytest

from end2_tf import config, grid, registry
from end2_tf.config import Augmentation, Source
from end2_tf.errors import ConfigError
from end2_tf.grid import Study

RING = {"far": Source("ring", {"radius": 700.0})}
BASE = {"evaluation.split": "validation", "data.ood": RING}


def study(variants=None, **more):
    fields = {"title": "T", "question": "Q?", "experiment": "spirals_mlp_end2", "methods": ("end2",), "base": BASE}
    return Study(**(fields | {"variants": {"as it is": {}} if variants is None else variants} | more))


OF_ONE = [name for name in registry.studies() if isinstance(grid.find(name), Study)]


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("smoke", [False, True])
def test_every_study_comes_to_experiments_of_one_ensemble_or_is_about_ensembles(name, smoke):
    found = grid.find(name)
    experiments = grid.experiments(found, smoke=smoke)
    assert list(experiments) == list(found.variants)
    ensembles = {config.digest(e.ensemble, e.seed) for e in experiments.values()}
    assert len(ensembles) == (1 if found.methods or smoke else len(experiments))
    assert found.question.endswith("?")
    if not smoke:
        assert len({config.digest(e) for e in experiments.values()}) == len(experiments)  # no variant twice
    for experiment in experiments.values():
        assert experiment.evaluation.split == "validation"


def test_changes_come_in_order():
    found = study(
        {"one": {}, "two": {"student.epochs": 7, "student.methods": ("end",)}, "three": {"student.batch_size": 50}},
        num_seeds=2,
        base={**BASE, "student.batch_size": 20},
        smoke={"ensemble.epochs": 2},
    )
    one, two, three = grid.experiments(found).values()
    assert (one.student.methods, one.student.num_seeds, one.student.epochs) == (("end2",), 2, 300)
    assert (two.student.methods, two.student.epochs) == (("end",), 7)
    assert (one.student.batch_size, three.student.batch_size) == (20, 50)
    assert one.data.ood == RING
    small = grid.experiments(found, smoke=True, changes=["student.num_seeds=1", "seed=3"])["two"]
    assert (small.ensemble.num_members, small.ensemble.epochs) == (10, 2)  # the experiment's own, then the study's
    assert (small.student.epochs, small.student.num_seeds, small.seed) == (40, 1, 3)


@pytest.mark.parametrize("change", ["student.epochs=3", " student.epochs = 3", "student.optimizer={}"])
def test_what_a_study_varies_cannot_be_set_for_all_its_variants(change):
    found = study({"short": {"student.epochs": 7}, "fast": {"student.optimizer.learning_rate": 0.1}})
    with pytest.raises(ConfigError, match=r"--set has .*, but student\.\w+ is what the study varies\. Leave it out\."):
        grid.experiments(found, changes=[change])


def test_a_part_of_what_a_study_varies_can_be_set():
    found = study({"jitter": {"transfer.augmentation": Augmentation(jitter=0.2)}, "none": {}})
    for each in grid.experiments(found, changes=["transfer.augmentation.mixup=0.5", "student.epochs=3"]).values():
        assert (each.transfer.augmentation.mixup, each.student.epochs) == (0.5, 3)


def test_values_may_be_parts_of_a_config():
    found = study({"jitter": {"transfer.augmentation": Augmentation(jitter=0.2), "transfer.augmentation.mixup": 0.5}})
    (experiment,) = grid.experiments(found).values()
    assert experiment.transfer.augmentation == Augmentation(jitter=0.2, mixup=0.5)
    assert found.plain_variants["jitter"]["transfer.augmentation"] == {"jitter": 0.2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variants": {}}, "the study 'T' has no variants"),
        ({"experiment": "spiral"}, "a study's experiment is 'spiral'"),
        ({"base": {"data.ood": RING}}, r"variant 'as it is' has evaluation\.split 'test'.*Set evaluation\.split=valid"),
        ({"methods": ("end3",)}, "'end3'"),
        ({"variants": {"x": {"student.epoch": 3}}}, "Did you mean 'epochs'"),
        (
            {"base": {"evaluation.split": "validation"}},
            r"variant 'as it is' has data\.ood\.ring_410 'ring', a test set of the experiment",
        ),
    ],
)
def test_what_cannot_be_a_study(fields, message):
    with pytest.raises(ConfigError, match=message):
        grid.experiments(study(**fields))


@pytest.mark.parametrize(
    "change",
    [
        {"data.ood.x": Source("mnist", {"image_size": 20})},
        {"data.ood.x": Source("mnist:3.0.1")},
        {"data.auxiliary": Source("not_mnist")},
        {"data.auxiliary": Source("several", {"of": ["cifar100", {"name": "mnist"}], "size": 28, "channels": 1})},
        {"data.ood.x": Source("corrupted", {"of": "mnist", "kind": "fog", "severity": 1})},
        {"data.shifted.x": Source("corrupted", {"of": "fashion_mnist", "kind": "fog", "severity": 1})},
    ],
)
def test_test_sets_take_no_part_however_they_are_named(change):
    found = study(
        {"x": change},
        experiment="fashion_mnist_mlp_end2",
        base={"evaluation.split": "validation", "data.ood": {"cifar10": Source("cifar10")}},
    )
    with pytest.raises(ConfigError, match=r"a test set of the experiment|is the in-domain test split, corrupted"):
        grid.experiments(found)
    grid.experiments(study({"x": {"data.ood.y": Source("svhn_cropped")}}))


def test_an_experiment_keeps_its_auxiliary_set_whose_test_split_it_is_tested_on():
    base = {"evaluation.split": "validation", "data.ood": {}}
    found = study(experiment="cifar100_vgg16", base=base, methods=("end2_aux",))
    (experiment,) = grid.experiments(found).values()
    assert experiment.data.auxiliary == registry.experiments()["cifar100_vgg16"].data.ood["tiny_imagenet"]
    with pytest.raises(ConfigError, match=r"has data\.auxiliary 'svhn_cropped', a test set of the experiment"):
        grid.experiments(found, changes=["data.auxiliary=svhn_cropped"])


@pytest.mark.parametrize("name", [name for name in registry.studies() if name.endswith("_saturation")])
def test_saturation_doubles_the_epochs_of_the_members_that_are_published(name):
    found = grid.find(name)
    published = registry.experiments()[found.experiment].ensemble
    once, twice = (e.ensemble for e in grid.experiments(found).values())
    assert once == published
    assert twice == dataclasses.replace(published, epochs=2 * published.epochs, num_members=4)


def test_a_change_that_comes_again_counts_where_it_comes_last():
    path = "transfer.augmentation.mixup"
    found = study({"x": {"transfer.augmentation": Augmentation(jitter=0.2), path: 0.5}}, base={**BASE, path: 0.3})
    (variant,) = grid.experiments(found).values()
    assert variant.transfer.augmentation == Augmentation(jitter=0.2, mixup=0.5)
