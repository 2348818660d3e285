"""Asks every signature of a SavedModel, in a process that has TensorFlow and nothing of this package.

Run by path: `python -I _bare.py FOLDER INPUTS.npy OUTPUTS.npz`. Answers are called `<signature>/<output>`.
"""

import sys


class _Blocked:
    """Makes the package impossible to import, as where a server runs."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "end2_tf":
            raise ImportError("a SavedModel must open without end2_tf")
        return None


def main(folder, inputs, outputs):
    sys.meta_path.insert(0, _Blocked)
    import numpy as np
    import tensorflow as tf

    loaded, batch, answers = tf.saved_model.load(folder), np.load(inputs), {}
    for name, signature in loaded.signatures.items():
        ((argument, spec),) = signature.structured_input_signature[1].items()
        values = (
            tf.stack([tf.io.encode_png(image) for image in batch]) if spec.dtype == tf.string else tf.constant(batch)
        )
        for output, answer in signature(**{argument: values}).items():
            answers[f"{name}/{output}"] = answer.numpy()
    np.savez(outputs, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
