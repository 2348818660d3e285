"""What an experiment is: dataclasses with types, ranges and choices that stand once, here.

The same declarations serve `--set path.to.field=value`, `--describe`, the error messages and the tests that try every
wrong value. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import Field
from pydantic.dataclasses import dataclass

from end2_tf import registry
from end2_tf.errors import ConfigError, suggestion, unknown


def _no_truth_value(value: Any) -> Any:
    """Python takes True for 1; a user who writes true for a number made a mistake."""
    if isinstance(value, bool):
        raise pydantic_core.PydanticCustomError("number_type", "a number")
    return value


_Number = pydantic.BeforeValidator(_no_truth_value)
Fraction = Annotated[float, Field(ge=0, le=1), _Number]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), _Number]
Positive = Annotated[float, Field(gt=0), _Number]
NonNegative = Annotated[float, Field(ge=0), _Number]
Count = Annotated[int, Field(ge=1), _Number]
CountOrZero = Annotated[int, Field(ge=0), _Number]

_STRICT = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Augmentation:
    """Random changes of a training example. One draw of all of them is a *view* (see end2_tf.data.augmentation)."""

    flip: bool = False  # horizontally, with probability 1/2
    shift: NonNegative = 0  # pixels, uniform in ±shift on each axis, whole ones if shift is whole; reflected at borders
    rotation: Annotated[float, Field(ge=0, le=180), _Number] = 0.0  # degrees, uniform in [-rotation, rotation]
    scale: Annotated[float, Field(ge=0, le=2), _Number] = 0.0  # ln of the enlargement, uniform in ±scale, per axis
    invert: Fraction = 0.0  # probability that pixel values v become 255 - v
    jitter: NonNegative = 0.0  # standard deviation of added noise; 1 is that of the inputs it changes, per feature
    mixup: Fraction = 0.0  # probability that an input is mixed up with another one, in a proportion uniform in [0, 1]
    share: Fraction = 1.0  # of the inputs that are changed at all in a view, each view others

    @property
    def is_identity(self) -> bool:
        return self.share == 0 or not (self.changes_images or self.jitter or self.mixup)

    @property
    def changes_images(self) -> bool:
        return bool(self.flip or self.shift or self.rotation or self.scale or self.invert)


@dataclass(frozen=True, config=_STRICT)
class Source:
    """One set of inputs: a file in end2_tf/data/sources/, or any image classification set of TFDS by name."""

    name: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def parts(self) -> Iterator[Source]:
        """Yields the source itself, then those that it is made of, its option `of`, down to the last."""
        yield self
        of = self.options.get("of", [])
        for part in of if isinstance(of, list) else [of]:
            if isinstance(part, str):
                yield from Source(part).parts()
            elif isinstance(part, dict):
                yield from build(Source, "of", **part).parts()


@dataclass(frozen=True, config=_STRICT)
class Data:
    """The in-domain data, auxiliary inputs without labels, and the further test sets.

    What `ood` names should be told from the test set; what `shifted` names, with the same classes and labels, should
    be classified as well. A set under one name in both is measured both ways.
    """

    name: str = "spirals"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    path: str | None = None  # own data: an .npz file or a folder of images per class
    validation_fraction: ShareBelowOne = 0.1  # of train, where the source has no validation split
    auxiliary: Source | None = None
    ood: dict[str, Source] = dataclasses.field(default_factory=dict)
    shifted: dict[str, Source] = dataclasses.field(default_factory=dict)
    max_train: Count | None = None  # use only so many examples, chosen by seed
    max_test: Count | None = None  # of validation, test and each OOD or shifted set


@dataclass(frozen=True, config=_STRICT)
class Optimizer:
    """Adam and its learning rate over a training; see end2_tf.schedules for the shapes."""

    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    cycle: Fraction = 2 / 3  # one_cycle: share of the training that the cycle takes
    floor: Fraction = 0.0  # cosine: share of the learning rate that it ends at
    average: ShareBelowOne = 0.0  # momentum of a moving average of the weights, which is the result; 0: none
    weight_decay: NonNegative = 0.0  # decoupled; never on biases and normalisation
    clip_norm: Positive | None = None


@dataclass(frozen=True, config=_STRICT)
class Ensemble:
    """The teacher: members that differ by seed, initial values and order of data."""

    backbone: str = "mlp"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_members: Count = 10
    epochs: Count = 45
    batch_size: Count = 128
    optimizer: Optimizer = Optimizer()
    augmentation: Augmentation = Augmentation()
    engine: Literal["auto", "stacked", "sequential"] = "auto"
    models: Annotated[str, Field(min_length=1)] | None = None  # a glob of Keras files to use instead of training any
    mixed_precision: bool = False  # trains under bfloat16; weights, saved models and predictions are float32


@dataclass(frozen=True, config=_STRICT)
class Transfer:
    """What the student is shown, and what is recorded of the members there."""

    mode: Literal["clean", "views", "online"] = "clean"
    num_views: Count = 4  # mode=views: recorded augmented views
    augmentation: Augmentation = Augmentation()  # of the views, and of the student's inputs in every mode
    auxiliary_augmentation: Augmentation = Augmentation()  # of auxiliary inputs; mixup is with in-domain ones
    keep_inputs: bool = False  # mode=views: the views themselves too, not only what members said; faster, larger
    auxiliary_share: Annotated[float, Field(gt=0, lt=1), _Number] = (
        0.5  # of each batch, for methods with auxiliary data
    )
    dtype: Literal["float16", "float32"] = "float32"  # of the members' logits on disk
    num_members: Count | None = None  # learn from the first so many members only; recordings hold all


@dataclass(frozen=True, config=_STRICT)
class Method:
    """One way to train a student: a loss and what it is shown."""

    loss: str
    loss_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    offset: Fraction = 0.0  # of the Dirichlet head: alphas = exp(logits) + offset
    auxiliary: bool = False
    augmentation: Augmentation | None = None  # losses on labels: instead of the members'
    labels: ShareBelowOne = 0.0  # losses on members: share of the true label in the target of the mean
    temperature: Annotated[float, Field(ge=1), _Number] = 1.0  # T0
    temperature_schedule: Literal["constant", "anneal"] = "constant"
    temperature_cycle: Fraction = 2 / 3  # anneal: T0 for half of it, linear to 1 over the other half
    temperature_levels: Annotated[int, Field(ge=2), _Number] = (
        32  # the schedule is piecewise constant on this many values
    )
    optimizer: Optimizer | None = None  # instead of the student's
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the backbone, on top of the student's


@dataclass(frozen=True, config=_STRICT)
class Student:
    """The network that the ensemble is distilled into."""

    backbone: str | None = None  # the members' by default
    options: dict[str, Any] | None = None  # the members' by default, where the backbone is theirs
    epochs: Count = 90
    batch_size: Count = 128
    optimizer: Optimizer = Optimizer()
    num_seeds: Count = 1
    seeds_of: dict[str, Count] = dataclasses.field(default_factory=dict)  # of some methods, instead of num_seeds
    methods: tuple[str, ...] = (  # none: the ensemble alone
        "single_matched",
        "end",
        "end_aux",
        "end2_nll",
        "end2_nll_aux",
        "end2",
        "end2_aux",
    )
    mixed_precision: bool = False  # as the ensemble's


@dataclass(frozen=True, config=_STRICT)
class Evaluation:
    """How models are measured. On `validation`, for choosing between them, the test split is left alone."""

    split: Literal["test", "validation"] = "test"  # the in-domain examples of every metric
    num_bins: Annotated[int, Field(ge=2), _Number] = 15  # of the expected calibration error, equal width
    batch_size: Count = 1000


def default_methods() -> dict[str, Method]:
    """Returns the rows of the comparison: labels alone, the mean (EnD), the paper's EnD², the recommended EnD²."""
    methods = {
        "single_matched": Method(loss="cross_entropy"),
        "end": Method(loss="ensemble_distillation", temperature=2.5),
        "end2_nll": Method(
            loss="dirichlet_nll",
            loss_options={"smoothing": 1e-4},
            temperature=10.0,
            temperature_schedule="anneal",
        ),
        "end2": Method(loss="mean_precision", loss_options={"precision": "mutual_information", "weight": 0.02}),
    }
    return with_auxiliary(methods)


