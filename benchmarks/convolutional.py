"""How fast convolutional members are trained side by side, beside Keras' own fit of one after the other.

python benchmarks/convolutional.py [--quick] [--rows=FILE]

Two members in each: ours as a run trains them, in processes of one thread and one core each where that pays; Keras' in
one process with all cores. A network of 24k weights on images of 28×28, and one of 290k on 32×32×3. Images are noisy
templates of their classes, so that a network has something to learn, and both ways show the error after as many epochs.
Steady state: from the end of the first epoch to that of the last.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import timing
from timing import Row

from end2_tf.errors import ModelError
from end2_tf.progress import Progress

MEMBERS, BATCH, CLASSES = 2, 128, 10
REPETITIONS = 5


@dataclasses.dataclass(frozen=True)
class Case:
    """Networks and images: which, how many for a few seconds, and how many times as fast ours should be."""

    name: str
    shape: tuple[int, int, int]
    options: dict[str, Any]
    examples: int
    target: float


CASES = (
    Case("24k weights, 28×28", (28, 28, 1), {"filters": [8, 16, 32], "dense": 64}, 6_000, 1.7),
    Case("290k weights, 32×32×3", (32, 32, 3), {"filters": [32, 64, 128], "dense": 96}, 1_500, 1.0),
)


def measure(quick: bool = False) -> list[Row]:
    """Returns images a second of both ways, their ratio, and the members' errors."""
    rows = []
    for case in CASES[: 1 if quick else None]:
        num, epochs, repetitions = (600, 3, 1) if quick else (case.examples, 5, REPETITIONS)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npz"
            _write_images(path, case, num)
            found: dict[str, list[dict[str, float]]] = {"ours": [], "keras": []}
            for repetition in range(repetitions):
                for way in list(found)[:: -1 if repetition % 2 else 1]:
                    found[way].append(_child(way, str(path), case.options, epochs, repetition))
        rates = {way: [each["rate"] for each in several] for way, several in found.items()}
        rows += [Row("convolutional", f"{case.name}, {way}", "images/s", tuple(rates[way])) for way in found]
        ratio = timing.ratios(rates["ours"], rates["keras"])
        rows.append(Row("convolutional", f"{case.name}, ours / keras", "×", ratio, case.target))
        for way, several in found.items():
            errors = tuple(100 * each["error"] for each in several)
            rows.append(Row("convolutional", f"{case.name}, {way}: error", "%", errors))
    return rows


def _write_images(path: Path, case: Case, num: int) -> None:
    rng = np.random.default_rng(0)
    templates = rng.uniform(0, 255, (CLASSES, *case.shape))

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, CLASSES, count)
        noise = rng.normal(0, 200, (count, *case.shape))
        return np.clip(templates[labels] + noise, 0, 255).astype(np.uint8), labels

    x_train, y_train = drawn(num)
    x_test, y_test = drawn(1000)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, x_val=x_test, y_val=y_test)


def _child(way: str, path: str, options: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Trains in a process of its own; returns images a second and the members' mean error."""
    arguments = json.dumps([way, path, options, epochs, seed])
    done = subprocess.run(
        [sys.executable, __file__, f"--child={arguments}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ModelError(f"training {way} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


class _Noted(Progress):
    """Notes when so many epochs of all members were done."""

    def __init__(self, quiet: bool):
        super().__init__(quiet)
        self.times: list[tuple[int, float]] = []

    def __call__(self, what: str, done: int, of: int, figures: dict[str, float]) -> None:
        self.times.append((done, time.perf_counter()))


def ours(path: str, options: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Trains as the stage `ensemble` does."""
    from end2_tf import config, registry, stages
    from end2_tf.workdir import Workdir

    experiment = config.override(
        registry.experiments()["own_data_end2"],
        {
            "seed": seed,
            "data.path": path,
            "ensemble.backbone": "cnn",
            "ensemble.options": options,
            "ensemble.num_members": MEMBERS,
            "ensemble.epochs": epochs,
            "ensemble.batch_size": BATCH,
            "ensemble.optimizer.schedule": "constant",
        },
    )
    noted = _Noted(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        run = stages.Run("own_data_end2", experiment, Workdir(Path(folder)), progress=noted, say=lambda line: None)
        run.run_stage("ensemble")
        chosen = run.ensemble.predict_logits(run.data.test.inputs).argmax(-1)
        error = float(np.mean(chosen != run.data.test.labels[:, None]))
        images = len(run.data.train)
    first = next(moment for done, moment in noted.times if done >= MEMBERS)
    last_done, last = noted.times[-1]
    return {"rate": (last_done - MEMBERS) * images / (last - first), "error": error}


def keras(path: str, options: dict[str, Any], epochs: int, seed: int) -> dict[str, float]:
    """Trains one member after the other by `fit`."""
    import keras

    from end2_tf import backbones

    data = np.load(path)
    x, y = data["x_train"], data["y_train"]
    pixels = x.astype(np.float64)
    moments = {"mean": pixels.mean((0, 1, 2)).astype(np.float32), "std": pixels.std((0, 1, 2)).astype(np.float32)}
    seconds, errors = 0.0, []
    for member in range(MEMBERS):
        keras.utils.set_random_seed(100 * seed + member)
        model = backbones.build("cnn", options, input_shape=x.shape[1:], num_classes=CLASSES, **moments)
        model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        started = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, epochs=epochs - 1, verbose=0)
        seconds += time.perf_counter() - started
        errors.append(np.mean(model.predict(data["x_test"], verbose=0).argmax(-1) != data["y_test"]))
    return {"rate": MEMBERS * (epochs - 1) * len(x) / seconds, "error": float(np.mean(errors))}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:] and sys.argv[1].startswith("--child="):
        from end2_tf import workers

        os.environ.update(workers.ENVIRONMENT)  # the same for both
        given, *arguments = json.loads(sys.argv[1].removeprefix("--child="))
        print(json.dumps({"ours": ours, "keras": keras}[given](*arguments)))
        sys.exit(0)
    sys.exit(timing.main(__doc__, measure))
