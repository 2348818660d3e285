"""Where tasks are done."""

import pytest

from end2_tf import distribution, machine
from end2_tf.placement import Placement
from end2_tf.progress import Progress
from end2_tf.tasks import Task


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
