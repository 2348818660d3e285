"""Small zoos, published from untrained models: they behave like real ones in all but accuracy."""

import shutil

import keras
import numpy as np
import pytest

from end2_tf import backbones, config
from end2_tf.config import Data, Ensemble, Experiment, Source, Student, Transfer
from end2_tf.data.dataset import DataSet
from end2_tf.data.examples import Examples
from end2_tf.ensemble import StackedEnsemble
from end2_tf.evaluate import Evaluation
from end2_tf.heads import DirichletHead, SoftmaxHead
from end2_tf.models import UncertaintyClassifier
from end2_tf.zoo import publish

METHODS = ("end", "end2_aux")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLASSES = {"fashion_mnist": ("shirt", "coat, long", "bag"), "spirals": ("arm 1", "arm 2", "arm 3")}


def _images(rng, n):
    labels = np.arange(n) % 3
    images = rng.integers(0, 120, (n, 8, 8, 1), dtype=np.uint8)
    images[np.arange(n), 2 * labels + 1] += 120  # each class has a bright row
    return Examples(images, labels)


def _points(rng, n):
    labels = np.arange(n) % 3
    centres = np.array([[3, 0], [-2, 2], [-2, -2]], np.float32)
    return Examples((centres[labels] + rng.normal(size=(n, 2))).astype(np.float32), labels)


def _data(name):
    rng = np.random.default_rng(5)
    make = _images if name == "fashion_mnist" else _points
    outside = Examples(rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    if name == "spirals":
        outside = Examples((20 * rng.normal(size=(40, 2))).astype(np.float32))
    ood = {"far": outside, "further": Examples(outside.inputs[::-1].copy())}
    train, validation, test = (make(rng, n) for n in (60, 30, 60))
    shifted = {}
    if name == "fashion_mnist":
        shifted = {"jpeg": Examples(test.inputs // 2 * 2, test.labels)}  # a control: OOD set and shifted set
    return DataSet(train, validation, test, outside, ood | shifted, CLASSES[name], shifted=shifted)


def _experiment(name):
    options = {"filters": [4], "dense": 8} if name == "fashion_mnist" else {"hidden": [8, 8]}
    several = Source("several", {"of": ["cifar100", {"name": "procedural", "options": {"size": 8}}]})
    source = Source("ring", {"radius": 9.0}) if name == "spirals" else several
    control = {"jpeg": Source("corrupted", {"of": name, "kind": "jpeg", "severity": 1})}
    shifted = control if name == "fashion_mnist" else {}
    return Experiment(
        data=Data(name=name, auxiliary=source, ood={"far": source, "further": source} | shifted, shifted=shifted),
        ensemble=Ensemble(backbone="cnn" if name == "fashion_mnist" else "mlp", options=options, num_members=3),
        transfer=Transfer(mode="online"),
        student=Student(methods=METHODS, seeds_of={"end2_aux": 3} if name == "spirals" else {}),
    )


def _network(experiment, data, seed):
    keras.utils.set_random_seed(seed)
    mean, std = data.normalisation()
    settings = experiment.ensemble
    return backbones.build(
        settings.backbone,
        settings.options,
        input_shape=data.input_shape,
        num_classes=data.num_classes,
        mean=mean,
        std=std,
    )


def make_run(name, folder, *, command=None):
    """Evaluates untrained members and students; returns what publishing takes."""
    experiment, data = _experiment(name), _data(name)
    members = StackedEnsemble.from_members([_network(experiment, data, seed) for seed in range(3)])
    heads = {"end": SoftmaxHead(), "end2_aux": DirichletHead()}
    evaluation = Evaluation(data, experiment.evaluation)
    evaluation.add_ensemble(members)
    students = {}
    for number, method in enumerate(METHODS, 1):
        seeds = range(experiment.student.seeds_of.get(method, 1))
        models = [UncertaintyClassifier(_network(experiment, data, 10 * number + s), heads[method]) for s in seeds]
        students[method] = folder / f"{method}.keras"
        folder.mkdir(parents=True, exist_ok=True)
        models[0].save(students[method])
        evaluation.add_student(method, models)
    summary = {
        "experiment": f"{name}_trial",
        "created": "2026-01-02T03:04:05+00:00",
        "config": config.to_dict(experiment),
        "versions": {"end2_tf": "0.1.0", "keras": keras.__version__},
        "commit": COMMIT,
        "seconds": {"ensemble": 3.0},
        "num_members": 3,
        "command": command or f"python main.py --experiment={name}_trial --workdir=/somewhere/else --data_dir /data",
    }
    evaluation.write(folder / "evaluation", summary)
    seconds = {"ensemble": 6.0, "end": 1.0, "end2_aux": 2.0}
    return publish.Finished(experiment, data, members, students, seconds, folder / "evaluation")


@pytest.fixture(scope="session")
def image_run(tmp_path_factory):
    return make_run("fashion_mnist", tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def plane_run(tmp_path_factory):
    return make_run("spirals", tmp_path_factory.mktemp("plane"))


@pytest.fixture(scope="session")
def zoo_dir(tmp_path_factory, image_run, plane_run):
    """A zoo with both runs; read it only."""
    folder = tmp_path_factory.mktemp("published") / "zoo"
    (folder / "pages").mkdir(parents=True)
    (folder / "pages" / "study.md").write_text("# What pays\n\nNumbers.\n", encoding="utf-8")
    publish.publish(image_run, folder)
    publish.publish(plane_run, folder)
    return folder


@pytest.fixture
def zoo_copy(zoo_dir, tmp_path):
    """A zoo to damage."""
    return shutil.copytree(zoo_dir, tmp_path / "zoo")


@pytest.fixture(autouse=True)
def _no_zoo_from_outside(monkeypatch):
    monkeypatch.delenv("END2_TF_ZOO", raising=False)
    monkeypatch.delenv("END2_TF_CACHE", raising=False)
