"""Names of the uncertainty measures: how columns call them, which way they point, what people read.

Plain data, so that metrics and reports name measures without importing TensorFlow.
"""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """How one scalar measure of `end2_tf.uncertainty` is named and oriented."""

    column: str  # short name in metrics: ood_auroc_<column>
    sign: int  # +1 where larger means more uncertain, -1 where larger means more certain
    label: str  # for tables and axes


MEASURES = {
    "total_uncertainty": Measure("total", +1, "Total uncertainty"),
    "data_uncertainty": Measure("data", +1, "Data uncertainty"),
    "knowledge_uncertainty": Measure("knowledge", +1, "Knowledge uncertainty (mutual information)"),
    "epkl": Measure("epkl", +1, "Expected pairwise KL"),
    "mkl": Measure("mkl", +1, "Mean KL (reverse mutual information)"),
    "differential_entropy": Measure("differential_entropy", +1, "Differential entropy"),
    "max_prob": Measure("max_prob", -1, "Maximum probability"),
    "alpha0": Measure("precision", -1, "Precision"),
}
