"""Members by this package's stacked engine, which trains in one call: its turns are taken between epochs.

python benchmarks/peers/stacked_end2_tf.py DATA.npz MEMBERS EPOCHS [CORE]
"""

from __future__ import annotations

import os
import sys

import numpy as np
from turns import Turns

HIDDEN, BATCH, RATE = (64, 64, 64), 100, 3e-3


def main(path: str, num: int, total: int, core: int | None = None) -> None:
    from end2_tf import workers

    os.environ.update(workers.ENVIRONMENT)  # as a run has it
    workers.prepare(core, threads=None if core is None else 1)
    from end2_tf import __version__, config, ensemble
    from end2_tf.data.dataset import DataSet
    from end2_tf.data.examples import Examples
    from end2_tf.ensemble import stacked

    arrays = np.load(path)
    train, held_out = (Examples(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "val"))
    names = tuple(map(str, range(int(train.labels.max()) + 1)))
    data = DataSet(train, held_out, held_out, None, {}, names)
    settings = config.Ensemble(
        backbone="mlp",
        options={"hidden": HIDDEN},
        num_members=num,
        epochs=total,
        batch_size=BATCH,
        optimizer=config.Optimizer(learning_rate=RATE, schedule="constant"),
    )
    members = [ensemble.build_member(settings, data, index) for index in range(num)]
    turns = Turns(f"end2_tf {__version__}")
    left = int(turns.next())

    def after_epoch(done: int, of: int, row: dict[str, float]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            turns.done()
            left = int(turns.next()) if done < of else 0

    stacked.train(members, data, settings, seeds=list(range(num)), progress=after_epoch)
    while turns.next():
        logits = ensemble.Ensemble(members).predict_logits(held_out.inputs)
        turns.answer(error=float((logits.argmax(-1) != held_out.labels[:, None]).mean()))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
