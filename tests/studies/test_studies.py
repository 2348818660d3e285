"""Studies of any experiment: what they come to for the experiments there are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from end2_tf import config, grid, registry
from end2_tf.config import Data, Ensemble, Experiment, Method, Source, Student
from end2_tf.errors import ConfigError
from end2_tf.plan import Plan
from end2_tf.workdir import Workdir

TEMPLATES = [name for name in registry.studies() if isinstance(grid.find(name), grid.Template)]
OWN = registry.experiments()


def made(study, experiment="spirals_mlp_end2", *, smoke=False, changes=None):
    found = grid.make(study, experiment, smoke=smoke, changes=changes)
    return found, grid.experiments(found, smoke=smoke, changes=changes)


def test_there_are_five_of_them():
    assert TEMPLATES == ["aux_share", "capacity", "loss", "num_members", "temperature"]


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("experiment", OWN)
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_experiment_can_be_asked_or_says_what_it_lacks(name, experiment, smoke):
    has_no_widths = experiment in ("own_data_end2", "imagenet_resnet50_end2")
    if (name == "capacity" and has_no_widths) or (name == "aux_share" and OWN[experiment].data.auxiliary is None):
        with pytest.raises(ConfigError, match="Name "):
            made(name, experiment, smoke=smoke)
        return
    study, found = made(name, experiment, smoke=smoke)
    assert study.question == grid.find(name).question
    assert study.question.endswith("?")
    assert study.title.endswith(f": {experiment}")
    original = OWN[experiment]
    if smoke:
        original = config.override(original, original.smoke)
    tested = [*OWN[experiment].data.ood.values(), *OWN[experiment].data.shifted.values()]
    for each in found.values():
        assert each.ensemble == original.ensemble  # one ensemble serves all
        assert each.evaluation.split == "validation"
        assert each.data.shifted == {}
        assert not any(source in tested for source in each.data.ood.values())
        assert each.student.num_seeds == (2 if smoke else 3)
        assert each.data == dataclasses.replace(original.data, ood=each.data.ood, shifted={})
    if study.axis is not None:
        assert set(study.axis.positions) == set(found)


def test_numbers_of_members_end_with_all_there_are():
    study, found = made("num_members")
    assert list(study.axis.positions.values()) == [1, 2, 5, 10, 20, 50, 100]
    assert study.axis.is_log
    assert [e.transfer.num_members for e in found.values()] == [1, 2, 5, 10, 20, 50, None]
    assert study.methods == ("end2_nll_aux", "end2_aux")
    study, found = made("num_members", "cifar10_cnn_end2")
    assert list(study.axis.positions) == ["1 member", "2 members", "5 members", "8 members"]
    assert [e.transfer.num_members for e in found.values()] == [1, 2, 5, None]
    _, found = made("num_members", changes=["ensemble.num_members=5", "transfer.mode=clean"])
    assert list(found) == ["1 member", "2 members", "5 members"]
    assert all(e.ensemble.num_members == 5 and e.transfer.mode == "clean" for e in found.values())


def test_numbers_of_own_members_are_counted(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.keras").touch()
    study, _ = made("num_members", changes=[f"ensemble.models={tmp_path}/*.keras"])
    assert list(study.axis.positions.values()) == [1, 2, 3]
    with pytest.raises(ConfigError, match="which no file matches"):
        made("num_members", changes=[f"ensemble.models={tmp_path}/*.h5"])


def test_recorded_members_are_counted_and_nothing_is_asked_of_them(tmp_path):
    np.savez(tmp_path / "said.npz", probs=np.full((5, 7, 3), 1 / 3, np.float32), digests=np.arange(5, dtype=np.uint64))
    np.save(tmp_path / "logits.npy", np.zeros((5, 4, 3), np.float32))
    changes = ["transfer.mode=clean", "transfer.keep_inputs=false"]
    study, found = made("num_members", changes=[*changes, f"ensemble.predictions={tmp_path}/said.npz"])
    assert list(study.axis.positions.values()) == [1, 2, 5, 7]
    assert all(each.data.ood == {} for each in found.values())  # of rings there are no predictions
    study, _ = made("num_members", changes=[*changes, f"ensemble.predictions={tmp_path}"])
    assert list(study.axis.positions.values()) == [1, 2, 4]
    for wrong in ("none.npz", "said.txt"):
        (tmp_path / "said.txt").write_text("no arrays")
        with pytest.raises(ConfigError, match=r"in which members can't be counted\. Give an"):
            made("num_members", changes=[*changes, f"ensemble.predictions={tmp_path}/{wrong}"])


def test_one_recording_serves_all_numbers_of_members(tmp_path):
    _, found = made("num_members", smoke=True)
    plans = [Plan(each, Workdir(tmp_path), None) for each in found.values()]
    assert len({plan.ensemble.digest for plan in plans}) == 1
    assert len({recording.digest for plan in plans for recording in plan.all_recordings()}) == 2
    assert len({artefact.digest for plan in plans for _, _, artefact in plan.students()}) == 4 * 2 * 2


@pytest.mark.parametrize(("name", "label"), [("num_members", "100 members"), ("aux_share", "50 % auxiliary")])
def test_students_of_the_experiment_as_it_is_are_its_own(tmp_path, name, label):
    _, found = made(name)
    _, capacities = made("capacity")
    own = {a.digest for _, _, a in Plan(OWN["spirals_mlp_end2"], Workdir(tmp_path), None).students()}
    for each in (found[label], capacities["width × 1, the experiment's"]):
        seeds_0 = {a.digest for _, seed, a in Plan(each, Workdir(tmp_path), None).students() if seed == 0}
        assert len(seeds_0) == 2
        assert seeds_0 <= own


def test_temperatures_are_those_of_the_paper_and_leave_out_labels():
    study, found = made("temperature", "fashion_mnist_mlp_end2")
    assert list(study.axis.positions.values()) == [1, 2, 5, 10, 20]
    assert study.methods == ("end_aux", "end2_nll_aux")
    for temperature, each in zip((1, 2, 5, 10, 20), found.values(), strict=True):
        assert each.methods["end_aux"].temperature == each.methods["end2_nll_aux"].temperature == temperature
        assert each.methods["end_aux"].labels == 0  # .3 in the experiment
        assert each.methods["end2_nll_aux"].temperature_schedule == "anneal"
    _, small = made("temperature", "fashion_mnist_mlp_end2", smoke=True)
    assert {e.student.epochs for e in small.values()} == {4}  # instead of 2, in which nothing can be annealed
    _, small = made("temperature", smoke=True)
    assert {e.student.epochs for e in small.values()} == {40}
    _, small = made("temperature", smoke=True, changes=["student.epochs=9"])
    assert {e.student.epochs for e in small.values()} == {9}


def test_each_loss_is_used_as_the_experiment_uses_it():
    _, found = made("loss", "fashion_mnist_mlp_end2")
    assert list(found) == registry.names("loss")
    used = {label: each.student.methods for label, each in found.items()}
    assert used["cross_entropy"] == ("single_matched",)
    assert used["mean_precision"] == ("end2_aux",)
    assert used["proxy_reverse_kl"] == ("end2_proxy_aux",)
    own = OWN["fashion_mnist_mlp_end2"].methods
    assert all(each.methods[name] == own[name] for each in found.values() for name in own)
    (added,) = found["proxy_forward_kl"].student.methods
    assert found["proxy_forward_kl"].methods[added] == Method("proxy_forward_kl", offset=1.0, auxiliary=True)
    _, found = made("loss", "own_data_end2")
    assert "prior_network" not in found  # without auxiliary inputs
    assert all(not e.methods[m].auxiliary for e in found.values() for m in e.student.methods)


def test_shares_begin_without_auxiliary_inputs_and_have_the_experiments_own():
    study, found = made("aux_share", "fashion_mnist_mlp_end2")
    assert list(study.axis.positions.values()) == pytest.approx([0, 10, 25, 100 / 3, 50, 75])
    none, *others = found.values()
    assert study.methods == ("end2_nll_aux", "end2_aux")
    assert not any(none.methods[m].auxiliary for m in study.methods)
    assert none.methods["end2_aux"] == none.methods["end2"]
    assert all(each.methods[m].auxiliary for each in others for m in study.methods)
    assert [each.transfer.auxiliary_share for each in others] == pytest.approx([0.1, 0.25, 1 / 3, 0.5, 0.75])


def test_capacity_scales_the_students_width_and_keeps_its_other_options():
    study, found = made("capacity")
    assert study.methods == ("single_matched", "end2_aux")
    assert list(study.axis.positions.values()) == [0.25, 0.5, 1, 2]
    assert [e.student.options for e in found.values()] == [
        {"hidden": [16, 16, 16], "sine": "last", "sine_scale": 2.0},
        {"hidden": [32, 32, 32], "sine": "last", "sine_scale": 2.0},
        None,
        {"hidden": [128, 128, 128], "sine": "last", "sine_scale": 2.0},
    ]
    _, found = made("capacity", "cifar10_cnn_end2")
    assert found["width × 0.5"].student.options == {
        "filters": [16, 32, 64, 64],
        "convolutions": [1, 1, 1, 2],
        "dense": 64,
        "dropout": 0.3,
        "batch_norm": True,
    }
    _, found = made("capacity", "cifar10_vgg16_end2")  # of whose width the experiment says nothing: 2048
    assert found["width × 0.25"].student.options == {"dropout": 0.3, "dense": 512}
    _, found = made("capacity", "cifar10_cnn_end2", changes=["student.backbone=mlp"])  # the members' options aren't its
    assert found["width × 2"].student.options == {"hidden": [128, 128, 128]}


def test_layers_of_one_unit_are_not_halved():
    study, found = made("capacity", changes=["ensemble.options.hidden=[2]"])
    assert study.axis.positions == {"width × 0.25": 0.25, "width × 1, the experiment's": 1, "width × 2": 2}
    assert [e.student.options and e.student.options["hidden"] for e in found.values()] == [[1], None, [4]]


@pytest.mark.parametrize(
    ("name", "experiment", "changes", "message"),
    [
        ("num_members", None, [], "--study=num_members can be asked of any experiment, but --experiment is missing"),
        ("num_members", "spiral", [], r"--experiment is 'spiral', which isn't an experiment. Did you mean"),
        ("spirals_mlp_saturation", "spirals_mlp_end2", [], "is a study of 'spirals_mlp_end2' alone"),
        (
            "capacity",
            "imagenet_resnet50_end2",
            [],
            r"'resnet50', which has no option.*one: cnn, mlp, resnet18, vgg16, wrn28_10",
        ),
        ("capacity", "spirals_mlp_end2", ["ensemble.models=*.keras"], r"layers the student copies.*student\.backbone"),
        ("aux_share", "own_data_end2", [], r"data\.auxiliary of 'own_data_end2' is none"),
        ("temperature", "spirals_mlp_end2", ["student.methods=end2"], r"student\.methods is end2, by which the var"),
        ("temperature", "spirals_mlp_end2", ["evaluation.split=test"], r"Set evaluation\.split=validation"),
        ("num_members", "spirals_mlp_end2", ["transfer.num_members=3"], r"transfer\.num_members is what the study"),
        ("loss", "spirals_mlp_end2", ["student.methods=end2"], r"student\.methods is what the study varies. Leave it"),
        ("loss", "fashion_mnist_mlp_end2", ["data.ood=mnist"], "'mnist', a test set of the experiment"),
    ],
)
def test_what_cannot_be_asked(name, experiment, changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        made(name, experiment, changes=changes)
    assert "\n" not in str(caught.value)


def test_an_experiment_without_the_methods_of_a_study(monkeypatch):
    bare = Experiment(methods={"mine": Method("cross_entropy")}, student=Student(methods=("mine",)))
    monkeypatch.setattr(registry, "experiments", lambda: {"bare": bare})
    with pytest.raises(ConfigError, match=r"methods of 'bare' is mine: none has the loss ensemble_distillation or dir"):
        made("temperature", "bare")
    _, found = made("loss", "bare")
    assert found["cross_entropy"].student.methods == ("mine",)
    assert found["dirichlet_nll"].methods["dirichlet_nll"].temperature == 10  # as is recommended


def test_what_a_user_sets_is_kept():
    changes = ["student.num_seeds=5", "student.methods=end2_aux", "data.ood={}", "methods.end2_aux.labels=0.2"]
    _, found = made("num_members", changes=changes)
    for each in found.values():
        assert (each.student.num_seeds, each.student.methods, each.data.ood) == (5, ("end2_aux",), {})
        assert each.methods["end2_aux"].labels == 0.2


def test_ood_sets_suit_the_data():
    _, found = made("loss", "spirals_mlp_end2")
    assert set(found["mean_precision"].data.ood) == {"ring_450", "ring_900"}
    _, found = made("loss", "cifar10_cnn_end2")
    assert set(found["mean_precision"].data.ood) == {"gratings", "procedural"}
    auxiliary = {part.name: part for part in OWN["cifar10_cnn_end2"].data.auxiliary.parts()}
    assert found["mean_precision"].data.ood["procedural"] != auxiliary["procedural"]
    _, found = made("loss", "own_data_end2")  # images or features, who knows
    assert found["mean_precision"].data.ood == {}


def test_data_and_backbones_that_are_not_ours(monkeypatch):
    other = Experiment(
        data=Data("svhn_cropped", auxiliary=Source("cifar100")), ensemble=Ensemble(backbone="cnn", num_members=3)
    )
    monkeypatch.setattr(registry, "experiments", lambda: {"other": other})
    _, found = made("capacity", "other")
    assert set(found["width × 2"].data.ood) == {"gratings", "procedural"}
    assert found["width × 2"].student.options == {"filters": [32, 64, 128], "dense": 128}
