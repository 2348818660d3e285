"""Published models, to be served: every file is checked first."""

from __future__ import annotations

import re
from collections.abc import Sequence

from end2_tf.errors import ConfigError, ZooError
from end2_tf.serving.catalogue import STABLE, Model
from end2_tf.zoo import catalogue, places
from end2_tf.zoo.catalogue import Source

_VERSION = re.compile(r"([0-9]+)/saved_model\.pb")


def models(names: Sequence[str], source: Source = None) -> list[Model]:
    """Returns entries of a zoo as models to serve; all that are exported, if none is named.

    Args:
        names: Of entries.
        source: Where the zoo is; see `zoo.load`.

    Raises:
        ConfigError: none is exported.
        ZooError: an entry isn't there, isn't exported, or was altered.
    """
    place = places.find(source, None)
    found = []
    for name in names or sorted(place.index.entries):
        place = catalogue.find(name, source, None)
        versions = [int(m[1]) for file in place.manifest(name).files if (m := _VERSION.fullmatch(file))]
        if not versions:
            if names:
                raise ZooError(
                    f"{name} is published without an exported model. Name another with --zoo, or export it: "
                    "--stage=export."
                )
            continue
        folder = place.fetch_all(name)[catalogue.METADATA].parent
        found.append(Model(name, folder, versions=tuple(versions), labels={STABLE: max(versions)}))
    if not found:
        raise ConfigError(f"the zoo at {place.where} has no exported model. Publish one: --stage=publish.")
    return found