def with_auxiliary(methods: dict[str, Method]) -> dict[str, Method]:
    """Returns the methods and, of those on members' predictions, `<name>_aux`: the same with auxiliary data."""
    distilled = {name: method for name, method in methods.items() if not registry.is_on_labels(method.loss)}
    return methods | {f"{name}_aux": dataclasses.replace(method, auxiliary=True) for name, method in distilled.items()}


@dataclass(frozen=True, config=_STRICT)
class Experiment:
    """Everything that decides a run's numbers. `smoke` holds field paths and values for the one-minute version."""

    data: Data = Data()
    ensemble: Ensemble = Ensemble()
    transfer: Transfer = Transfer()
    methods: dict[str, Method] = dataclasses.field(default_factory=default_methods)
    student: Student = Student()
    evaluation: Evaluation = Evaluation()
    seed: CountOrZero = 0
    smoke: dict[str, Any] = dataclasses.field(default_factory=dict)


_ADAPTER = pydantic.TypeAdapter(Experiment)


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """Returns the experiment as nested dicts, lists and plain values, ready for JSON."""
    return _ADAPTER.dump_python(experiment, mode="json")


def from_dict(values: Mapping[str, Any]) -> Experiment:
    """Builds and checks an experiment.

    Raises:
        ConfigError: a field is unknown, has a wrong type or is out of its range.
    """
    try:
        experiment = _ADAPTER.validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(_message(error.errors()[0])) from None
    check(experiment)
    return experiment


