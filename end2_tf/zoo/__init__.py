"""Published models: ready to load, with cards, digests and inputs that they were tried on.

    >>> import end2_tf
    >>> end2_tf.zoo.list()
    ['cifar10_cnn_end', ...]
    >>> model = end2_tf.zoo.load("fashion_mnist_mlp_end2_aux")
    >>> model.predict(images)["knowledge_uncertainty"]

`python main.py --stage=publish` writes entries, `python main.py --zoo=NAME --input=FILE` predicts with one. Listing
imports no TensorFlow.
"""

from __future__ import annotations

from end2_tf.zoo.catalogue import check, entries, load, load_ensemble, table
from end2_tf.zoo.catalogue import names as list

__all__ = ["check", "entries", "list", "load", "load_ensemble", "table"]
