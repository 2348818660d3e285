"""Small exported models, and a server of them in a thread."""

import asyncio
import contextlib
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from end2_tf import backbones
from end2_tf.export import savedmodel
from end2_tf.export.thresholds import Thresholds
from end2_tf.heads import DirichletHead
from end2_tf.models import UncertaintyClassifier
from end2_tf.serving import catalogue, server
from end2_tf.serving.settings import Settings

CLASSES = ["left", "middle", "right"]
LIMITS = Thresholds(1.0, 0.05, "coverage", 0.9, 0.0, 0.01, 50, 50, 0.9, 0.1)


def write_model(root, name, shape, seed=0):
    """Writes the next version of a small model, untried, as tests/export/ tries them; returns the Keras model."""
    keras.utils.set_random_seed(seed)
    kind, options = ("cnn", {"filters": [4], "dense": 8}) if len(shape) == 3 else ("mlp", {"hidden": [8]})
    scale = np.full(shape[-1], 60.0)
    network = backbones.build(kind, options, input_shape=shape, num_classes=3, mean=2 * scale, std=scale)
    model = UncertaintyClassifier(network, DirichletHead())
    dtype = np.uint8 if len(shape) == 3 else np.float32
    inputs = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(dtype)
    details = {"name": name, "classes": CLASSES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(savedmodel, "_ask", lambda *args: {})
        patch.setattr(savedmodel, "_compare", lambda *args: 0.0)
        savedmodel.write(model, root / name, inputs=inputs, thresholds=LIMITS, lite=False, details=details)
    return model


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder of two models, `points` with two features and `images` with 8×8 grey pixels, two versions of the first.

    Returns the folder, and the Keras models by (name, version).
    """
    root = tmp_path_factory.mktemp("exported")
    models = {("points", version): write_model(root, "points", (2,), seed=version) for version in (1, 2)}
    models["images", 1] = write_model(root, "images", (8, 8, 1))
    return root, models


@pytest.fixture
def models_folder(exported, tmp_path):
    """A copy of the exported models that a test may change."""
    shutil.copytree(exported[0], tmp_path / "models")
    return tmp_path / "models"


class Served:
    """A running server: its addresses, and how to stop it."""

    def __init__(self, models, **changes):
        self.settings = Settings(**{"port": 0, "grpc_port": 0, "poll_seconds": 0.05, **changes})
        self.models, self.said = models, []
        self._ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.error = None

    def _run(self):
        async def main():
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await server.answer_until(
                self._stop, self.models, self.settings, say=self.said.append, ready=self._is_ready
            )

        try:
            asyncio.run(main())
        except Exception as error:
            self.error = error
        finally:
            self._ready.set()

    def _is_ready(self, rest, grpc):
        self.rest, self.grpc = rest, grpc
        self._ready.set()

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self.thread.join(30)
        assert not self.thread.is_alive()

    def __enter__(self):
        self.thread.start()
        assert self._ready.wait(60)
        if self.error is not None:
            raise self.error
        return self

    def __exit__(self, *_):
        with contextlib.suppress(RuntimeError):  # its loop is closed: it was stopped already
            self.stop()


@pytest.fixture(scope="session")
def served(exported):
    """A server of the exported models, for tests that leave it as it is."""
    logging.getLogger("end2_tf.serving").setLevel(logging.CRITICAL)
    with Served(catalogue.find(exported[0])) as running:
        yield running


@pytest.fixture
def serve():
    """Starts servers of a test's own: `serve(models, **settings)`."""
    with contextlib.ExitStack() as stack:
        yield lambda models, **settings: stack.enter_context(Served(models, **settings))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(32) as executor:
        yield executor
