"""Where data come from: one file a source, found by its name; any other name is looked up in TFDS.

A source is a module with two functions:

    load(*, field, name, path, data_dir, download, seed, validation_fraction, **options) -> Splits
    fingerprint(*, field, name, path, data_dir, **options) -> str

Each may leave out arguments that it has no use for; a source without `path` refuses a path. The options are `load`'s
other arguments: their defaults and annotations (`Annotated[float, Field(gt=0)]` and the like) are what is allowed.
`fingerprint` returns a SHA-256 in hex that changes when the data do. It must be cheap and load no arrays. A source that
can fetch its data has a third function, `download(*, field, name, path, data_dir, **options)`, which does nothing if
they are there. `field` is where the config names the source; one that reads another needs it for messages.
`validation_fraction` is the share of an in-domain train split without its own validation split that is held out. A
source that can read its inputs some at a time takes `lazily`, and gives a `Stream` where that is true. One that can
read a split without the others takes `wanted`; see `chosen`. One that reads files elsewhere than at its `path` has
`location(*, name, path, data_dir)`, by which it is known again, whatever its options.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from end2_tf import options as option_values
from end2_tf import registry
from end2_tf.errors import ConfigError, unknown

if TYPE_CHECKING:
    from end2_tf.data.examples import Splits

_CONTEXT = ("field", "name", "path", "data_dir", "download", "seed", "validation_fraction", "lazily", "wanted")
_FALLBACK = "tfds"


@dataclass(frozen=True)
class Reader:
    """A source whose options have been checked, ready to be read.

    Attributes:
        field: Where the config names it, for messages: `data`, `data.auxiliary`, `data.ood.mnist`.
        name: The name given there.
        path: Its own data's file or folder.
        options: Every option of its `load`, defaults filled in.
        module: The module that defines it.
    """

    field: str
    name: str
    path: str | None
    options: dict[str, Any]
    module: ModuleType

    def __str__(self) -> str:
        return f"{self.field} {self.name!r}"

    def parts(self) -> list[Reader]:
        """Returns the readers of what the source is made of, itself where it is made of nothing else."""
        if not hasattr(self.module, "parts"):
            return [self]
        own = self.module.parts(**_accepted(self.module.parts, {"field": self.field} | self.options))
        return [part for reader in own for part in reader.parts()]

    @property
    def is_lazy(self) -> bool:
        """Whether the source can read its inputs some at a time."""
        return "lazily" in inspect.signature(self.module.load).parameters

    def load(
        self,
        *,
        data_dir: str | None,
        download: bool,
        seed: int,
        validation_fraction: float = 0.0,
        lazily: bool = False,
        wanted: Sequence[str] = (),
    ) -> Splits:
        """Returns the source's splits, their inputs as streams if that is asked for and can be.

        With `wanted`, names of splits, at least the first of them that is there; without, all.

        Raises:
            DataError: they can't be had.
        """
        context = self._context(data_dir) | {"download": download, "seed": seed, "lazily": lazily}
        context |= {"validation_fraction": validation_fraction, "wanted": wanted}
        return self.module.load(**_accepted(self.module.load, context | self.options))

    def download(self, *, data_dir: str | None) -> None:
        """Fetches the data where the source can and they aren't there yet."""
        if hasattr(self.module, "download"):
            self.module.download(**_accepted(self.module.download, self._context(data_dir) | self.options))

    def location(self, *, data_dir: str | None) -> Path | None:
        """Returns the file or folder that the source reads, there or not; None where its options make its examples."""
        if hasattr(self.module, "location"):
            found = self.module.location(**_accepted(self.module.location, self._context(data_dir)))
        else:
            found = Path(self.path).expanduser() if self.path else None
        return None if found is None else found.resolve()

    def severity(self) -> tuple[str, int] | None:
        """Returns the shift that the source is and its degree, from 1; None where it isn't one of several degrees."""
        if not hasattr(self.module, "severity"):
            return None
        return self.module.severity(**_accepted(self.module.severity, self._context(None) | self.options))

    def fingerprint(self, *, data_dir: str | None) -> str:
        """Returns the source's own digest; raises DataError if the data aren't there."""
        return self.module.fingerprint(**_accepted(self.module.fingerprint, self._context(data_dir) | self.options))

    def _context(self, data_dir: str | None) -> dict[str, Any]:
        return {"field": self.field, "name": self.name, "path": self.path, "data_dir": data_dir}


def find(name: str, *, field: str, options: dict[str, Any], path: str | None = None) -> Reader:
    """Finds a source and checks its options; loads no data.

    Args:
        name: A file in this folder, or a TFDS name, `set`, `set/config` or `set:version`.
        field: The config field that names it, for messages.
        options: As given; `path` may be among them, for sets that have no path field of their own.
        path: The config's path.

    Raises:
        ConfigError: an option is unknown, has a wrong type or is out of its range; or a path is given to a source that
            reads none.
    """
    is_file = name in registry.names("data source")
    module = registry.module("data source", name if is_file else _FALLBACK, f"{field}.name")
    for function in ("load", "fingerprint"):
        if not hasattr(module, function):
            raise ConfigError(
                f"{field}.name is {name!r}, but end2_tf/data/sources/{name}.py has no {function}(). "
                "See end2_tf/data/sources/__init__.py for what a source defines."
            )
    options = dict(options)
    if "path" in options:
        path = option_values.value("path", str, options.pop("path"), f"{field}.options")
    if path is not None and "path" not in inspect.signature(module.load).parameters:
        raise ConfigError(
            f"{field}.path is {path!r}, but the source {name!r} reads no path. Set {field}.name=own_data, or no path."
        )
    return Reader(field, name, path, _checked_options(module.load, options, f"{field}.options", name), module)


def chosen(there: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Returns which of a source's splits are read: the first that is wanted, or all where none is or nobody asks."""
    known = list(there)
    return [name for name in wanted if name in known][:1] or known


def _accepted(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns those of `values` that the function has arguments for; `**options` takes options only."""
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {key: value for key, value in values.items() if key in parameters or (takes_all and key not in _CONTEXT)}


def _checked_options(load: Callable[..., Any], given: dict[str, Any], field: str, name: str) -> dict[str, Any]:
    parameters = inspect.signature(load).parameters
    hints = typing.get_type_hints(load, include_extras=True)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    allowed = [key for key, p in parameters.items() if key not in _CONTEXT and p.kind is not p.VAR_KEYWORD]
    options = {}
    for key, value in given.items():
        if key in allowed:
            options[key] = option_values.value(key, hints.get(key, Any), value, field)
        elif open_ended and key not in _CONTEXT:
            options[key] = value
        else:
            raise ConfigError(unknown(field, key, "an option", allowed, f"They are those of the source {name!r}."))
    for key in allowed:
        if key not in options:
            default = parameters[key].default
            if default is inspect.Parameter.empty:
                raise ConfigError(
                    f"{field}.{key} is missing; the source {name!r} needs it. Set it with --set {field}.{key}=…"
                )
            options[key] = default
    return options