def build(kind: type[Any], field: str, **values: Any) -> Any:
    """Builds one part of an experiment, for instance a `Method`.

    Raises:
        ConfigError: a field is unknown, has a wrong type or is out of its range.
    """
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(_message({**fault, "loc": (field, *fault["loc"])}, "Give another value.")) from None


def check(experiment: Experiment) -> None:
    """Raises ConfigError where two fields contradict each other, or a name has no file. Imports no TensorFlow."""
    registry.check("backbone", experiment.ensemble.backbone, "ensemble.backbone")
    if experiment.student.backbone is not None:
        registry.check("backbone", experiment.student.backbone, "student.backbone")
    _check_names("data.ood", "an OOD set", experiment.data.ood, ("test", "validation", "map"))
    _check_names("data.shifted", "a shifted set", experiment.data.shifted, ("test", "validation", "map"))
    for name, source in experiment.data.shifted.items():
        if experiment.data.ood.get(name, source) != source:
            raise ConfigError(
                f"data.shifted and data.ood have different sets under the name {name!r}. Give one of them another name."
            )
    if experiment.evaluation.split == "validation":
        _check_leaves_test_alone(experiment.data)
    taught = experiment.transfer.num_members
    if taught is not None and experiment.ensemble.models is None and taught > experiment.ensemble.num_members:
        raise ConfigError(
            f"transfer.num_members is {taught}, but ensemble.num_members is {experiment.ensemble.num_members}. "
            "Allowed: at most that many, or none for all."
        )
    _check_names("methods", "a method", experiment.methods, ("bayes", "single", "ensemble", "teacher"))
    for name, method in experiment.methods.items():
        registry.check("loss", method.loss, f"methods.{name}.loss")
        if method.auxiliary and registry.is_on_labels(method.loss):
            raise ConfigError(
                f"methods.{name}.auxiliary is true, but its loss {method.loss!r} needs labels, which auxiliary data "
                f"don't have. Set methods.{name}.auxiliary=false."
            )
        if method.augmentation is not None and not registry.is_on_labels(method.loss):
            raise ConfigError(
                f"methods.{name}.augmentation is set, but its loss {method.loss!r} learns from members, on the views "
                "of the transfer set. Set transfer.augmentation instead."
            )
        if method.labels:
            _check_labels(name, method, experiment.transfer)
        if method.temperature_schedule == "anneal" and method.temperature_cycle == 0:
            raise ConfigError(
                f"methods.{name}.temperature_cycle is 0, so there is nothing to anneal over. Allowed: above 0, at most "
                f"1; or set methods.{name}.temperature_schedule=constant."
            )
    twice = [name for name in experiment.student.methods if experiment.student.methods.count(name) > 1]
    if twice:
        raise ConfigError(
            f"student.methods has {twice[0]!r} twice. Name each once; student.num_seeds=2 trains it twice."
        )
    for name in experiment.student.seeds_of:
        if name not in experiment.methods:
            raise ConfigError(unknown("student.seeds_of", name, "a method", experiment.methods))
    for name in experiment.student.methods:
        if name not in experiment.methods:
            raise ConfigError(
                unknown(
                    "student.methods",
                    name,
                    "a method",
                    experiment.methods,
                    f"Define it with --set methods.{name}.loss=…",
                )
            )
        if experiment.methods[name].auxiliary and experiment.data.auxiliary is None:
            raise ConfigError(
                f"student.methods has {name!r}, which needs auxiliary data, but data.auxiliary is none. "
                f"Set data.auxiliary=NAME, or leave {name!r} out of student.methods."
            )


