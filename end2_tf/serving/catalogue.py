"""Which models are served, from where, and which of their versions: TensorFlow Serving's models.config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from end2_tf import workdir
from end2_tf.errors import ConfigError
from end2_tf.reading import texts

FILE = "models.config"
_MAX_BYTES = 4_000_000
STABLE, CANARY = "stable", "canary"


@dataclass(frozen=True)
class Model:
    """A model to serve.

    Attributes:
        name: What requests call it.
        folder: Has a folder for each version.
        versions: To serve; None for the latest `num_latest`, 0 of which are all.
        num_latest: See `versions`.
        labels: Names for versions.
        is_labelled_anew: Whether labels move on, to what `label` says of the versions that are loaded.
    """

    name: str
    folder: Path
    versions: tuple[int, ...] | None = None
    num_latest: int = 1
    labels: Mapping[str, int] = field(default_factory=dict)
    is_labelled_anew: bool = False

    @property
    def there(self) -> list[int]:
        """The versions that are there and whole, in order; of one that is being copied the last file is missing."""
        return [v for v in workdir.versions(self.folder) if (self.folder / str(v) / "saved_model.pb").is_file()]

    def wanted(self) -> dict[int, Path]:
        """Returns the versions to serve that are there, and their folders."""
        there = self.there
        if self.versions is not None:
            there = [version for version in there if version in self.versions]
        elif self.num_latest:
            there = there[-self.num_latest :]
        return {version: self.folder / str(version) for version in there}


def label(versions: Iterable[int]) -> dict[str, int]:
    """Returns labels: the latest version is `stable`; of several the latest is `canary`, the one before it `stable`."""
    return dict(zip((STABLE, CANARY), sorted(versions)[-2:], strict=False))


def find(root: Path) -> list[Model]:
    """Returns the exported models below a folder, a zoo or a workdir's export/, with the labels of `label`.

    One version more than has a label is served, so that a new one doesn't push out the one that `stable` means.

    Raises:
        ConfigError: there are none.
    """
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        there = [] if folder.name.startswith(".") else Model(folder.name, folder).there
        if there:
            labels = label(there)
            found.append(Model(folder.name, folder, num_latest=len(labels) + 1, labels=labels, is_labelled_anew=True))
    if not found:
        raise ConfigError(
            f"{root} has no exported model to serve. Export one: --experiment=NAME --stage=export, or name a published "
            "one with --zoo=NAME."
        )
    return found


def write(models: Iterable[Model], base: str) -> str:
    """Returns models.config, the text form of `ModelServerConfig`.

    Args:
        models: What to serve.
        base: Folder of the models where the server runs, for instance /models.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    for model in models:
        one = config.model_config_list.config.add(
            name=model.name, base_path=f"{base.rstrip('/')}/{model.name}", model_platform="tensorflow"
        )
        policy = one.model_version_policy
        if model.versions is not None:
            policy.specific.versions.extend(model.versions)
        elif model.num_latest:
            policy.latest.num_versions = model.num_latest
        else:
            policy.all.SetInParent()
        for label, version in sorted(model.labels.items()):
            one.version_labels[label] = version
    return text_format.MessageToString(config)


def read(path: Path) -> list[Model]:
    """Reads models.config. A base path that isn't absolute is taken from the file's folder.

    Raises:
        ConfigError: the file isn't there, isn't of that format, or names a model twice.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = texts.read_text(path, ConfigError, "Name a models.config, or a folder.", most=_MAX_BYTES)
    try:
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no text form of TensorFlow Serving's ModelServerConfig: {error}. Correct it."
        ) from None
    models: dict[str, Model] = {}
    for one in config.model_config_list.config:
        if not one.name or not one.base_path or one.name in models:
            raise ConfigError(f"{path} has the model {one.name!r} twice, or without a name or base_path. Correct it.")
        if not texts.is_name(one.name) or "/" in one.name or ":" in one.name or "\0" in one.base_path:
            raise ConfigError(f"{path} has the model {one.name!r}, which no request could name. Correct it.")
        kind = one.model_version_policy.WhichOneof("policy_choice")
        policy = one.model_version_policy
        models[one.name] = Model(
            one.name,
            path.parent / one.base_path,
            versions=tuple(policy.specific.versions) if kind == "specific" else None,
            num_latest=0 if kind == "all" else (policy.latest.num_versions or 1),
            labels=dict(one.version_labels),
        )
    if not models:
        raise ConfigError(f"{path} names no model. Add one to model_config_list.")
    return list(models.values())
