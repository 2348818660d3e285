"""The paper's experiments against the reference's tables, transcribed here a second time."""

import os

import pytest

from end2_tf import cli, config, registry
from end2_tf.data import dataset
from end2_tf.plan import Plan
from end2_tf.workdir import Workdir

FAMILIES = ("cifar10_vgg16", "cifar100_vgg16", "tiny_imagenet_vgg16")
METHODS = ("end", "end_aux", "end2_nll", "end2_nll_aux", "end2", "end2_aux", "prior_network")
NAMES = [f"{family}_{method}" for family in FAMILIES for method in ("single", "ensemble", *METHODS)]

# Epochs and cycle: of members, of the Prior Network, of EnD and EnD².
LENGTHS = {
    "cifar10_vgg16": ((45, 30), (45, 30), (90, 60)),
    "cifar100_vgg16": ((100, 70), (100, 70), (200, 140)),
    "tiny_imagenet_vgg16": ((120, 80), (120, 80), (240, 160)),
}

# Tables 3 and 4: individual | ensemble | EnD | EnD² | EnD + AUX | EnD² + AUX | PN + AUX, per cent but for NLL and PRR.
COLUMNS = ("single", "ensemble", "end", "end2_nll", "end_aux", "end2_nll_aux", "prior_network")
TABLE_3 = """
cifar10_vgg16 error|8.0±.4|6.2|6.7±.3|7.3±.2|6.7±.2|6.9±.2|7.5±.3
cifar10_vgg16 prr|84.6±1.2|86.8|84.8±.8|85.3±1.1|85.1±.1|85.7±.3|82.0±1.4
cifar10_vgg16 ece|2.2±.4|1.3|2.6±.2|1.0±.2|2.6±.6|2.2±.4|12.0±.7
cifar10_vgg16 nll|.25±.01|.19|.22±.01|.25±.01|.22±.01|.24±.00|.38±.01
cifar100_vgg16 error|30.4±.3|26.3|28.0±.4|27.9±.3|28.2±.3|28.0±.5|28.0±.7
cifar100_vgg16 prr|72.5±1.0|75.0|73.1±.5|73.7±.7|74.0±.3|74.0±.2|63.7±.8
cifar100_vgg16 ece|9.3±.8|1.2|8.2±.3|4.9±.5|1.9±.3|5.6±.5|37.9±.4
cifar100_vgg16 nll|1.16±.03|.88|1.06±.01|1.14±.01|.98±.00|1.14±.01|1.87±.03
tiny_imagenet_vgg16 error|41.8±.6|36.6|38.3±.2|37.6±.2|38.5±.3|37.3±.5|40.0±.6
tiny_imagenet_vgg16 prr|70.8±1.1|73.8|72.2±.2|73.1±.1|72.6±1.3|72.7±1.1|62.3±.6
tiny_imagenet_vgg16 ece|18.3±.8|3.8|14.8±.4|7.2±.4|14.9±.3|7.2±.2|39.1±1.0
tiny_imagenet_vgg16 nll|2.15±.05|1.51|1.77±.01|1.83±.02|1.78±.01|1.84±.02|2.61±.01
"""
TABLE_4 = """
cifar10_vgg16 lsun total|91.3±1.3|94.5|89.0±1.3|91.5±.8|88.6±1.1|94.4±.7|95.7±.9
cifar10_vgg16 lsun knowledge|-|94.4|-|92.2±.7|-|93.8±.7|95.8±.8
cifar10_vgg16 tiny_imagenet total|88.9±1.6|91.8|86.9±1.2|88.6±1.5|86.5±1.6|91.3±.8|95.7±.7
cifar10_vgg16 tiny_imagenet knowledge|-|91.4|-|88.8±1.6|-|90.6±.7|95.8±.8
cifar100_vgg16 lsun total|75.6±1.1|82.4|73.8±.6|80.6±1.1|80.6±.6|83.6±.5|74.8±1.7
cifar100_vgg16 lsun knowledge|-|88.4|-|83.8±.9|-|86.5±.5|73.8±2.2
cifar100_vgg16 tiny_imagenet total|70.5±1.5|76.6|68.5±1.2|74.4±1.5|74.2±.8|77.7±.9|73.4±2.9
cifar100_vgg16 tiny_imagenet knowledge|-|81.7|-|-|-|-|-
"""
SHARES = ("error", "ece", "total", "knowledge")


