"""Tensors in messages from outside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_MAX_DIMENSIONS = 64  # NumPy's
_FIELDS = (  # of TensorProto: values one by one
    *("half_val", "float_val", "double_val", "int_val", "string_val", "scomplex_val"),
    *("int64_val", "bool_val", "dcomplex_val", "uint32_val", "uint64_val"),
)


def array(proto: Any) -> np.ndarray:
    """Returns a TensorProto's array; strings as objects.

    Raises:
        ValueError: it is no tensor, or its shape is larger than the values it comes with: one that stands for many
            makes a small message a lot of memory.
    """
    import tensorflow as tf

    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise ValueError("has no complete shape")
    if len(sizes) > _MAX_DIMENSIONS:
        raise ValueError(f"has {len(sizes)} dimensions; at most {_MAX_DIMENSIONS} are allowed")
    given = len(proto.tensor_content) or max(len(getattr(proto, field)) for field in _FIELDS)
    if math.prod(sizes) > max(given, 1):
        raise ValueError(f"has shape {tuple(sizes)}, but {given} values or bytes. Send them all")
    try:
        found = tf.make_ndarray(proto)
    except Exception:  # a proto from elsewhere; TensorFlow has no one error for what can be wrong with it
        raise ValueError("is no tensor: its dtype, shape and values don't fit together") from None
    return found.astype(object) if found.dtype.kind in "SU" else found
