"""The dataclasses of an experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic
import pydantic_core
from pydantic import Field
from pydantic.dataclasses import dataclass

from end2_tf import registry
from end2_tf.config.faults import build


def _no_truth_value(value: Any) -> Any:
    """Python takes True for 1; a user who writes true for a number made a mistake."""
    if isinstance(value, bool):
        raise pydantic_core.PydanticCustomError("number_type", "a number")
    return value


_Number = pydantic.BeforeValidator(_no_truth_value)
Fraction = Annotated[float, Field(ge=0, le=1), _Number]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), _Number]
ShareAboveZero = Annotated[float, Field(gt=0, lt=1), _Number]
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
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the source

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
class Expected:
    """What data that aren't here will be: `--describe` plans with it."""

    input_shape: tuple[Count, ...] = (32, 32, 3)
    num_classes: Count = 10
    train: Count = 50_000  # examples, without those held out
    auxiliary: CountOrZero = 0


@dataclass(frozen=True, config=_STRICT)
class Data:
    """The in-domain data, auxiliary inputs without labels, and the further test sets.

    What `ood` names should be told from the test set; what `shifted` names, with the same classes and labels, should
    be classified as well. A set under one name in both is measured both ways.
    """

    name: str = "spirals"  # as of a Source
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the source
    path: str | None = None  # own data: an .npz file or a folder of images per class
    validation_fraction: ShareBelowOne = 0.1  # of train, where the source has no validation split
    calibration_fraction: ShareBelowOne = 0.0  # of what is left of train, where the source has no calibration split
    auxiliary: Source | None = None  # of its training split
    ood: dict[str, Source] = dataclasses.field(default_factory=dict)  # of their test splits
    shifted: dict[str, Source] = dataclasses.field(default_factory=dict)  # of their test splits
    max_train: Count | None = None  # use only so many examples, chosen by seed
    max_test: Count | None = None  # of validation, calibration, test and each OOD or shifted set
    # Keeps training and auxiliary inputs on disk in files of so many examples, where memory can't hold them all.
    shard_rows: Count | None = None
    expected: Expected | None = None  # what `--describe` plans with where the data aren't here


@dataclass(frozen=True, config=_STRICT)
class Optimizer:
    """The optimiser and its learning rate over a training; see end2_tf.schedules for the shapes."""

    name: Literal["adam", "sgd"] = "adam"
    momentum: ShareBelowOne = 0.9  # sgd
    learning_rate: Positive = 1e-3  # the highest of the schedule
    schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    cycle: Fraction = 2 / 3  # one_cycle: share of the training that the cycle takes
    floor: Fraction = 0.0  # cosine: share of the learning rate that it ends at
    average: ShareBelowOne = 0.0  # momentum of a moving average of the weights, which is the result; 0: none
    weight_decay: NonNegative = 0.0  # decoupled; never on biases and normalisation
    clip_norm: Positive | None = None  # largest norm of all gradients together


@dataclass(frozen=True, config=_STRICT)
class Ensemble:
    """The teacher: members trained here, or brought as Keras files or as recorded predictions."""

    # deep: each member has its own seed, initial values and order of data. dropout: one network, whose members are
    # draws of what is dropped. snapshots: one training, restarted `num_members` times from where it was; a member is
    # what each of these rounds of `epochs` epochs ends in.
    kind: Literal["deep", "dropout", "snapshots"] = "deep"
    backbone: str = "mlp"  # a file of end2_tf/backbones/
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the backbone
    num_members: Count = 10
    epochs: Count = 45
    batch_size: Count = 128
    optimizer: Optimizer = Optimizer()
    augmentation: Augmentation = Augmentation()
    held_out_fraction: ShareBelowOne = 0.0  # of train, class by class: no member is trained on it
    # stacked: all members in one program, each a slice of its arrays. sequential: one by one, as many side by side as
    # there are cores or GPUs. auto: stacked where the backbone's layers and memory allow it and it pays.
    engine: Literal["auto", "stacked", "sequential"] = "auto"
    # Keras files to use instead of training any: a glob, each file a member, or one file that is an ensemble.
    models: Annotated[str, Field(min_length=1)] | None = None
    # What networks of any framework said: an .npz file or a folder of .npy files, see end2_tf.ensemble.recorded.
    predictions: Annotated[str, Field(min_length=1)] | None = None
    # Trains under bfloat16 where the hardware has it; weights, saved models and predictions are float32.
    mixed_precision: bool = False

    @property
    def is_brought(self) -> bool:
        """Whether the members were made elsewhere, so that none are trained."""
        return self.models is not None or self.predictions is not None


@dataclass(frozen=True, config=_STRICT)
class Transfer:
    """What the student is shown, and what is recorded of the members there."""

    # clean: members are recorded once, on inputs as they are. views: on `num_views` augmented views of each, which the
    # student is then shown. online: members answer in training, on views that never repeat; nothing is recorded.
    mode: Literal["clean", "views", "online"] = "clean"
    num_views: Count = 4  # mode=views: recorded augmented views
    augmentation: Augmentation = Augmentation()  # of the views, and of the student's inputs in every mode
    auxiliary_augmentation: Augmentation = Augmentation()  # of auxiliary inputs; mixup is with in-domain ones
    keep_inputs: bool = False  # mode=views: the views themselves too, not only what members said; faster, larger
    auxiliary_share: Annotated[float, Field(gt=0, lt=1), _Number] = (
        0.5  # of each batch, for methods with auxiliary data
    )
    # Of train. held_out: what no member was trained on, `ensemble.held_out_fraction`. seen: the rest.
    inputs: Literal["all", "held_out", "seen"] = "all"
    # What is kept of what members say: their logits, for any method, or what this experiment's losses need of them:
    # that doesn't grow with the members, but there is one for each loss and temperature.
    keep: Literal["logits", "statistics"] = "logits"
    dtype: Literal["float16", "float32"] = "float32"  # of the members' logits on disk
    num_members: Count | None = None  # learn from the first so many members only; recordings hold all