def _check_leaves_test_alone(data: Data) -> None:
    """Refuses corrupted copies of the in-domain test split."""
    for field, named in (("ood", data.ood), ("shifted", data.shifted)):
        for name, source in named.items():
            of = source.options.get("of")
            of = of.get("name") if isinstance(of, dict) else of
            shows_test = source.name == "corrupted" and source.options.get("split", "test") == "test"
            if shows_test and of == data.name:
                raise ConfigError(
                    f"data.{field}.{name} is the in-domain test split, corrupted, but evaluation.split is "
                    f"'validation'. Set data.{field}.{name}.options.split=validation, or leave it out."
                )


def _check_labels(name: str, method: Method, transfer: Transfer) -> None:
    """Raises ConfigError where a true label can't be part of a method's target."""
    field = f"methods.{name}.labels"
    if registry.is_on_labels(method.loss):
        raise ConfigError(
            f"{field} is {method.labels:g}, but its loss {method.loss!r} has no other target. Set it to 0."
        )
    if method.temperature != 1:
        raise ConfigError(
            f"{field} is {method.labels:g} and methods.{name}.temperature {method.temperature:g}, but labels have no "
            f"temperature. Set {field}=0 or methods.{name}.temperature=1."
        )
    if transfer.mode == "online":
        raise ConfigError(
            f"{field} is {method.labels:g}, but transfer.mode is 'online', where targets are what members say alone. "
            "Set transfer.mode=views or clean."
        )


def _check_names(field: str, kind: str, names: Mapping[str, Any], reserved: tuple[str, ...]) -> None:
    """Refuses names that mean something else in results and files."""
    for name in names:
        if name in reserved or not name or "/" in name or "," in name:
            raise ConfigError(
                f"{field} has {name!r}, which can't be the name of {kind}: {', '.join(reserved)} are taken, and names "
                "have no '/' or ','. Choose another name."
            )


def override(experiment: Experiment, assignments: Mapping[str, Any] | list[str]) -> Experiment:
    """Returns the experiment with some fields changed.

    Args:
        experiment: The one to start from.
        assignments: `{"student.epochs": 3}`, or command-line texts `["student.epochs=3"]`. Texts are read as JSON where
            that fits the field, tuples as comma-separated names; `none` empties an optional field.

    Raises:
        ConfigError: unknown field, wrong type, out of range; the message names the nearest field and what is allowed.
    """
    values = to_dict(experiment)
    pairs = list(assignments.items()) if isinstance(assignments, Mapping) else [_split(text) for text in assignments]
    for path, value in pairs:
        _assign(values, path, value)
    return from_dict(values)


