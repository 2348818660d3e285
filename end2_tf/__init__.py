"""Ensemble Distribution Distillation in Keras 3 on TensorFlow.

Importing this imports no TensorFlow; the names below load what they need when they are first used. Once it is
imported, `keras.saving.load_model` opens every model that end2_tf wrote.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Ensemble": "end2_tf.ensemble",
    "UncertaintyClassifier": "end2_tf.models",
    "distil": "end2_tf.student",
    "DirichletHead": "end2_tf.heads",
    "SoftmaxHead": "end2_tf.heads",
}
_MODULES = ("heads", "losses", "metrics", "uncertainty", "zoo")

__all__ = ["DirichletHead", "Ensemble", "SoftmaxHead", "UncertaintyClassifier", "distil"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"end2_tf.{name}")
    raise AttributeError(f"module 'end2_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_MODULES])


def _register() -> None:
    """Imports the classes that saved models name, so that Keras knows them."""
    from end2_tf import registry

    files = [f"end2_tf.{registry.FOLDERS[kind]}.{name}" for kind in ("head", "loss") for name in registry.names(kind)]
    for module in ("end2_tf.layers", "end2_tf.models", "end2_tf.training", *files):
        importlib.import_module(module)


class _RegisterAfterKeras:  # no importlib.abc.MetaPathFinder, whose import costs more than the rest of this file
    """Registers our classes the moment Keras has been imported, whoever imports it.

    Keras opens a saved class only if it is registered, and registering needs Keras, which costs seconds to import. So
    neither importing it here nor asking users to import our submodules by hand will do.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras":
            return None
        # TensorFlow asks where Keras is without importing it, so this stays until Keras is really run.
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            run(module)
            _register()

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


if "keras" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _RegisterAfterKeras())
