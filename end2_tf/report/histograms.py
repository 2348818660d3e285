"""How knowledge uncertainty is distributed on in-domain inputs and on each OOD set."""

from __future__ import annotations

import numpy as np

from end2_tf import metrics
from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_BINS = 60
_DECADES = 6  # shown below the largest value; what lies lower is counted in the first bin
_INSIDE, _OUTSIDE = "#0072B2", "#E69F00"


def has_histograms(evaluation: Evaluation) -> bool:
    return bool(_models(evaluation))


def draw(evaluation: Evaluation) -> bytes:
    """Draws one panel per model (ensemble, recommended student) and OOD set."""
    models, names = _models(evaluation), _ood(evaluation)
    panels = [(m, d) for m in models for d in names]
    columns = len(names) if len(names) > 1 else len(models)  # a single OOD set: the models side by side
    rows = len(panels) // columns
    fig = style.figure(9.6 if columns > 1 else 5.0, 2.5 * rows + 0.5)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey="row")
    inside = {m: evaluation.uncertainty(m, evaluation.split, "knowledge") for m in models}
    outside = {(m, d): evaluation.uncertainty(m, d, "knowledge") for m, d in panels if _has(evaluation, m, d)}
    edges = _edges([*inside.values(), *outside.values()])
    for ax, (model, name) in zip(grid.flat, panels, strict=True):
        ax.set_xscale("log")
        if (model, name) not in outside:
            ax.set_axis_off()
            continue
        other = outside[model, name]
        drawn = ((inside[model], _INSIDE, f"{evaluation.split} inputs"), (other, _OUTSIDE, "OOD inputs"))
        for values, colour, label in drawn:
            share = 100 * np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.45)
            ax.stairs(share, edges, color=colour, linewidth=1.4, label=label)
        is_outside = np.repeat([False, True], [len(inside[model]), len(other)])
        auroc = metrics.auroc(is_outside, np.concatenate([inside[model], other]))
        ax.set_title(f"{evaluation.label(model)}: {evaluation.split} against {name}\nAUROC {100 * auroc:.1f} %")
    for ax in grid[:, 0]:
        ax.set_ylabel("Share of inputs (%)")
    for ax in grid[-1]:
        ax.set_xlabel("Knowledge uncertainty (nats)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return style.png(fig)


def _has(evaluation: Evaluation, model: str, dataset: str) -> bool:
    return evaluation.has_prediction(model, f"{dataset}/knowledge_uncertainty")


def _models(evaluation: Evaluation) -> list[str]:
    """Returns ensemble and recommended student, where they have knowledge uncertainty in-domain and on an OOD set."""
    wanted = [m for m in ("ensemble", evaluation.recommended) if m in evaluation.pictured]
    names = evaluation.ood_names
    return [m for m in wanted if _has(evaluation, m, evaluation.split) and any(_has(evaluation, m, d) for d in names)]


def _ood(evaluation: Evaluation) -> list[str]:
    """Returns OOD sets on which any of the models has knowledge uncertainty."""
    return [d for d in evaluation.ood_names if any(_has(evaluation, m, d) for m in _models(evaluation))]


def _edges(values: list[np.ndarray]) -> np.ndarray:
    """Returns bin edges that are equally wide on the log axis and cover all values, but no more than `_DECADES`."""
    joined = np.concatenate(values)
    highest = max(float(joined.max()), 1e-12)
    positive = joined[joined > highest * 10.0**-_DECADES]
    lowest = float(positive.min()) if len(positive) else highest / 10
    return np.geomspace(min(lowest, highest / 2), highest * 1.001, _BINS + 1)
