"""How a server runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from end2_tf import config
from end2_tf.config import Count, NonNegative, Positive
from end2_tf.errors import ConfigError, unknown

PREFIX = "serving"
Port = Annotated[int, Field(ge=0, le=65535)]


@dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))
class Settings:
    """How a server runs; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: Port = 8501  # REST, as TensorFlow Serving's
    grpc_port: Port | None = 8500  # None: no gRPC
    max_batch_size: Count = 128  # inputs that are run together; larger requests are run in pieces
    max_queued: Count = 16_384  # inputs that may wait, of one signature; more are refused with 503
    batch_timeout: NonNegative = 0.0  # seconds that a batch waits to be filled; 0: an idle model starts at once
    batch_threads: Count | None = None  # batches that are run at a time; the number of cores by default
    max_request_bytes: Count = 16_000_000  # larger requests are refused with 413
    poll_seconds: Positive = 1.0  # how often folders are looked at for new versions
    receive_seconds: Positive = 30.0  # how long a request may take to arrive
    grace_seconds: Positive = 30.0  # how long requests that are being answered are waited for at the end


def build(port: int | None, grpc_port: int | None, changes: Sequence[str] = ()) -> Settings:
    """Returns settings from flags; None is the default.

    Args:
        port, grpc_port: See `Settings`.
        changes: `serving.field=value`, each; `none` for a value that isn't there.

    Raises:
        ConfigError: an unknown field, or a value that it can't have.
    """
    values: dict[str, Any] = {"port": port, "grpc_port": grpc_port}
    values = {name: value for name, value in values.items() if value is not None}
    names = [field.name for field in dataclasses.fields(Settings)]
    for change in changes:
        path, _, text = (part.strip() for part in change.partition("="))
        prefix, _, name = path.partition(".")
        if prefix != PREFIX or name not in names:
            raise ConfigError(unknown("--set", path, "a setting", [f"{PREFIX}.{each}" for each in names]))
        values[name] = None if text.lower() == "none" else text
    return config.build(Settings, PREFIX, **values)
