"""What a run would be, without running it: the resolved config, its cost, and what is done already."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from end2_tf import config, tables
from end2_tf.config import Experiment
from end2_tf.errors import DataError
from end2_tf.stages import Run
from end2_tf.workdir import Artefact


def resolved(run: Run) -> str:
    """Returns the config that the flags come to, as JSON under a heading, and what is published of the experiment."""
    values = config.to_dict(run.experiment)
    del values["published"]
    return f"{run.name} in {run.root.path}\n\n{json.dumps(values, indent=1)}\n{published(run.experiment)}"


def published(experiment: Experiment) -> str:
    """Returns published figures in the units of results.json, a line a set and model; nothing where there are none."""
    found = experiment.published
    if found is None:
        return ""
    lines = [
        [dataset, model, ", ".join(_figure(metric, *figure) for metric, figure in figures.items())]
        for dataset, by_model in {"test": found.test, **found.ood}.items()
        for model, figures in by_model.items()
    ]
    table = tables.aligned(lines, text=(0, 1, 2))
    return "\n".join([f"\nPublished by {found.source}:", *(f"  {line.rstrip()}" for line in table)])


def _figure(metric: str, mean: float, spread: float | None) -> str:
    return f"{metric} {mean:g}" + ("" if spread is None else f" ± {spread:g}")


def cost(run: Run) -> str:
    """Returns what the run would cost and what is done already; opens the data for their shapes.

    Where the data aren't here, it plans with those that the experiment expects.

    Raises:
        DataError, ConfigError: whatever would stop the run.
    """
    try:
        unread = _unread(run)
        if unread is not None:
            run.data = unread
            return "\n".join(["", "Planned for data that aren't in shards yet", "", *_cost(run)])
        run.for_training = True  # a plan needs no corrupted copies of the test set, which take minutes
        run.prepare()
    except DataError as error:
        expected = run.experiment.data.expected
        if expected is None:
            raise
        sizes = expected.train, expected.auxiliary or 0
        run.data = _Unseen(expected.input_shape, expected.num_classes, *sizes)
        return "\n".join(["", f"Planned for the data that are expected: {error}", "", *_cost(run)])
    return "\n".join(["", *_cost(run), "", *_done(run)])


def _unread(run: Run) -> _Unseen | None:
    """Returns what is known of data that would first have to be read into shards, which a plan doesn't do."""
    settings, places = run.experiment.data, run.plan.places
    if places is None or places.in_domain.manifest() is not None:
        return None
    from end2_tf.data import dataset

    alone = dataclasses.replace(settings, ood={}, shifted={})
    data = dataset.load(alone, data_dir=run.data_dir, download=False, seed=run.experiment.seed)
    auxiliary = 0 if data.auxiliary is None else len(data.auxiliary)
    return _Unseen(data.input_shape, data.num_classes, len(data.train), auxiliary)


