"""Where the trainings of a run are done: here one after another, side by side in processes, or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from end2_tf import distribution, machine, workers
from end2_tf.distribution import Strategy
from end2_tf.errors import ModelError
from end2_tf.progress import Progress, Report, Together
from end2_tf.tasks import Task, Trainer

Launch = Callable[[Sequence[Task], Trainer, workers.TaskReport], None]
"""(tasks, trainer, report): does tasks; see `workers.train`."""


class Placement:
    """Chooses where tasks are done.

    Args:
        jobs: How many are done side by side; 0 for as many as there are cores, or GPUs. Of more than there are GPUs
            several share one.
        devices: Which devices a training has, see `distribution.make`.
        launch: Does tasks on other machines; None for this one.
        progress: Called with progress.
    """

    def __init__(self, jobs: int, devices: Strategy, launch: Launch | None, progress: Progress):
        self.jobs, self.devices, self.launch, self.progress = jobs, devices, launch, progress

    def do(
        self, trainer: Trainer, tasks: Sequence[Task], what: str, alone: Callable[[Task], Report], before: int = 0
    ) -> None:
        """Does tasks: side by side in processes of one thread where that is faster, else one after another here.

        Args:
            trainer: Whose tasks they are.
            tasks: What to do.
            what: What all of them are, for the progress of tasks side by side.
            alone: Gives the progress of a task that has this process to itself.
            before: How many more of the same kind were done earlier.
        """

        def together(what: str) -> Together:
            members = all(task.kind in ("member", "stack") for task in tasks)
            lengths = {task: _num_epochs(trainer.of(task), task.method) for task in tasks if task.kind == "student"}
            return Together(self.progress, what, before, before + len(tasks), shows_figures=members, lengths=lengths)

        if self.launch is not None:
            self.launch(tasks, trainer, together(what))
            return
        strategy = distribution.make(self.devices, len(tasks), deterministic=trainer.deterministic)
        trainer.strategy = strategy
        if strategy.num_replicas_in_sync > 1:
            _check_synchronised(trainer, tasks)
        num = 0 if strategy.num_replicas_in_sync > 1 else self.num_workers(len(tasks), trainer.deterministic)
        if num:
            what += f", {num} at a time" if num > 1 else ""
            self.progress(what, 0, 0, {})
            workers.train(tasks, num, trainer, together(what), gpus=_gpus())
        else:
            for task in tasks:
                trainer.train(task, alone(task))

    def num_workers(self, num_tasks: int, deterministic: bool) -> int:
        """Returns how many processes to train in; 0 for this one alone.

        Where results must be bit-equal it is never this one: sums in one thread and in several differ in the last bits.
        """
        gpus = _gpus()  # one process fills a GPU, unless its network is small: jobs says so
        if self.devices.kind == "one_device" and gpus:
            return 0
        num = min(self.jobs or gpus or len(machine.cores()), num_tasks)
        return num if num > 1 or (deterministic and not gpus) else 0

    @property
    def num_processes(self) -> int:
        """How many processes of one core could work side by side; 1 where devices or machines were chosen otherwise."""
        if self.launch is not None or self.devices.kind != "auto" or distribution.num_workers() > 1 or _gpus():
            return 1
        return self.jobs or len(machine.cores())


def _num_epochs(trainer: Trainer, method: str) -> int:
    experiment = trainer.experiment
    return experiment.student.epochs_of(experiment.methods[method])


def _check_synchronised(trainer: Trainer, tasks: Sequence[Task]) -> None:
    """Raises ModelError where a network would be another one on several devices than on one."""
    from end2_tf import ensemble

    methods = sorted({task.method for task in tasks if task.kind == "student"})
    networks = {f"the student of {method!r}": trainer.student_backbone(method) for method in methods}
    if any(task.kind in ("member", "stack") for task in tasks):
        networks["a member"] = ensemble.build_member(trainer.experiment.ensemble, trainer.data, 0)
    for what, network in networks.items():
        if names := distribution.unsynchronised(network):
            raise ModelError(
                f"{what} normalises by each device's own part of a batch, in {', '.join(names[:3])}, so it would "
                "depend on the number of devices. Build it with BatchNormalization(synchronized=True), or say "
                "--strategy=one_device."
            )


def _gpus() -> int:
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))
