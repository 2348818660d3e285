"""Names of stages, and of experiments, studies, data sources, backbones, losses and heads: the files in their folders.

Nothing is registered by hand. Adding `end2_tf/losses/my_loss.py` adds the loss `my_loss`; listing a folder imports
nothing, so `--list` and misspelt names cost no TensorFlow import.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from end2_tf.errors import ConfigError, suggestion, unknown

STAGES = ("ensemble", "transfer", "student", "evaluate", "report")
EXPORT, PUBLISH = "export", "publish"
ASKED_FOR = (EXPORT, PUBLISH)  # stages that run only when they are asked for

PACKAGE = Path(__file__).resolve().parent
FOLDERS = {
    "experiment": "experiments",
    "study": "studies",
    "data source": "data/sources",
    "backbone": "backbones",
    "loss": "losses",
    "head": "heads",
}


def names(kind: str) -> list[str]:
    """Returns the names of one kind, a key of `FOLDERS`, in alphabetical order."""
    folder = PACKAGE / FOLDERS[kind]
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def module(kind: str, name: str, field: str) -> ModuleType:
    """Imports the file that defines `name`.

    Args:
        kind: A key of `FOLDERS`.
        name: The file's name without `.py`.
        field: The config field that the name came from, for the message.

    Raises:
        ConfigError: there is no such file.
    """
    check(kind, name, field)
    return importlib.import_module(f"end2_tf.{FOLDERS[kind].replace('/', '.')}.{name}")


def check(kind: str, name: str, field: str) -> None:
    """Raises ConfigError unless a file defines `name`; imports nothing."""
    if name not in names(kind):
        article = "an" if kind[0] in "aeiou" else "a"
        raise ConfigError(
            unknown(
                field, name, f"{article} {kind}", names(kind), f"A new one is one file in end2_tf/{FOLDERS[kind]}/."
            )
        )


@functools.cache
def experiments() -> dict[str, object]:
    """Returns every experiment by name; files of experiments hold values only, so this is cheap.

    Raises:
        ConfigError: two files define an experiment of the same name.
    """
    return _defined("experiment", "EXPERIMENTS")


@functools.cache
def studies() -> dict[str, object]:
    """Returns every study by name, as `experiments` does."""
    return _defined("study", "STUDIES")


def _defined(kind: str, variable: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in names(kind):
        for key, value in getattr(module(kind, name, kind), variable).items():
            if key in found:
                raise ConfigError(
                    f"{kind} {key!r} is defined twice, once in end2_tf/{FOLDERS[kind]}/{name}.py. Rename one."
                )
            found[key] = value
    return found


def is_on_labels(loss: str) -> bool:
    """Returns whether a loss compares with labels and needs no ensemble: its file says `ON_LABELS = True`."""
    return _says(loss, "ON_LABELS")


def knows_outside(loss: str) -> bool:
    """Returns whether a loss on labels has a target for auxiliary inputs, which have none: `OUTSIDE = True`."""
    return _says(loss, "OUTSIDE")


@functools.cache
def _says(loss: str, what: str) -> bool:
    """Returns whether a loss's file sets a name to True; read without importing it."""
    return loss in names("loss") and _constant("loss", loss, what) is True


@functools.cache
def widths(backbone: str) -> dict[str, Any]:
    """Returns a backbone's options that say how wide it is, with their defaults: its file names them in `WIDTHS`.

    Read without importing it, which would import TensorFlow; empty where the file names none.
    """
    named = _constant("backbone", backbone, "WIDTHS") or ()
    if not named:
        return {}
    (logits,) = (n for n in _tree("backbone", backbone).body if isinstance(n, ast.FunctionDef) and n.name == "logits")
    defaults = zip(logits.args.kwonlyargs, logits.args.kw_defaults, strict=True)
    return {option.arg: ast.literal_eval(default) for option, default in defaults if option.arg in named and default}


def _tree(kind: str, name: str) -> ast.Module:
    return ast.parse((PACKAGE / FOLDERS[kind] / f"{name}.py").read_text(encoding="utf-8"))


def _constant(kind: str, name: str, variable: str) -> Any:
    """Returns the literal that a file gives a variable of its own, or None; read without importing it."""
    for node in _tree(kind, name).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == variable for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def class_of(kind: str, names_of: dict[str, str], wanted: str) -> Any:
    """Returns a class of a package whose files define one each, imported when it is asked for.

    Args:
        kind: A key of `FOLDERS`.
        names_of: The classes' names → their files'.
        wanted: The class's name.

    Raises:
        AttributeError: no file defines it.
    """
    package = f"end2_tf.{FOLDERS[kind]}"
    if wanted not in names_of:
        raise AttributeError(
            f"{package} has no {wanted!r}. {suggestion(wanted, names_of)}{FOLDERS[kind].capitalize()}: "
            f"{', '.join(sorted(names_of))}."
        )
    return getattr(importlib.import_module(f"{package}.{names_of[wanted]}"), wanted)


def class_name(name: str) -> str:
    """Returns the class that a loss's file defines: `dirichlet_nll` → `DirichletNLL`."""
    acronyms = {"nll": "NLL", "kl": "KL"}
    return "".join(acronyms.get(part, part.capitalize()) for part in name.split("_"))
