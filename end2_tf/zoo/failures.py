"""Where a published model fails on the test set: which inputs, and pictures of them for its card."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np

from end2_tf.report import maps, style
from end2_tf.report.inputs import Evaluation

NUM_SHOWN = 8
_SURE = 0.1  # share of the test inputs that counts as those a model is surest of


@dataclass(frozen=True)
class Case:
    """One test input and what was made of it; uncertainty in nats."""

    index: int
    label: str
    prediction: str
    confidence: float
    uncertainty: float


@dataclass(frozen=True)
class Picture:
    """A PNG file of an entry, and a sentence on what it shows."""

    name: str
    caption: str
    png: bytes


class Failures:
    """One model's predictions on the test set of a run.

    Args:
        evaluation: The run's evaluation, as the report reads it.
        model: Whose predictions: `single`, `ensemble` or a method; of students those of the first seed.
    """

    def __init__(self, evaluation: Evaluation, model: str):
        self.evaluation, self.model = evaluation, model
        probs, self.labels = evaluation.probs(model, "test"), evaluation.labels
        self.names = [str(name) for name in evaluation.results["class_names"]]
        self.predicted, self.confidence = probs.argmax(1), probs.max(1)
        self.is_wrong = self.predicted != self.labels
        has_knowledge = evaluation.has_prediction(model, "test/knowledge_uncertainty")
        self.kind = "knowledge" if has_knowledge else "total"
        self.uncertainty = evaluation.uncertainty(model, "test", self.kind)
        self._total = evaluation.uncertainty(model, "test", "total")

    @property
    def most_uncertain(self) -> np.ndarray:
        """Places of the test inputs with the highest knowledge (else total) uncertainty, the highest first."""
        return np.argsort(-self.uncertainty, kind="stable")[:NUM_SHOWN]

    @property
    def confidently_wrong(self) -> np.ndarray:
        """Places of the wrong predictions with the highest confidence, the highest first."""
        wrong = np.flatnonzero(self.is_wrong)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:NUM_SHOWN]

    def among_the_surest(self) -> tuple[int, int]:
        """Returns how many predictions are wrong, and of how many, among the tenth of least total uncertainty."""
        num = max(1, round(_SURE * len(self.labels)))
        surest = np.argsort(self._total, kind="stable")[:num]
        return int(self.is_wrong[surest].sum()), num

    def cases(self, places: np.ndarray) -> list[Case]:
        return [
            Case(
                int(i),
                self.names[self.labels[i]],
                self.names[self.predicted[i]],
                float(self.confidence[i]),
                float(self.uncertainty[i]),
            )
            for i in places
        ]

    def pictures(self, inputs: np.ndarray) -> list[Picture]:
        """Returns pictures of the failures: of images, or of a plane with the inputs marked; none of other features."""
        with matplotlib.rc_context(style.RC):
            if inputs.ndim == 4:
                return self._galleries(inputs)
            plane = maps.Plane(self.evaluation)
            return [self._plane(inputs, plane)] if plane.exists else []

    def _galleries(self, inputs: np.ndarray) -> list[Picture]:
        shown = [
            (
                "most_uncertain",
                self.most_uncertain,
                f"The test images with the highest {self.kind} uncertainty, the highest first.",
            ),
            (
                "confidently_wrong",
                self.confidently_wrong,
                "The wrong predictions with the highest confidence, the highest first.",
            ),
        ]
        return [
            Picture(f"{name}.png", text, self._gallery(inputs, places)) for name, places, text in shown if len(places)
        ]

    def _gallery(self, inputs: np.ndarray, places: np.ndarray) -> bytes:
        columns = 4
        rows = -(-len(places) // columns)
        fig = style.figure(1.75 * columns, 2.2 * rows)
        grid = fig.subplots(rows, columns, squeeze=False)
        for ax in grid.flat:
            ax.set_axis_off()
        for ax, case in zip(grid.flat, self.cases(places), strict=False):
            ax.imshow(style.pixels(inputs[case.index]), cmap="gray", vmin=0, vmax=255)
            mark = "" if case.label == case.prediction else " (wrong)"
            ax.set_title(
                f"label {case.label}\n{case.prediction}{mark}, {100 * case.confidence:.1f} %\n"
                f"{self.kind} {case.uncertainty:.3g} nats",
                fontsize=7.5,
            )
        return style.png(fig)

    def _plane(self, inputs: np.ndarray, plane: maps.Plane) -> Picture:
        fig = style.figure(5.6, 4.8, square=True)
        ax = fig.subplots()
        values = plane.image(self.evaluation.uncertainty(self.model, "map", self.kind))
        picture = ax.imshow(values, extent=plane.extent, origin="lower", cmap="viridis")
        marked = []
        for places, marker, colour, name, words in (
            (self.most_uncertain, "o", "white", "most uncertain", "most uncertain test input{s}"),
            (self.confidently_wrong, "X", "#EE6677", "confidently wrong", "wrong prediction{s} of highest confidence"),
        ):
            if len(places):
                ax.plot(*inputs[places].T, marker, color=colour, markeredgecolor="black", linestyle="", label=name)
                marked.append(f"the {len(places)} {words.format(s='s' if len(places) > 1 else '')}")
        plane.prepare(ax)
        fig.colorbar(picture, ax=ax, shrink=0.85).set_label(f"{self.kind.capitalize()} uncertainty (nats)")
        fig.legend(loc="outside lower center", ncols=2)
        text = f"{self.kind.capitalize()} uncertainty over the plane, with {' and '.join(marked)}."
        return Picture("failures.png", text, style.png(fig))
