"""What a run would be, without running it: the resolved config, its cost, and what is done already."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from end2_tf import config
from end2_tf.stages import Run


def resolved(run: Run) -> str:
    """Returns the config that the flags come to, as JSON under a heading."""
    return f"{run.name} in {run.root.path}\n\n{json.dumps(config.to_dict(run.experiment), indent=1)}\n"


def cost(run: Run) -> str:
    """Returns what the run would cost and what is done already; opens the data for their shapes.

    Raises:
        DataError, ConfigError: whatever would stop the run.
    """
    run.prepare()
    return "\n".join(["", *_cost(run), "", *_done(run)])


def _cost(run: Run) -> list[str]:
    from end2_tf import ensemble, transfer

    experiment, data = run.experiment, run.data
    own = run.ensemble if experiment.ensemble.models else None
    member = own.member(0) if own is not None else ensemble.build_member(experiment.ensemble, data, 0)
    num_members = own.num_members if own is not None else experiment.ensemble.num_members
    networks = {name: run.student_backbone(name) for name in experiment.student.methods}
    sizes = {name: (network.count_params(), forward_flops(network)) for name, network in networks.items()}
    epoch = len(data.train)
    member_flops = (
        0 if own is not None else 3 * forward_flops(member) * epoch * experiment.ensemble.epochs * num_members
    )
    share = experiment.transfer.auxiliary_share
    lines = [
        "Cost (a multiply-add is 2 FLOPs, the backward pass twice the forward pass):",
        f"  member   {member.count_params():>12,} weights, {forward_flops(member):>14,} FLOPs forward an example",
        *(
            f"  student  {size[0]:>12,} weights, {size[1]:>14,} FLOPs forward an example{who}"
            for size, who in _by_size(sizes).items()
        ),
        f"  ensemble {num_members} members, {experiment.ensemble.epochs} epochs: {member_flops:.2e} FLOPs"
        + (" (your own, trained already)" if own is not None else ""),
    ]
    is_online = experiment.transfer.mode == "online"
    teacher_flops = (run.plan.num_taught or num_members) * forward_flops(member)
    flops = 0.0
    students = [method for method, _, _ in run.plan.students()]
    for name in students:
        inputs = 1 / (1 - share) if experiment.methods[name].auxiliary else 1.0
        asked_flops = teacher_flops if is_online and run.plan.is_distilled(name) else 0
        flops += inputs * (3 * sizes[name][1] + asked_flops)
    flops *= epoch * experiment.student.epochs
    lines.append(
        f"  students {len(students)} by {len(experiment.student.methods)} methods: {flops:.2e} FLOPs"
        f"{', members asked online included' if is_online else ''}"
    )
    recordings = run.views()
    asked = sum(
        len(transfer.recorded_views(experiment.transfer, v.augmentation)) * len(v.inputs) for _, v in recordings
    )
    if asked:
        lines.append(f"  transfer {asked:,} inputs, {asked * num_members * forward_flops(member):.2e} FLOPs")
    logits = sum(
        transfer.num_bytes(experiment.transfer, views, num_members, data.num_classes) for _, views in recordings
    )
    lines.append(
        f"  on disk  members {4e-6 * member.count_params() * num_members:,.1f} MB, transfer set {1e-6 * logits:,.1f} MB"
    )
    return lines


def _by_size(sizes: dict[str, tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Returns each size with the methods of that size, which are left out where all are of one."""
    found = {size: [name for name, other in sizes.items() if other == size] for size in sizes.values()}
    return {size: f": {', '.join(names)}" if len(found) > 1 else "" for size, names in found.items()}


def forward_flops(model: Any) -> int:
    """Returns the FLOPs of one example's forward pass through dense layers and convolutions, 2 a multiply-add."""
    total = 0
    for layer in model._flatten_layers(include_self=False, recursive=True):
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        positions = 1
        if len(kernel.shape) > 2:  # a convolution's kernel is used once at each output position
            shape = layer.output.shape
            positions = int(np.prod([n for n in shape[1:-1] if n is not None]))
        total += 2 * int(np.prod(kernel.shape)) * positions
    return total


def _done(run: Run) -> list[str]:
    parts = [("ensemble", run.plan.ensemble), *(("transfer", artefact) for artefact, _ in run.views())]
    parts += [(f"student {method}, seed {seed}", artefact) for method, seed, artefact in run.plan.students()]
    parts.append(("evaluate", run.plan.evaluation))
    lines = ["Done in this workdir:"]
    for name, artefact in parts:
        state = "up to date" if artefact.manifest() is not None else ("begun" if artefact.path.is_dir() else "to do")
        lines.append(f"  {name:<28} {state:<11} {artefact.path.relative_to(run.root.path)}")
    return lines
