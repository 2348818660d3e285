"""Where tasks are done."""

import pytest

from end2_tf import config, distribution, machine, registry
from end2_tf.placement import Placement
from end2_tf.progress import Progress
from end2_tf.tasks import Task, Trainer
from end2_tf.workdir import Workdir


@pytest.mark.parametrize(
    ("jobs", "cores", "tasks", "deterministic", "gpus", "expected"),
    [
        (0, 4, 10, False, 0, 4),
        (0, 4, 3, False, 0, 3),
        (6, 4, 10, False, 0, 6),
        (1, 4, 10, False, 0, 0),
        (0, 1, 10, False, 0, 0),
        (0, 4, 1, False, 0, 0),
        (1, 4, 10, True, 0, 1),
        (0, 4, 1, True, 0, 1),
        (0, 4, 10, True, 1, 0),
        (0, 4, 10, False, 2, 2),
        (3, 4, 10, False, 1, 3),
        (1, 4, 10, False, 2, 0),
    ],
)
def test_number_of_workers(monkeypatch, jobs, cores, tasks, deterministic, gpus, expected):
    monkeypatch.setattr(machine, "cores", lambda: list(range(cores)))
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind=None: ["one"] * gpus)
    placement = Placement(jobs, distribution.AUTO, None, Progress(quiet=True))
    assert placement.num_workers(tasks, deterministic) == expected


def test_one_device_is_one_process_where_there_are_gpus(monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind=None: ["one", "two"])
    for kind, expected in (("one_device", 0), ("auto", 2)):
        placement = Placement(0, distribution.parse(kind), None, Progress(quiet=True))
        assert placement.num_workers(5, False) == expected


def test_what_is_launched_elsewhere_is_not_done_here():
    asked = []
    trainer, tasks = object(), [Task("member", 0), Task("member", 1)]

    def launch(tasks, trainer, report):
        asked.append((tasks, trainer, report.before, report.total, report.shows_figures))

    placement = Placement(0, distribution.AUTO, launch, Progress(quiet=True))
    placement.do(trainer, tasks, "training 5 members", lambda task: pytest.fail("done here"), before=3)
    assert asked == [(tasks, trainer, 3, 5, True)]


def test_the_lengths_of_students_are_known_before_they_begin(tmp_path):
    experiment = registry.experiments()["spirals_mlp_end2"]
    changes = {"methods.end.epochs": 30, "student.epochs": 20}
    trainer = Trainer(config.override(experiment, changes), Workdir(tmp_path))
    trainer.variants = {"long": Trainer(config.override(experiment, {"student.epochs": 50}), Workdir(tmp_path))}
    tasks = [Task("student", 0, "end"), Task("student", 0, "end2"), Task("student", 0, "end2", variant="long")]
    asked = []
    placement = Placement(0, distribution.AUTO, lambda *launched: asked.append(launched), Progress(quiet=True))
    placement.do(trainer, tasks, "training 3 students", lambda task: pytest.fail("done here"))
    [(_, _, together)] = asked
    assert list(together.lengths.values()) == [30, 20, 50]


@pytest.mark.parametrize(
    ("jobs", "devices", "launch", "gpus", "expected"),
    [
        (0, "auto", None, 0, 4),
        (2, "auto", None, 0, 2),
        (0, "one_device", None, 0, 1),
        (0, "auto", print, 0, 1),
        (0, "auto", None, 1, 1),
    ],
)
def test_processes_of_one_core(monkeypatch, jobs, devices, launch, gpus, expected):
    monkeypatch.setattr(machine, "cores", lambda: list(range(4)))
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind=None: ["one"] * gpus)
    placement = Placement(jobs, distribution.parse(devices), launch, Progress(quiet=True))
    assert placement.num_processes == expected
