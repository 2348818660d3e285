"""Reliability diagrams, and the error that remains when uncertain predictions are rejected."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from end2_tf import metrics
from end2_tf.report import style
from end2_tf.report.inputs import Evaluation

_POINTS = 600  # of a drawn curve; more can't be told apart at this size


def has_labels(evaluation: Evaluation) -> bool:
    return evaluation.has("labels.npz", evaluation.split) and bool(_models(evaluation))


def reliability(evaluation: Evaluation) -> bytes:
    """Draws accuracy against confidence by bin, one panel per model, above the number of inputs in each bin."""
    models = _models(evaluation)
    num_bins = int(evaluation.results["num_bins"])
    columns = min((4, 3), key=lambda c: (-len(models) % c, -c)) if len(models) > 4 else len(models)
    rows = -(-len(models) // columns)
    fig = style.figure(min(3.3 * columns + 0.3, 9.8), 3.1 * rows + 0.1)
    grid = fig.subplots(2 * rows, columns, squeeze=False, sharex=True, height_ratios=[2.6, 1] * rows)
    most = len(evaluation.labels)
    for position, model in enumerate(models):
        row, column = divmod(position, columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        curve = metrics.reliability_curve(evaluation.probs(model, evaluation.split), evaluation.labels, num_bins)
        _draw_bins(upper, lower, curve, evaluation.style(model).colour)
        gap = np.nansum(curve.num_examples * np.abs(curve.accuracy - curve.confidence)) / curve.num_examples.sum()
        upper.set_title(f"{evaluation.picture_label(model)}\nECE {100 * gap:.2f} %")
        lower.set_ylim(0.5, 2 * most)
        if column == 0:
            upper.set_ylabel("Accuracy (%)")
            lower.set_ylabel("Inputs")
        else:
            upper.set_yticklabels([])
            lower.yaxis.set_major_formatter(NullFormatter())
        if position + columns >= len(models):
            lower.set_xlabel("Confidence (%)")
            lower.tick_params(labelbottom=True)
    for position in range(len(models), rows * columns):
        row, column = divmod(position, columns)
        grid[2 * row, column].set_axis_off()
        grid[2 * row + 1, column].set_axis_off()
    return style.png(fig)


def _draw_bins(upper: Axes, lower: Axes, curve: metrics.ReliabilityCurve, colour: str) -> None:
    full = curve.num_examples > 0
    confidence, accuracy = 100 * curve.confidence[full], 100 * curve.accuracy[full]
    upper.plot([0, 100], [0, 100], color="#999999", linewidth=1, linestyle="--")
    upper.vlines(confidence, confidence, accuracy, color=colour, alpha=0.35, linewidth=3)
    # Bins with few inputs have accuracies by chance; a smaller dot says so.
    sizes = np.where(curve.num_examples[full] < 30, 6, 22)
    upper.plot(confidence, accuracy, color=colour, linewidth=1)
    upper.scatter(confidence, accuracy, s=sizes, color=colour, zorder=3, clip_on=False)
    upper.set_xlim(0, 100)
    upper.set_ylim(0, 104)
    upper.set_xticks([0, 25, 50, 75, 100])
    upper.set_yticks([0, 25, 50, 75, 100])
    edges = 100 * np.append(curve.lower, curve.upper[-1])
    lower.stairs(curve.num_examples, edges, fill=True, color=colour, alpha=0.6, baseline=0.5)
    lower.set_yscale("log")


def rejections(evaluation: Evaluation) -> bytes:
    """Draws remaining error against the share of inputs rejected: the whole range, and its beginning."""
    fig = style.figure(9.8, 4.6)
    whole, close = fig.subplots(1, 2)
    models = _models(evaluation)
    reference = "ensemble" if "ensemble" in models else models[0]
    start = {}
    for model in models:
        wrong = evaluation.probs(model, evaluation.split).argmax(axis=1) != evaluation.labels
        scores = evaluation.uncertainty(model, evaluation.split, "total")
        curve = metrics.rejection_curve(wrong, scores)
        ratio = metrics.prediction_rejection_ratio(wrong, scores)
        keep = _thinned(len(curve.error))
        rejected, remaining = 100 * curve.fraction_rejected[keep], 100 * curve.error[keep]
        start[model] = float(remaining[0])
        if model == reference:
            oracle = 100 * curve.oracle_error[keep]
        look = evaluation.style(model)
        label = evaluation.picture_label(model) + (f" (PRR {ratio:.1f})" if np.isfinite(ratio) else "")
        above = 2.0 if look.line == "-" else 2.5  # dashes over lines, so that both show where they coincide
        for ax in (whole, close):
            ax.plot(rejected, remaining, color=look.colour, linestyle=look.line, label=label, zorder=above)
    for ax in (whole, close):
        name = evaluation.label(reference)
        ax.plot(rejected, oracle, color="#777777", linewidth=1, linestyle=":", label=f"Oracle, {name}")
        ax.plot(
            [0, 100], [start[reference], 0], color="#777777", linewidth=1, linestyle="-.", label=f"Random order, {name}"
        )
        ax.set_xlabel("Inputs rejected, highest total uncertainty first (%)")
    whole.set_title("All inputs")
    whole.set_xlim(0, 100)
    whole.set_ylim(0, 1.05 * max(*start.values(), 0.1))
    close.set_title("Close-up of the most uncertain inputs")
    close.set_xlim(0, min(100.0, max(4 * start[reference], 1.0)))
    close.set_ylim(0, 1.2 * max(*(v for m, v in start.items() if m != "single" or len(start) == 1), 0.1))
    whole.set_ylabel("Errors that remain (% of all inputs)")
    handles, labels = whole.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=2.8)
    return style.png(fig)


def _models(evaluation: Evaluation) -> list[str]:
    """Returns the models with in-domain predictions; the true posterior is drawn on maps only."""
    return [
        m for m in evaluation.pictured if m != "bayes" and evaluation.has_prediction(m, f"{evaluation.split}/probs")
    ]


def _thinned(count: int) -> np.ndarray:
    """Returns up to `_POINTS` positions, half of them among the first tenth, where the curves bend."""
    first = np.linspace(0, (count - 1) / 10, _POINTS // 2)
    rest = np.linspace((count - 1) / 10, count - 1, _POINTS // 2)
    return np.unique(np.concatenate([first, rest]).round().astype(int))