def _transcribed(table):
    for line in table.strip().splitlines():
        head, *cells = line.split("|")
        family, *where = head.split()
        scale = 100 if where[-1] in SHARES else 1
        for model, cell in zip(COLUMNS, cells, strict=True):
            if cell != "-":
                mean, _, spread = cell.partition("±")
                yield family, where, model, float(mean) / scale, float(spread) / scale if spread else None


@pytest.fixture
def no_data(monkeypatch):
    """Digests of what data are named instead of their files, which aren't here."""

    def fingerprint(data, data_dir):
        parts = (data.name, data.options, data.validation_fraction, data.max_train, data.auxiliary, data.ood)
        return config.digest(*parts)

    monkeypatch.setattr(dataset, "fingerprint", fingerprint)


def _plan(name, tmp_path, *, smoke=False):
    experiment = registry.experiments()[name]
    if smoke:
        experiment = config.override(experiment, experiment.smoke)
    return Plan(experiment, Workdir(tmp_path), None)


def test_every_method_has_an_experiment_on_every_data_set():
    assert set(NAMES) | set(FAMILIES) <= set(registry.experiments())
    for name in NAMES:
        family, method = next((f, name.removeprefix(f"{f}_")) for f in FAMILIES if name.startswith(f"{f}_"))
        experiment = registry.experiments()[name]
        assert experiment.student.methods == ((method,) if method in METHODS else ())
        assert experiment.family == family
        config.check_exported(experiment)
        assert (experiment.data.auxiliary is not None) == (method.endswith("_aux") or method == "prior_network")
    for family in FAMILIES:
        assert set(registry.experiments()[family].student.methods) == {"single_matched", *METHODS}


@pytest.mark.parametrize("name", [*FAMILIES, *NAMES])
def test_the_protocol(name):
    experiment = registry.experiments()[name]
    (epochs, cycle), prior_network, (student_epochs, student_cycle) = LENGTHS[experiment.family]
    members, student, methods = experiment.ensemble, experiment.student, experiment.methods
    assert members.backbone == "vgg16"
    assert members.num_members == (1 if name.endswith("_single") else 100)
    assert members.options == {"dropout": 0.5}
    assert student.options == {"dropout": 0.3}
    assert members.batch_size == student.batch_size == 128
    assert student.num_seeds == 3
    for optimizer in (members.optimizer, student.optimizer):
        assert (optimizer.name, optimizer.learning_rate, optimizer.schedule) == ("adam", 1e-3, "one_cycle")
        assert optimizer.clip_norm == 10
    assert (members.epochs, members.optimizer.cycle * members.epochs) == pytest.approx((epochs, cycle))
    assert (student.epochs, student.optimizer.cycle * student.epochs) == pytest.approx((student_epochs, student_cycle))
    how = methods["prior_network"]
    assert (how.epochs, how.optimizer.cycle * how.epochs) == pytest.approx(prior_network)
    assert how.optimizer.learning_rate == 5e-4
    for each in ("end", "end_aux"):
        assert (methods[each].loss, methods[each].temperature) == ("ensemble_distillation", 2.5)
        assert methods[each].temperature_schedule == "constant"
    for each in ("end2_nll", "end2_nll_aux"):
        assert (methods[each].loss, methods[each].temperature) == ("dirichlet_nll", 10)
        assert methods[each].loss_options == {"smoothing": 1e-4}
        assert methods[each].temperature_schedule == "anneal"
        assert methods[each].temperature_cycle * student.epochs == pytest.approx(student_cycle)
    assert methods["end2"].loss == methods["end2_aux"].loss == "mean_precision"
    assert (members.augmentation.flip, members.augmentation.shift, members.augmentation.rotation) == (True, 4, 15)
    assert experiment.transfer.augmentation == members.augmentation
    assert experiment.transfer.auxiliary_augmentation.is_identity
    assert experiment.transfer.mode == "clean"


def test_auxiliary_and_ood_sets():
    sets = {family: registry.experiments()[family].data for family in FAMILIES}
    assert sets["cifar10_vgg16"].auxiliary == config.Source("cifar100")
    tiny_imagenet = config.Source("tiny_imagenet", {"size": 32})
    assert sets["cifar100_vgg16"].auxiliary == sets["cifar100_vgg16"].ood["tiny_imagenet"] == tiny_imagenet
    for family in FAMILIES[:2]:
        assert list(sets[family].ood) == ["lsun", "tiny_imagenet", "svhn_cropped"]
    assert list(sets["tiny_imagenet_vgg16"].ood) == ["lsun", "svhn_cropped"]


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_shares_members_recordings_and_students(no_data, tmp_path, family, smoke):
    everything = _plan(family, tmp_path, smoke=smoke)
    for method in ("ensemble", *METHODS):
        alone = _plan(f"{family}_{method}", tmp_path, smoke=smoke)
        assert alone.ensemble.digest == everything.ensemble.digest
        assert alone.transfer.digest == everything.transfer.digest
        for name, seed, student in alone.students():
            assert student.digest == everything.student(name, seed).digest
            if alone.experiment.data.auxiliary is not None:
                assert alone.auxiliary.digest == everything.auxiliary.digest
    assert _plan(f"{family}_single", tmp_path, smoke=smoke).ensemble.digest != everything.ensemble.digest