class _Unseen:
    """Data that aren't here, as far as a plan needs them."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, num_train: int, num_auxiliary: int):
        self.input_shape, self.num_classes = input_shape, num_classes
        self.train = range(num_train)
        self.auxiliary = range(num_auxiliary) if num_auxiliary else None

    def normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.input_shape[-1]), np.ones(self.input_shape[-1])


def _cost(run: Run) -> list[str]:
    from end2_tf import ensemble

    experiment, data = run.experiment, run.data
    settings = experiment.ensemble
    own = run.ensemble if settings.is_brought else None
    member = None  # of recorded predictions there is none
    if settings.predictions is None:
        member = own.member(0) if own is not None else ensemble.build_member(settings, data, 0)
    num_members = own.num_members if own is not None else settings.num_members
    networks = {name: run.student_backbone(name) for name in experiment.student.methods}
    by_kind: dict[str, int] = {}  # of each architecture, as members and students mostly have the same
    for network in (*([] if member is None else [member]), *networks.values()):
        if (kind := ensemble.architecture(network)) not in by_kind:
            by_kind[kind] = forward_flops(network, data.input_shape)
    sizes = {
        name: (network.count_params(), by_kind[ensemble.architecture(network)]) for name, network in networks.items()
    }
    weights, flops = (0, 0) if member is None else (member.count_params(), by_kind[ensemble.architecture(member)])
    epoch = len(data.train)
    trained_on = round((1 - settings.held_out_fraction) * epoch)
    one_member = 0.0 if own is not None else 3.0 * flops * trained_on * settings.epochs
    num_trained = 1 if settings.kind == "dropout" else num_members
    share = experiment.transfer.auxiliary_share
    lines = [
        "Cost (a multiply-add is 2 FLOPs, the backward pass twice the forward pass):",
        f"  member   {weights:>12,} weights, {flops:>14,} FLOPs forward an example"
        if member is not None
        else f"  members  {num_members} recorded predictions",
        *(
            f"  student  {size[0]:>12,} weights, {size[1]:>14,} FLOPs forward an example{who}"
            for size, who in _by_size(sizes).items()
        ),
        f"  ensemble {num_members} members"
        + (": trained already" if own else f", {settings.epochs} epochs: {one_member * num_trained:.2e} FLOPs"),
    ]
    is_online = experiment.transfer.mode == "online"
    num_taught = experiment.transfer.num_members or num_members
    students = []
    for name, _ in _students(run):
        inputs = 1 / (1 - share) if experiment.methods[name].auxiliary else 1.0
        asked_flops = num_taught * flops if is_online and run.plan.is_distilled(name) else 0
        epochs = experiment.student.epochs_of(experiment.methods[name])
        seen = _num_shown(run) if run.plan.is_distilled(name) else epoch
        students.append(inputs * (3.0 * sizes[name][1] + asked_flops) * seen * epochs)
    lines.append(
        f"  students {len(students)} by {len(experiment.student.methods)} methods: {sum(students):.2e} FLOPs"
        f"{', members asked online included' if is_online else ''}"
    )
    inputs, size = _recorded(run, num_members)
    asked_flops = float(inputs) * num_members * flops
    if inputs:
        lines.append(f"  transfer {inputs:,} inputs, {asked_flops:.2e} FLOPs")
    told = f"members {4e-6 * weights * num_members:,.1f} MB, transfer set {1e-6 * size:,.1f} MB"
    if experiment.data.shard_rows is not None:
        each = math.prod(data.input_shape) * (1 if len(data.input_shape) == 3 else 4)
        num = len(data.train) + (0 if data.auxiliary is None else len(data.auxiliary))
        told += f", data in shards {1e-6 * each * num:,.1f} MB"
    lines.append(f"  on disk  {told}")
    return lines + _hours([one_member] * num_trained, asked_flops, students)


def _students(run: Run) -> list[tuple[str, int]]:
    """Returns the students to train, as (method, seed); needs no data."""
    settings = run.experiment.student
    return [
        (method, seed)
        for method in settings.methods
        for seed in range(settings.seeds_of.get(method, settings.num_seeds))
    ]


def _num_shown(run: Run) -> int:
    """Returns how many training examples students of the ensemble are shown, to within one a class."""
    held_out = run.experiment.ensemble.held_out_fraction
    shares = {"all": 1.0, "held_out": held_out, "seen": 1 - held_out}
    return round(shares[run.experiment.transfer.inputs] * len(run.data.train))


def _recorded(run: Run, num_members: int) -> tuple[int, int]:
    """Returns on how many inputs members are recorded, and the bytes that this takes."""
    from end2_tf import transfer

    settings, data = run.experiment.transfer, run.data
    methods = [name for name in run.experiment.student.methods if run.plan.is_distilled(name)]
    kinds = [(_num_shown(run), settings.augmentation, False)] if methods else []
    if any(run.experiment.methods[name].auxiliary for name in methods) and data.auxiliary is not None:
        kinds.append((len(data.auxiliary), settings.auxiliary_augmentation, True))
    inputs = size = 0
    for num, augmentation, is_auxiliary in kinds:
        inputs += len(transfer.recorded_views(settings, augmentation)) * num
        dtype = np.uint8 if len(data.input_shape) == 3 else np.float32
        shape = (num, *data.input_shape)
        statistics = run.statistics(with_auxiliary=is_auxiliary)
        said = transfer.said_bytes(settings, num_members, data.num_classes, statistics)
        size += transfer.num_bytes(settings, augmentation, shape, dtype, said)
    return inputs, size


# FLOP/s that networks get of a device, far below what its maker names.
_DEVICES = {"an H100, of a VGG-16": 5e13, "two CPU cores with AVX2": 1.2e11}
_SMALL = 4e12  # FLOPs, half a minute of two cores; a step's other costs are as much
_LONG = 24.0  # hours that one is ready to wait for a student


def _hours(members: list[float], transfer: float, students: list[float]) -> list[str]:
    """Returns what the FLOPs take on one device, and how to spread them over more."""
    lines = ["", "Hours of one device, at a throughput of"]
    for name, rate in _DEVICES.items():
        hours = {"members": sum(members), "transfer": transfer, "students": sum(students)}
        told = ", ".join(f"{what} {_rounded(flops / rate / 3600)}" for what, flops in hours.items() if flops)
        lines.append(f"  {rate / 1e12:g} TFLOP/s ({name}): {told}")
    if sum(members) + transfer + sum(students) < _SMALL:
        lines.append("  FLOPs are little of what networks as small as these take: expect minutes.")
    rate = next(iter(_DEVICES.values()))
    longest_member, longest = (max(each, default=0.0) / rate / 3600 for each in (members, students))
    lines += ["", "How to spread it over GPUs:"]
    if longest_member:
        lines.append(
            f"  members  {_rounded(longest_member)} h each, independent of one another: side by side on the GPUs of a "
            "machine; on several by --launcher=ray or --members=first:end"
        )
    if longest > _LONG:
        lines.append(
            f"  students {_rounded(longest)} h the longest: --strategy=mirrored on all GPUs of a machine, or "
            f"TF_CONFIG on several; with 8 GPUs about {_rounded(longest / 8)} h"
        )
    elif longest:
        lines.append(f"  students {_rounded(longest)} h the longest: side by side, one a GPU")
    return lines


def _rounded(hours: float) -> str:
    if hours < 0.01:
        return "under 0.01"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _by_size(sizes: dict[str, tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Returns each size with the methods of that size, which are left out where all are of one."""
    found = {size: [name for name, other in sizes.items() if other == size] for size in sizes.values()}
    return {size: f": {', '.join(names)}" if len(found) > 1 else "" for size, names in found.items()}


