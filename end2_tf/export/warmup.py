"""Requests that TensorFlow Serving replays when it loads a version, so that no user waits for a graph's first run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from end2_tf.errors import ModelError, plain
from end2_tf.export import signatures
from end2_tf.reading import protos

FILE = "tf_serving_warmup_requests"  # in assets.extra; the name is TensorFlow Serving's
MAX_BYTES = 100_000_000
_SHARE = 0.95  # of them are the inputs' own; PNG files of noise are larger than the noise
BATCH_SIZES = (1, 32)  # a server that batches must take the larger: a version whose warm-up fails isn't loaded


def write(path: Path, name: str, inputs: np.ndarray, names: list[str]) -> int:
    """Writes a version's warm-up file: a TFRecord file of `PredictionLog` messages.

    Args:
        path: `<version>/assets.extra/tf_serving_warmup_requests`.
        name: What a server calls the model.
        inputs: Raw inputs, (n, *input shape); repeated as far as the batch sizes need.
        names: Of the signatures; each is asked once with every batch size.

    Returns:
        How many requests there are; TensorFlow Serving replays up to 1,000. Batches of large inputs are smaller, and
        there is no file where it couldn't hold one input a signature.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    room = int(_SHARE * MAX_BYTES) // (inputs[0].nbytes * len(names))  # inputs a signature
    if room == 0:
        return 0
    num, sizes = 0, sorted({min(size, max(1, room - 1)) for size in BATCH_SIZES})
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in names:
            for size in sizes:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = name, signature
                batch = np.resize(inputs, (size, *inputs.shape[1:]))
                if signature == signatures.BYTES:
                    encoded = [tf.io.encode_png(image).numpy() for image in batch]
                    request.inputs[signatures.IMAGE_BYTES].CopyFrom(tf.make_tensor_proto(encoded, tf.string))
                else:
                    request.inputs[signatures.INPUTS].CopyFrom(tf.make_tensor_proto(batch))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
                num += 1
    return num


def read(path: Path) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    """Yields a warm-up file's requests as (signature, inputs by name); raises ModelError where it holds others."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} has more than {MAX_BYTES:,} bytes, so it isn't read. Export the model again.")
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            inputs = {name: protos.array(value) for name, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs
    except (DecodeError, ValueError, tf.errors.OpError) as error:
        reason = plain((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise ModelError(f"{path} holds no requests ({reason}). Export the model again.") from None
