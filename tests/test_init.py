"""Importing the package: cheap, and enough for plain Keras to open what we wrote."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import end2_tf
from end2_tf import losses
from end2_tf.heads import DirichletHead
from end2_tf.models import UncertaintyClassifier


def _python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_import_brings_no_tensorflow():
    done = _python("import sys, end2_tf; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "imports", ["import end2_tf, keras", "import keras, end2_tf", "import end2_tf, tensorflow, keras"]
)
def test_plain_keras_opens_our_models_in_a_fresh_process(tmp_path, imports):
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model = UncertaintyClassifier(backbone, DirichletHead(offset=1.0))
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    model.save(tmp_path / "m.keras")
    backbone.compile("adam", losses.DirichletNLL(targets="members"))
    backbone.save(tmp_path / "compiled.keras")
    np.savez(tmp_path / "x.npz", x=x, **model.predict(x, verbose=0))
    code = (
        f"{imports}\nimport numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'm.keras')!r})\n"
        f"file = np.load({str(tmp_path / 'x.npz')!r})\n"
        "for name, values in model.predict(file['x'], verbose=0).items():\n"
        "    np.testing.assert_allclose(values, file[name], rtol=1e-5)\n"
        f"keras.saving.load_model({str(tmp_path / 'compiled.keras')!r})\n"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr


def test_public_names():
    for name in end2_tf.__all__:
        assert getattr(end2_tf, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        end2_tf.distill  # noqa: B018