def forward_flops(model: Any, input_shape: tuple[int, ...]) -> int:
    """Returns the FLOPs of one example's forward pass through matrix products and convolutions, 2 a multiply-add.

    Counted in the model's graph, whatever layers the operations are in; the body of a loop, such as a recurrent
    layer's, isn't.

    Args:
        model: Any Keras model of one input.
        input_shape: Of one example, without the batch; a model may leave sizes open.
    """
    import tensorflow as tf

    traced = tf.function(lambda inputs: model(inputs, training=False))
    graph = traced.get_concrete_function(tf.TensorSpec((1, *input_shape), tf.float32)).graph
    return 2 * _multiply_adds_in(graph)


def _multiply_adds_in(graph: Any) -> int:
    return sum(
        _multiply_adds_in(graph._get_function(operation.get_attr("f").name).graph)
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall")  # grouped convolutions on CPUs are one
        else _multiply_adds(operation)
        for operation in graph.get_operations()
    )


def _multiply_adds(operation: Any) -> int:
    """Returns the multiply-adds of an operation of known shapes, 0 where it isn't a sum of products."""
    kind = operation.type
    if kind in ("MatMul", "BatchMatMulV2"):  # each value of the result is a sum over the inner axis
        is_transposed = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
        return _size(operation.outputs[0].shape) * operation.inputs[0].shape[-2 if is_transposed else -1]
    if kind in ("Conv2D", "Conv3D"):
        return _size(operation.outputs[0].shape) * _size(operation.inputs[1].shape[:-1])
    if kind == "DepthwiseConv2dNative":
        return _size(operation.outputs[0].shape) * _size(operation.inputs[1].shape[:2])
    if kind == "Conv2DBackpropInput":  # a transposed convolution: its kernel is used once at each input position
        return _size(operation.inputs[2].shape) * _size(operation.inputs[1].shape[:-1])
    if kind == "Einsum":
        terms, result = operation.get_attr("equation").decode().split("->")
        sizes: dict[str, int] = {}
        for term, tensor in zip(terms.split(","), operation.inputs, strict=True):
            first, _, last = term.partition("...")
            shape = list(tensor.shape)
            sizes |= dict(zip(first, shape, strict=False)) | dict(
                zip(last, shape[len(shape) - len(last) :], strict=True)
            )
        return _size(operation.outputs[0].shape) * _size(size for label, size in sizes.items() if label not in result)
    return 0


def _size(shape: Iterable[int]) -> int:
    return math.prod(int(length) for length in shape)


def states(run: Run) -> dict[str, str]:
    """Returns whether each part of a run is "up to date", "begun" or "to do"; nothing where its data aren't here."""
    if isinstance(run.data, _Unseen):
        return {}
    return {name: _state(artefact) for name, artefact in _parts(run)}


def _parts(run: Run) -> list[tuple[str, Artefact]]:
    parts = [("ensemble", run.plan.ensemble), *(("transfer", artefact) for artefact, _ in run.views())]
    parts += [(f"student {method}, seed {seed}", artefact) for method, seed, artefact in run.plan.students()]
    return [*parts, ("evaluate", run.plan.evaluation)]


def _state(artefact: Artefact) -> str:
    if artefact.manifest() is not None:
        return "up to date"
    return "begun" if artefact.path.is_dir() else "to do"


def _done(run: Run) -> list[str]:
    shown = [f"  {name:<28} {_state(a):<11} {a.path.relative_to(run.root.path)}" for name, a in _parts(run)]
    return ["Done in this workdir:", *shown]
