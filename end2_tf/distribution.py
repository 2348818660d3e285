"""Where a training runs: on one device, on several that share each batch, or on those of several processes or machines.

Several machines are told by TF_CONFIG, as `tf.distribute` has it: each of them runs the same command.
"""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from end2_tf.errors import ConfigError
from end2_tf.reading import texts


@dataclasses.dataclass(frozen=True)
class Strategy:
    """What devices a training has.

    Attributes:
        kind: `one_device`; `mirrored`, several GPUs of one process, or logical devices of its CPU, to try that;
            `workers`, several processes of this machine; or `auto`: all GPUs share batches where there are fewer
            trainings than GPUs, else trainings are placed side by side, one a GPU.
        num: How many; None for as many as there are.
    """

    kind: str
    num: int | None = None

    @property
    def shared_by(self) -> str:
        """The devices that are asked to share batches; nothing where each training has one."""
        if num_workers() > 1:
            return f"workers:{num_workers()}"
        return "" if self.kind in ("auto", "one_device") else f"{self.kind}:{self.num or 'all'}"


AUTO = Strategy("auto")


def parse(text: str) -> Strategy:
    """Reads the flag --strategy.

    Raises:
        ConfigError: it has another form.
    """
    match = re.fullmatch(r"(auto|one_device|mirrored|workers)(?::([1-9][0-9]{0,3}))?", text)
    if match is None or (match[2] and match[1] in ("auto", "one_device")) or (match[1] == "workers" and not match[2]):
        raise ConfigError(
            f"--strategy is {text!r}. Allowed: auto, one_device, mirrored, mirrored:N for N devices, workers:N for N "
            "processes of this machine."
        )
    return Strategy(match[1], int(match[2]) if match[2] else None)


def num_workers() -> int:
    """Returns how many processes, on whatever machines, train together by TF_CONFIG; 1 without it.

    Raises:
        ConfigError: TF_CONFIG isn't what `tf.distribute` takes.
    """
    return _read()[0]


def is_chief() -> bool:
    """Returns whether this process is the one that writes, among those that train together; see `num_workers`."""
    return _read()[1]


def _read() -> tuple[int, bool]:
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return 1, True
    try:
        found = texts.parse_json(text)
        cluster, task = found.get("cluster", {}), found.get("task", {})
        first = "chief" if cluster.get("chief") else "worker"
        num = sum(len(cluster.get(job, [])) for job in ("chief", "worker"))
        return max(1, num), num <= 1 or (task["type"], int(task["index"])) == (first, 0)
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ConfigError(
            f"TF_CONFIG is {text[:200]!r}. Allowed: JSON with a cluster of workers and this process's task, as "
            "tf.distribute.MultiWorkerMirroredStrategy takes it. Correct it, or unset it."
        ) from None


def prepare(strategy: Strategy) -> None:
    """Sets up TensorFlow's devices, before the first of its operations.

    Without GPUs `mirrored:N` makes the CPU N logical devices.

    Raises:
        ConfigError: there aren't that many GPUs.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # workers may need its memory
    if strategy.kind == "mirrored" and strategy.num is not None:
        if gpus and strategy.num > len(gpus):
            raise ConfigError(
                f"--strategy is 'mirrored:{strategy.num}', but there are {len(gpus)} GPUs. Allowed: at most that many."
            )
        if not gpus:
            split_cpu(strategy.num)
    if num_workers() > 1:
        make(strategy)


def split_cpu(num: int) -> None:
    """Makes the CPU `num` logical devices."""
    import tensorflow as tf

    (cpu, *_) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num)


def make(strategy: Strategy, num_trainings: int = 1, *, deterministic: bool = False) -> Any:
    """Returns the `tf.distribute` strategy under which networks are made and trained.

    For one device it is TensorFlow's default.

    Args:
        strategy: What was asked for.
        num_trainings: How many there are to do.
        deterministic: Whether results must be bit-equal: then `auto` shares no batches, whatever there is to do.

    Raises:
        ConfigError: the strategy and TF_CONFIG contradict each other.
    """
    import tensorflow as tf

    if num_workers() > 1:
        if strategy.kind not in ("auto", "workers"):
            raise ConfigError(
                f"--strategy is {strategy.kind!r}, but TF_CONFIG names {num_workers()} workers. Unset TF_CONFIG, or "
                "leave --strategy out."
            )
        return _of_machines()
    gpus = tf.config.list_physical_devices("GPU")  # logical ones would take the memory that workers need
    is_idle = num_trainings < len(gpus) and not deterministic
    if strategy.kind == "mirrored" or (strategy.kind == "auto" and is_idle):
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")[: strategy.num]
        if len(devices) > 1:
            return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _of_machines() -> Any:
    """Returns the strategy of TF_CONFIG's workers; they meet once, when it is first made."""
    global _machines
    import tensorflow as tf

    if _machines is None:
        _machines = tf.distribute.MultiWorkerMirroredStrategy()
    return _machines


_machines: Any = None


def unsynchronised(model: Any) -> list[str]:
    """Returns the names of layers that normalise by each replica's own examples, so that replicas change the result."""
    import keras

    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    return [x.name for x in layers if isinstance(x, keras.layers.BatchNormalization) and not x.synchronized]
