from __future__ import annotations

from pathlib import Path

import pytest

from end2_tf import config, registry
from end2_tf.plan import Plan
from end2_tf.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def experiment():
    return registry.experiments()["spirals_mlp_end2"]


def digests(experiment, tmp_path):
    plan = Plan(experiment, Workdir(tmp_path), None)
    return plan.ensemble.digest, plan.transfer.digest, plan.student("end2_aux", 0).digest, plan.evaluation.digest


@pytest.mark.parametrize("field", ["data.ood.far", "data.shifted.noisy"])
def test_another_test_set_is_evaluated_and_nothing_is_trained_again(experiment, tmp_path, field):
    changed = config.override(experiment, [f"{field}.name=spirals", f"{field}.options.noise=0.6"])
    *trained, evaluation = digests(experiment, tmp_path)
    *still, another = digests(changed, tmp_path)
    assert still == trained
    assert another != evaluation


def test_more_noise_is_another_evaluation(experiment, tmp_path):
    first, second = (
        config.override(experiment, ["data.shifted.n.name=spirals", f"data.shifted.n.options.noise={noise}"])
        for noise in (0.5, 0.6)
    )
    assert digests(first, tmp_path)[-1] != digests(second, tmp_path)[-1]


def test_another_split_is_another_evaluation_alone(experiment, tmp_path):
    *trained, evaluation = digests(experiment, tmp_path)
    *still, another = digests(config.override(experiment, ["evaluation.split=validation"]), tmp_path)
    assert still == trained
    assert another != evaluation


def test_fewer_members_make_another_student_of_the_same_recordings(experiment, tmp_path):
    changed = config.override(experiment, ["transfer.num_members=5"])
    ensemble, transfer, student, evaluation = digests(experiment, tmp_path)
    assert digests(changed, tmp_path)[:2] == (ensemble, transfer)
    assert digests(changed, tmp_path)[2] != student
    assert digests(changed, tmp_path)[3] != evaluation
    plans = [Plan(e, Workdir(tmp_path), None) for e in (experiment, changed)]
    assert plans[0].student("single_matched", 0).digest == plans[1].student("single_matched", 0).digest
    assert (plans[0].num_taught, plans[1].num_taught) == (None, 5)
    everyone = config.override(experiment, ["transfer.num_members=100"])
    assert digests(everyone, tmp_path) == (ensemble, transfer, student, evaluation)


def test_one_artefact_is_one_object(experiment, tmp_path):
    root = Workdir(tmp_path)
    assert Plan(experiment, root, None).student("end2", 0) is Plan(experiment, root, None).student("end2", 0)


def test_what_an_auxiliary_set_and_its_views_change(experiment, tmp_path):
    for change in (
        "data.auxiliary.options.radius=700",
        "transfer.auxiliary_augmentation.mixup=0.5",
        "transfer.auxiliary_share=0.3",
    ):
        one, other = (Plan(e, Workdir(tmp_path), None) for e in (experiment, config.override(experiment, [change])))
        assert one.transfer.digest == other.transfer.digest
        assert one.student("end2", 0).digest == other.student("end2", 0).digest
        assert one.student("end2_aux", 0).digest != other.student("end2_aux", 0).digest


def test_labels_are_learnt_on_the_members_inputs_or_on_their_own(experiment, tmp_path):
    same = config.override(experiment, ["transfer.augmentation.jitter=0.3", "transfer.num_views=3"])
    own = config.override(experiment, ["methods.single_matched.augmentation.jitter=0.3"])
    theirs = config.override(experiment, ["ensemble.augmentation.jitter=0.3"])
    plans = [Plan(e, Workdir(tmp_path), None) for e in (experiment, same, own, theirs)]
    digests = [plan.student("single_matched", 0).digest for plan in plans]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    assert plans[0].label_augmentation("single_matched").is_identity
    assert plans[2].label_augmentation("single_matched").jitter == 0.3


def test_auxiliary_recordings_stay_when_in_domain_views_change(experiment, tmp_path):
    changed = config.override(experiment, ["transfer.augmentation.jitter=0.3"])
    one, other = (Plan(e, Workdir(tmp_path), None) for e in (experiment, changed))
    assert one.auxiliary.digest == other.auxiliary.digest
    assert one.transfer.digest != other.transfer.digest
    assert one.student("end2_aux", 0).digest != other.student("end2_aux", 0).digest