SMALL_SETS = ("cifar10", "cifar100", "tiny_imagenet32")
REAL = os.environ.get("END2_TEST_DATA_DIR", "")


@pytest.mark.skipif(
    not all(os.path.isdir(os.path.join(REAL, name)) for name in SMALL_SETS),
    reason=f"{', '.join(SMALL_SETS)} aren't all in END2_TEST_DATA_DIR={REAL}",
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is also the auxiliary set")
@pytest.mark.parametrize(("family", "num_classes"), [*zip(FAMILIES, (10, 100, 200), strict=True)])
def test_small_versions_have_their_data_in_small_sets(family, num_classes):
    experiments = [e for e in registry.experiments().values() if e.family == family]
    smoke = [config.override(e, e.smoke).data for e in experiments]
    for each in smoke:
        dataset.fingerprint(each, data_dir=REAL)
    with_auxiliary = next(each for each in smoke if each.auxiliary)
    data = dataset.load(with_auxiliary, data_dir=REAL, download=False, seed=0)
    assert data.num_classes == num_classes
    assert data.input_shape == (32, 32, 3)
    assert 300 <= len(data.auxiliary) <= 800
    (unseen,) = data.ood.values()
    shown, unseen = ({image.tobytes() for image in part.inputs} for part in (data.auxiliary, unseen))
    assert not shown & unseen


def test_what_is_published_is_no_part_of_a_digest(no_data, tmp_path):
    plan = _plan("cifar10_vgg16_end2", tmp_path)
    changed = config.override(plan.experiment, {"published": None, "family": None})
    other = Plan(changed, Workdir(tmp_path), None)
    assert other.evaluation.digest == plan.evaluation.digest
    assert other.student("end2", 0).digest == plan.student("end2", 0).digest


def test_published_figures():
    expected = {}
    for family, (metric,), model, mean, spread in _transcribed(TABLE_3):
        expected[family, "test", model, metric] = (mean, spread)
    for family, (name, kind), model, mean, spread in _transcribed(TABLE_4):
        expected[family, name, model, f"ood_auroc_{kind}"] = (mean, spread)
    found = {}
    for family in FAMILIES:
        published = registry.experiments()[family].published
        for name, by_model in {"test": published.test, **published.ood}.items():
            for model, figures in by_model.items():
                found |= {(family, name, model, metric): figure for metric, figure in figures.items()}
    assert found.keys() == expected.keys()
    for key, (mean, spread) in expected.items():
        assert found[key][0] == pytest.approx(mean), key
        assert found[key][1] == (None if spread is None else pytest.approx(spread)), key


@pytest.mark.parametrize(
    ("method", "models"),
    [
        ("single", {"single"}),
        ("ensemble", {"single", "ensemble"}),
        ("end_aux", {"single", "ensemble", "end_aux"}),
        ("end2", {"single", "ensemble", "end2_nll"}),  # the paper's is of another loss, and so under its name
    ],
)
def test_a_single_method_is_shown_its_own_figures(method, models):
    published = registry.experiments()[f"cifar10_vgg16_{method}"].published
    assert set(published.test) == set(published.ood["lsun"]) == models


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "runs/cifar10_vgg16\n"),
        (("--smoke",), "runs/cifar10_vgg16_smoke (smoke: a small version)\n"),
        (("--workdir=mine",), "mine\n"),
    ],
)
def test_a_family_shares_its_workdir_unless_one_is_named(capsys, tmp_path, monkeypatch, flags, told):
    monkeypatch.chdir(tmp_path)
    arguments = ["--experiment=cifar10_vgg16_end2", "--data_dir=nowhere", "--set=data.ood=mnist", *flags]
    assert cli.main(["main.py", *arguments]) == 2  # its data aren't there
    assert capsys.readouterr().out == f"cifar10_vgg16_end2 in {told}"
    assert list(tmp_path.iterdir()) == []
