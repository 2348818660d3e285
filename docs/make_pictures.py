"""Draws the site's pictures, with the package's own models and functions.

    python docs/make_pictures.py               # docs/pictures/*.png, about a minute

docs/spirals_uncertainty.png comes from a run's report: docs/update_readme.py.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy import optimize, special

import end2_tf
from end2_tf import metrics, schedules
from end2_tf.data.sources import spirals
from end2_tf.losses.mean_precision import PENALTIES
from end2_tf.report import simplex, style

FOLDER = Path(__file__).resolve().parent / "pictures"
WIDTH = 1300  # pixels at most; twice what a page gives a picture

STUDENT, ENSEMBLE = "spirals_mlp_end2_aux", "spirals_mlp_ensemble"
PLACES = {  # of the plane of the spirals
    "Inside: on an arm": (330.0, 0.0),
    "Ambiguous: between two arms": (283.0, 0.0),
    "Outside: never seen": (600.0, 0.0),
}


def triangles() -> Figure:
    """What 100 networks say of three inputs, and the Dirichlet that one student predicts for each."""
    points = np.array(list(PLACES.values()), np.float32)
    members = special.softmax(end2_tf.zoo.load_ensemble(ENSEMBLE).predict_logits(points), axis=-1)
    alphas = end2_tf.zoo.load(STUDENT).predict(points, verbose=0)["alphas"].astype(np.float64)
    fig = style.figure(8.6, 3.9)
    grid = fig.subplots(1, len(PLACES), squeeze=False)
    for ax, title, each, said in zip(grid[0], PLACES, alphas, members, strict=True):
        picture = simplex.panel(ax, each, said, ["arm 1", "arm 2", "arm 3"])
        ax.set_title(title, fontweight="bold")
    simplex.explain(fig, picture, grid)
    return fig


def walk() -> Figure:
    """The three uncertainties along a straight line that leaves the data."""
    x = np.linspace(0, 700, 701, dtype=np.float32)
    line = np.stack([x, np.zeros_like(x)], axis=-1)
    found = {
        "ensemble": end2_tf.zoo.load_ensemble(ENSEMBLE).uncertainty(line),
        "end2_aux": end2_tf.zoo.load(STUDENT).predict(line, batch_size=len(line), verbose=0),
    }
    fig = style.figure(8.6, 3.0)
    for ax, kind in zip(fig.subplots(1, 3, sharey=True), ("total", "data", "knowledge"), strict=True):
        for model, measures in found.items():
            look = style.of(model)
            label = "100 networks" if model == "ensemble" else "one student"
            ax.plot(x, measures[f"{kind}_uncertainty"], color=look.colour, label=label, linewidth=1.3)
        ax.axvspan(0, 355, color="#4477AA", alpha=0.08, linewidth=0)
        ax.set(
            title=f"{kind.capitalize()} uncertainty", xlabel="distance from the centre", xlim=(0, 700), ylim=(0, 1.15)
        )
    fig.axes[0].set_ylabel("nats")
    fig.axes[0].text(12, 1.05, "data end at 355", fontsize=7.5, color="#4477AA")
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def temperatures() -> Figure:
    """The paper's schedule, and what alpha0 two members ask for at each temperature."""
    fig = style.figure(8.6, 2.9)
    left, right = fig.subplots(1, 2)
    step = np.arange(901)
    left.plot(step / 10, schedules.temperature("anneal", 10.0, step, 900), color="#7A1F6B")
    left.set(title="Temperature over a training", xlabel="epoch of 90", ylabel="T", ylim=(0, 10.5))
    members = np.array([[4, 1, 0, -3], [1, 3, -0.5, -2]])
    levels = np.geomspace(1, 20, 30)
    alpha0 = np.array([most_likely(special.log_softmax(members / t, axis=-1).mean(0)).sum() for t in levels])
    right.loglog(levels, alpha0, color="#7A1F6B")
    right.loglog(levels, alpha0[-1] * (levels / levels[-1]) ** 2, ":", color="#777777", label="growing as T²")
    right.set(title="α₀ of the most likely Dirichlet", xlabel="T", ylabel="α₀", xticks=(1, 2, 5, 10, 20))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    right.legend()
    return fig


def most_likely(mean_log_probs: np.ndarray) -> np.ndarray:
    """Returns the alphas of the most likely Dirichlet, where E ln π is the members' mean log-probability."""

    def gap(log_alphas: np.ndarray) -> np.ndarray:
        alphas = np.exp(log_alphas)
        return special.digamma(alphas) - special.digamma(alphas.sum()) - mean_log_probs

    # Near the root of the Stirling form: the geometric mean, and the precision that goes with it.
    start = mean_log_probs - special.logsumexp(mean_log_probs)
    precision = (len(start) - 1) / (-2 * special.logsumexp(mean_log_probs))
    found = optimize.root(gap, start + np.log(precision), tol=1e-10)
    if not found.success:
        raise RuntimeError(found.message)
    return np.exp(found.x)


def penalties() -> Figure:
    """The two penalties of MeanPrecision."""
    d = np.linspace(-3, 3, 301)
    fig = style.figure(5.2, 3.0)
    ax = fig.subplots()
    ax.plot(d, PENALTIES["squared"](d) / 2, label="squared, halved", color="#777777", linestyle="--")
    ax.plot(d, PENALTIES["itakura_saito"](d), label="Itakura-Saito", color="#7A1F6B")
    ax.set(xlabel="d = ln α₀ − ln target", ylabel="penalty", ylim=(0, 8), xlim=(-3, 3))
    ax.text(-2.9, 5.6, "too unsure", fontsize=8, color="#555555")
    ax.text(2.9, 0.3, "too sure", fontsize=8, color="#555555", ha="right")
    ax.legend(loc="upper center")
    return fig


def rejection() -> Figure:
    """The prediction rejection ratio of the student on spirals' test set, as areas."""
    test = spirals.load(noise=0.4).test
    measures = end2_tf.zoo.load(STUDENT).predict(test.inputs, batch_size=5000, verbose=0)
    wrong = measures["probs"].argmax(-1) != test.labels
    curve = metrics.rejection_curve(wrong, measures["total_uncertainty"])
    ratio = metrics.prediction_rejection_ratio(wrong, measures["total_uncertainty"])
    rejected, share = 100 * curve.fraction_rejected, 100
    chance = share * wrong.mean() * (1 - curve.fraction_rejected)
    fig = style.figure(5.6, 3.4)
    ax = fig.subplots()
    ax.fill_between(rejected, share * curve.error, chance, color="#C77CFF", alpha=0.35, label="gained")
    ax.fill_between(
        rejected, share * curve.oracle_error, share * curve.error, color="#BBBBBB", alpha=0.35, label="missed"
    )
    ax.plot(rejected, chance, color="#777777", linestyle="-.", linewidth=1, label="reject at random")
    ax.plot(rejected, share * curve.error, color="#7A1F6B", label="reject the most uncertain")
    ax.plot(rejected, share * curve.oracle_error, ":", color="black", label="oracle")
    ax.set(xlabel="rejected (%)", ylabel="errors left (% of all inputs)", xlim=(0, 100), ylim=(0, None))
    ax.set_title(f"PRR = gained / (gained + missed) = {ratio:.1f} %")
    ax.legend()
    return fig


PICTURES: dict[str, Callable[[], Figure]] = {
    each.__name__: each for each in (triangles, walk, temperatures, penalties, rejection)
}


def main(*names: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with matplotlib.rc_context(style.RC):
        for name in names or PICTURES:
            image = Image.open(io.BytesIO(style.png(PICTURES[name]()))).convert("RGB")
            image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
            image.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
