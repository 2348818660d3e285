"""EnD against EnD²: the page that says which is better, from finished runs; nothing is trained.

    python main.py --compare=runs/spirals_mlp_end2,runs/fashion_mnist_mlp_end2

Every number and every word of the answer follows from the arrays that evaluations left on disk.
"""

from __future__ import annotations

from end2_tf.compare.page import build

__all__ = ["build"]