def test_a_method_can_have_more_seeds_than_the_others(experiment, tmp_path):
    changes = ["student.methods=end,end2_aux", "student.num_seeds=1", "student.seeds_of.end2_aux=3"]
    before = Plan(experiment, Workdir(tmp_path), None)
    plan = Plan(config.override(experiment, changes), Workdir(tmp_path), None)
    assert [(method, seed) for method, seed, _ in plan.students()] == [("end", 0), *(("end2_aux", s) for s in range(3))]
    assert plan.student("end2_aux", 2).digest == before.student("end2_aux", 2).digest


def test_what_no_training_sees_trains_nothing_again(experiment, tmp_path):
    *trained, evaluation = digests(experiment, tmp_path)
    *still, another = digests(config.override(experiment, ["data.max_test=50"]), tmp_path)
    assert still == trained
    assert another != evaluation
    own = config.override(experiment, ["methods.end2_aux.optimizer.learning_rate=0.02"])
    changed = config.override(own, ["student.optimizer.learning_rate=0.5"])
    assert digests(own, tmp_path)[2] == digests(changed, tmp_path)[2]


def test_epochs_of_a_method_take_the_place_of_the_students(experiment, tmp_path):
    own = config.override(experiment, ["methods.end2_nll_aux.epochs=90"])
    both = config.override(own, ["student.epochs=45"])
    plans = [Plan(e, Workdir(tmp_path), None) for e in (experiment, own, both)]
    one, two, three = (plan.student("end2_nll_aux", 0).digest for plan in plans)
    assert one != two == three
    assert plans[0].student("end2", 0).digest == plans[1].student("end2", 0).digest
    # An annealed temperature depends on the epochs, and so do recorded statistics.
    kept = ["transfer.keep=statistics", "student.methods=end2_nll_aux"]
    recorded = [
        Plan(config.override(e, [*kept, *more]), Workdir(tmp_path), None).transfer.digest
        for e, more in ((experiment, []), (own, []), (own, ["student.epochs=45"]), (own, ["student.epochs=90"]))
    ]
    assert recorded[0] != recorded[1] == recorded[2] == recorded[3]


@pytest.mark.parametrize(
    "change",
    [
        "methods.end2_aux.labels=0.1",
        "student.optimizer.average=0.9",
        "student.optimizer.floor=0.1",
        "transfer.augmentation.share=0.5",
    ],
)
def test_what_changes_a_student_is_another_student(experiment, tmp_path, change):
    assert digests(config.override(experiment, [change]), tmp_path)[2] != digests(experiment, tmp_path)[2]


def test_what_is_held_out_from_members_makes_other_members(experiment, tmp_path):
    half, third = (config.override(experiment, [f"ensemble.held_out_fraction={share}"]) for share in (0.5, 1 / 3))
    assert len({digests(each, tmp_path)[0] for each in (experiment, half, third)}) == 3


@pytest.mark.parametrize("changes", [[], [f"ensemble.models={ROOT / 'zoo' / 'spirals_mlp_ensemble' / 'model.keras'}"]])
def test_a_recording_is_of_the_inputs_that_students_are_shown(experiment, tmp_path, changes):
    shown = [
        config.override(experiment, [*changes, "ensemble.held_out_fraction=0.5", f"transfer.inputs={inputs}"])
        for inputs in ("all", "held_out", "seen")
    ]
    found = [digests(each, tmp_path) for each in shown]
    assert len({ensemble for ensemble, *_ in found}) == 1
    assert len({transfer for _, transfer, *_ in found}) == 3
    assert len({student for _, _, student, _ in found}) == 3
    plans = [Plan(each, Workdir(tmp_path), None) for each in shown]
    assert len({plan.auxiliary.digest for plan in plans}) == 1  # which none of them changes
    assert len({plan.student("single_matched", 0).digest for plan in plans}) == 1
    third = config.override(shown[1], ["ensemble.held_out_fraction=0.3"])
    assert digests(third, tmp_path)[1] != found[1][1]