def digest(*parts: Any) -> str:
    """Returns 16 hex digits of the SHA-256 over plain values, dataclasses and other digests.

    Fields at their defaults are left out, so that a field which a later version adds changes no digest.
    """
    plain = [_ADAPTER_ANY.dump_python(_set_fields(part), mode="json") for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _set_fields(value: Any) -> Any:
    """Returns a value with each dataclass in it as a dict of the fields that aren't at their defaults."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: (getattr(value, field.name), field) for field in dataclasses.fields(value)}
        return {name: _set_fields(own) for name, (own, field) in fields.items() if own != _default(field)}
    if isinstance(value, Mapping):
        return {key: _set_fields(each) for key, each in value.items()}
    return [_set_fields(each) for each in value] if isinstance(value, (list, tuple)) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


_ADAPTER_ANY: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(Any)


def _split(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set is {text!r}, which has no field and value. Write --set path.to.field=value.")
    return path.strip(), value.strip()


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Sets one field in nested dicts; walks the dataclasses alongside, so that each step is checked."""
    *parents, last = path.split(".")
    node: Any = values
    kind: Any = Experiment
    walked: list[str] = []
    for name in parents:
        kind = _field_type(kind, name, walked, path)
        walked.append(name)
        if node.get(name) is None:
            if _is_dataclass(kind) or typing.get_origin(kind) is dict:
                node[name] = {}  # an optional part that was not there; its required fields are checked in the end
            else:
                raise ConfigError(
                    f"{'.'.join(walked)} has no fields, so {path!r} can't be set. Set {'.'.join(walked)} itself."
                )
        node = node[name]
        if not isinstance(node, dict):
            raise ConfigError(
                f"{'.'.join(walked)} has no fields, so {path!r} can't be set. Set {'.'.join(walked)} itself."
            )
    kind = _field_type(kind, last, walked, path)
    node[last] = _parse(kind, value) if isinstance(value, str) else value


def _field_type(kind: Any, name: str, walked: list[str], path: str) -> Any:
    """Returns the type of field `name` of `kind` (a dataclass, a dict of them, or free options)."""
    if _is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if name not in hints:
            where = ".".join(walked) or "the experiment"
            near = suggestion(name, hints)
            raise ConfigError(f"{path!r} is no field: {where} has no {name!r}. {near}Fields: {', '.join(hints)}.")
        return _without_none(hints[name])
    if typing.get_origin(kind) is dict:
        return _without_none(typing.get_args(kind)[1])
    return Any


def _without_none(kind: Any) -> Any:
    options = [a for a in typing.get_args(kind) if a is not type(None)]
    if type(None) in typing.get_args(kind) and len(options) == 1:
        return options[0]
    return kind


def _is_dataclass(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _parse(kind: Any, text: str) -> Any:
    """Reads a command-line value for a field of type `kind`."""
    if text.lower() in ("none", "null"):
        return [] if typing.get_origin(kind) is tuple else None
    if kind is Source and not text.startswith("{"):
        return {"name": text}  # --set data.auxiliary=cifar100
    if kind == dict[str, Source] and not text.startswith("{"):
        return {name: {"name": name} for name in _names(text)}  # --set data.ood=svhn_cropped,mnist
    if typing.get_origin(kind) is tuple and not text.startswith("["):
        return _names(text)
    if kind is str:
        return text
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _message(error: Any, next_step: str = "Change it with --set {path}=…") -> str:
    """Turns pydantic's first complaint into one line of ours."""
    path = ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    value = error["input"]
    context = error.get("ctx", {})
    if error["type"] == "unexpected_keyword_argument":
        return f"{path!r} is no field. Its names: see end2_tf.config, or --describe."
    if error["type"] == "missing":
        return f"{path} is missing. Set it with --set {path}=…"
    bounds = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "above {gt}",
        "less_than_equal": "at most {le}",
        "less_than": "below {lt}",
        "literal_error": "{expected}",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "dataclass_type": "fields and values; name a field of it",
        "string_type": "text",
        "dict_type": "fields and values",
    }
    allowed = bounds.get(error["type"], error["msg"]).format(**context)
    return f"{path} is {value!r}. Allowed: {allowed}. {next_step.format(path=path)}"
