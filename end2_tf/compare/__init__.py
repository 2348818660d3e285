"""EnD against EnD²: the page that says which is better, from finished runs; nothing is trained.

    python main.py --compare=runs/spirals_mlp_end2,runs/fashion_mnist_mlp_end2
    python main.py --compare=zoo/pages/end_or_end2.json,runs/cifar10_cnn_end2

The second adds a run to a page whose own runs may be gone. If its members are those of a run on the page, as where
`ensemble.models` names the published ensemble, it adds its students to that run. Every number and every word of the
answer follows from the arrays that evaluations left on disk.
"""

from __future__ import annotations

from end2_tf.compare.page import build

__all__ = ["build"]
