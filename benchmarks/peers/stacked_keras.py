"""One member by Keras' own `fit`, compiled into a graph.

python benchmarks/peers/stacked_keras.py DATA.npz
"""

from __future__ import annotations

import sys

import keras
import numpy as np
from turns import take

HIDDEN, BATCH, RATE = (64, 64, 64), 100, 3e-3


def main(path: str) -> None:
    data = np.load(path)
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, "relu") for units in HIDDEN]
    model = keras.Sequential(
        [keras.Input(data["x_train"].shape[1:]), *hidden, keras.layers.Dense(int(data["y_train"].max()) + 1)]
    )
    model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def epochs(number: int) -> None:
        model.fit(data["x_train"], data["y_train"], batch_size=BATCH, epochs=number, verbose=0)

    def error() -> float:
        return float((model.predict(data["x_val"], verbose=0).argmax(-1) != data["y_val"]).mean())

    take(epochs, error, f"keras {keras.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
