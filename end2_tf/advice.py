"""What a run says where its numbers point to a mistake, with the next step. Nothing is refused."""

from __future__ import annotations

from collections.abc import Mapping

from end2_tf.config import Experiment


def on_members(num_members: int, error: float, num_classes: int) -> list[str]:
    """Returns what is odd about members that were brought.

    Args:
        num_members: How many there are.
        error: Their share of wrong predictions on held-out inputs.
        num_classes: Of the data.
    """
    lines = []
    if num_members == 1:
        lines.append("nobody disagrees with it, so students learn no knowledge uncertainty; bring more")
    if error > 0.9 * (1 - 1 / num_classes):
        lines.append("that is near chance: do they take raw inputs (pixels 0-255), and classes in this order?")
    return lines


def on_transfer_inputs(knowledge: Mapping[str, float], experiment: Experiment) -> str | None:
    """Returns what to do where members agree far more on transfer inputs than on held-out ones; None where they don't.

    Args:
        knowledge: Mean knowledge uncertainty, nats, on `transfer` and on `validation` inputs.
        experiment: What was recorded.
    """
    if knowledge["transfer"] >= 0.5 * knowledge["validation"]:
        return None
    settings = experiment.transfer
    if experiment.ensemble.predictions is not None:
        better = "give it inputs that no member was trained on"
    elif settings.mode == "clean" or settings.augmentation.is_identity:
        mode = "--set transfer.mode=views " if settings.mode == "clean" else ""
        better = (
            f"show it changed ones: {mode}--set transfer.augmentation.jitter=0.05 (images: .shift=1, .rotation=5, "
            ".mixup=0.5)"
        )
    else:
        better = "change them more, by larger values in transfer.augmentation"
    return f"members agree more there than on new inputs, so a student learns to be surer than they are; {better}"