@dataclass(frozen=True, config=_STRICT)
class Method:
    """One way to train a student: a loss and what it is shown."""

    loss: str  # a file of end2_tf/losses/
    loss_options: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the loss
    offset: Fraction = 0.0  # of the Dirichlet head: alphas = exp(logits) + offset
    auxiliary: bool = False  # auxiliary inputs too
    augmentation: Augmentation | None = None  # losses on labels: instead of the members'
    labels: ShareBelowOne = 0.0  # losses on members: share of the true label in the target of the mean
    temperature: Annotated[float, Field(ge=1), _Number] = 1.0  # T0, of members and student alike
    temperature_schedule: Literal["constant", "anneal"] = "constant"  # anneal: from T0 to 1
    temperature_cycle: Fraction = 2 / 3  # anneal: T0 for half of it, linear to 1 over the other half
    temperature_levels: Annotated[int, Field(ge=2), _Number] = (
        32  # the schedule is piecewise constant on this many values
    )
    optimizer: Optimizer | None = None  # instead of the student's
    epochs: Count | None = None  # instead of the student's
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the backbone, on top of the student's


@dataclass(frozen=True, config=_STRICT)
class Student:
    """The network that the ensemble is distilled into."""

    backbone: str | None = None  # the members' by default
    options: dict[str, Any] | None = None  # the members' by default, where the backbone is theirs
    # random: each seed has its own initial values. member: the student of seed s begins as a copy of member s, which
    # must have as many weights; those on labels too, so that they are its control.
    start: Literal["random", "member"] = "random"
    epochs: Count = 90
    batch_size: Count = 128
    optimizer: Optimizer = Optimizer()
    num_seeds: Count = 1  # students of each method
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

    def epochs_of(self, method: Method) -> int:
        """Returns for how many epochs the students of a method are trained."""
        return self.epochs if method.epochs is None else method.epochs


@dataclass(frozen=True, config=_STRICT)
class Evaluation:
    """How models are measured. On `validation`, for choosing between them, the test split is left alone."""

    split: Literal["test", "validation"] = "test"  # the in-domain examples of every metric
    num_bins: Annotated[int, Field(ge=2), _Number] = 15  # of the expected calibration error, equal width
    batch_size: Count = 1000


@dataclass(frozen=True, config=_STRICT)
class Export:
    """What is exported for serving, and when an exported model abstains; see end2_tf.export.thresholds."""

    models: tuple[str, ...] = ("end2_aux",)  # methods, seed 0 of each; or ensemble, or single
    coverage: ShareAboveZero = 0.9  # share of in-domain inputs that are answered
    max_error: ShareAboveZero | None = None  # largest error among the answered; decides in place of coverage
    delta: ShareAboveZero = 0.05  # how likely that limit may fail
    ood_rejection: ShareBelowOne = 0.01  # share of in-domain inputs that may be taken for unfamiliar
    lite: bool = True  # writes a LiteRT model too


Figure = tuple[float, Annotated[float, Field(ge=0), _Number] | None]


@dataclass(frozen=True, config=_STRICT)
class Published:
    """What a paper reports of an experiment, for the report to show beside a run's own numbers; decides nothing.

    A figure is a mean and its spread, None where none is given, in the units of results.json: shares, not per cent.
    Models, sets and metrics have the names that they have there.
    """

    source: str  # where the figures stand, and what the spread is
    test: dict[str, dict[str, Figure]] = dataclasses.field(default_factory=dict)  # by model and metric
    ood: dict[str, dict[str, dict[str, Figure]]] = dataclasses.field(default_factory=dict)  # by set, model and metric


# Other ways to an uncertainty from one network, beside EnD²; experiments have them as they are.
OTHER_METHODS = {
    "prior_network": Method(loss="prior_network", auxiliary=True),
    "self_distribution": Method(loss="self_distribution"),
    "logit_gaussian": Method(loss="logit_gaussian"),
    "hydra": Method(loss="hydra"),
}


def default_methods() -> dict[str, Method]:
    """Returns the rows of the comparison: labels alone, the mean (EnD), the paper's EnD², the recommended EnD²."""
    methods = {
        "single_matched": Method(loss="cross_entropy"),
        **OTHER_METHODS,
        "end": Method(loss="ensemble_distillation"),
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
    methods: dict[str, Method] = dataclasses.field(default_factory=default_methods)  # rows of the comparison
    student: Student = Student()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    seed: CountOrZero = 0  # of all that is drawn: held-out examples, initial values, order
    # Experiments of one family are variants of one: they share runs/<family>/, so also members and recordings.
    family: Annotated[str, Field(min_length=1)] | None = None
    published: Published | None = None
    smoke: dict[str, Any] = dataclasses.field(default_factory=dict)  # field path → value with `--smoke`
