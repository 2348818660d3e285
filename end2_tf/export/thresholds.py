"""When to answer and when to abstain: thresholds from held-out examples, and what they promise.

An input is answered if it is familiar, knowledge uncertainty at most `unfamiliar`, and certain, total uncertainty at
most `uncertain`. What the first threshold and the candidates for the second are is settled on validation examples; the
second is then chosen on calibration examples that nothing else has used, so that its promise holds exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from end2_tf.errors import ConfigError, DataError, ShapeError

NUM_CANDIDATES = 50  # thresholds that a limit on the error is tried with


@dataclass(frozen=True)
class Scores:
    """What a model says of labelled examples.

    Attributes:
        total: Total uncertainty, (n,), nats.
        knowledge: Knowledge uncertainty, (n,), nats; None for models that don't know it.
        is_wrong: Whether the predicted class is wrong, (n,) bool.
    """

    total: np.ndarray
    knowledge: np.ndarray | None
    is_wrong: np.ndarray

    def __len__(self) -> int:
        return len(self.total)

    @classmethod
    def of(cls, measures: Mapping[str, np.ndarray], labels: np.ndarray) -> Scores:
        """Takes what a model's `predict` returns, and labels (n,).

        Raises:
            ShapeError: there isn't one label an example.
        """
        num = len(measures["probs"])
        if np.shape(labels) != (num,):
            raise ShapeError(
                f"labels have shape {np.shape(labels)}, but there are {num} predictions. Give each one's class as a "
                f"number, ({num},)."
            )
        return cls(
            np.asarray(measures["total_uncertainty"]),
            measures.get("knowledge_uncertainty"),
            np.argmax(measures["probs"], axis=-1) != labels,
        )

    def select(self, ids: np.ndarray) -> Scores:
        """Returns the scores of the examples with these numbers."""
        return Scores(self.total[ids], None if self.knowledge is None else self.knowledge[ids], self.is_wrong[ids])

    def abstained(self, thresholds: Thresholds) -> np.ndarray:
        """Returns which examples aren't answered, (n,) bool."""
        return ~(self.scores(thresholds.unfamiliar) <= min(thresholds.uncertain, np.finfo(np.float64).max))

    def scores(self, unfamiliar: float) -> np.ndarray:
        """Returns total uncertainty, inf where an input is unfamiliar: no threshold then has it answered."""
        if self.knowledge is None:
            return np.asarray(self.total, np.float64)
        return np.where(self.knowledge <= unfamiliar, self.total, np.inf)


@dataclass(frozen=True)
class Thresholds:
    """When to abstain, and how that was chosen.

    Attributes:
        uncertain: Answered only up to this total uncertainty, nats; inf answers all that is familiar.
        unfamiliar: Answered only up to this knowledge uncertainty, nats; inf where the model doesn't know it.
        rule: What decided on `uncertain`: "coverage" or "max_error".
        target: The share answered, or the error among the answered, that was asked for.
        delta: How likely a limit on the error may fail, over draws of the calibration examples; 0 for coverage.
        ood_rejection: Share of in-domain inputs that may be taken for unfamiliar.
        num_calibration, num_validation: Examples.
        coverage: Share of the calibration examples that is answered.
        error: Of the answered calibration examples; NaN if there are none.
    """

    uncertain: float
    unfamiliar: float
    rule: str
    target: float
    delta: float
    ood_rejection: float
    num_calibration: int
    num_validation: int
    coverage: float
    error: float


def choose(
    validation: Scores,
    calibration: Scores,
    *,
    coverage: float = 0.9,
    max_error: float | None = None,
    delta: float = 0.05,
    ood_rejection: float = 0.01,
) -> Thresholds:
    """Chooses both thresholds.

    Args:
        validation: For the threshold of familiarity, and candidates.
        calibration: For the threshold of certainty. Nothing else may have used these.
        coverage: Share of in-domain inputs to answer, in (0, 1).
        max_error: Largest error among the answered; decides instead of `coverage` if given.
        delta: How likely that limit may fail.
        ood_rejection: Share of in-domain inputs that may be taken for unfamiliar, in [0, 1).

    Raises:
        ConfigError: a share is out of its range, more than 1 - ood_rejection is to be answered, or no threshold keeps
            the limit.
        DataError: there are no examples.
    """
    if not len(validation) or not len(calibration):
        raise DataError("thresholds need validation and calibration examples, and there are none. Hold some out.")
    shares = {"coverage": coverage, "max_error": max_error, "delta": delta}
    for field, value in shares.items():
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"export.{field} is {value:g}. Allowed: above 0 and below 1; 0.05 is 5 %.")
    if not 0 <= ood_rejection < 1:
        raise ConfigError(f"export.ood_rejection is {ood_rejection:g}. Allowed: at least 0 and below 1; 0.05 is 5 %.")
    if max_error is None and coverage > 1 - ood_rejection:
        raise ConfigError(
            f"export.coverage is {coverage:g} and export.ood_rejection {ood_rejection:g}: both can't be. Allowed: a "
            f"coverage of at most {1 - ood_rejection:g}."
        )
    unfamiliar = math.inf
    if validation.knowledge is not None and ood_rejection > 0:
        unfamiliar = conformal_quantile(validation.knowledge, 1 - ood_rejection)
    scores = calibration.scores(unfamiliar)
    if max_error is None:
        rule, target, uncertain = "coverage", coverage, conformal_quantile(scores, coverage)
    else:
        rule, target = "max_error", max_error
        candidates = np.quantile(validation.total, np.arange(1, NUM_CANDIDATES + 1) / NUM_CANDIDATES)
        uncertain = limit_error(scores, calibration.is_wrong, candidates, max_error=max_error, delta=delta)
    answered = scores <= min(uncertain, np.finfo(np.float64).max)
    return Thresholds(
        uncertain=uncertain,
        unfamiliar=unfamiliar,
        rule=rule,
        target=target,
        delta=delta if rule == "max_error" else 0.0,
        ood_rejection=ood_rejection if validation.knowledge is not None else 0.0,
        num_calibration=len(calibration),
        num_validation=len(validation),
        coverage=float(answered.mean()),
        error=float(calibration.is_wrong[answered].mean()) if answered.any() else math.nan,
    )


def conformal_quantile(scores: np.ndarray, share: float) -> float:
    """Returns the smallest threshold under which a new score falls with a probability of at least `share`.

    It is the ⌈(n+1)·share⌉-th smallest of n scores, inf if that is more than there are. The probability is over the
    scores and the new one, which must be exchangeable; it exceeds `share` by at most 1/(n+1) if scores don't tie.

    Args:
        scores: (n,).
        share: In (0, 1).

    Source: Vovk, Gammerman & Shafer, 2005; Angelopoulos & Bates, 2021, arXiv:2107.07511, section 1.
    """
    rank = math.ceil((len(scores) + 1) * share - 1e-9)  # (n+1)·share may be a whole number that floats miss
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def limit_error(
    scores: np.ndarray, is_wrong: np.ndarray, candidates: np.ndarray, *, max_error: float, delta: float
) -> float:
    """Returns the largest candidate under which the error among the answered is at most `max_error`.

    Learn-then-Test: of a threshold whose error is larger, k errors or fewer among the n answered have at most the
    probability that the binomial distribution (n, max_error) gives them. A candidate passes if that is at most delta
    over the number of candidates (Bonferroni), so with a probability of 1 - delta all that pass keep the limit. The
    error isn't monotone in the threshold, which is why each one is tested.

    Args:
        scores: Of the calibration examples, (n,).
        is_wrong: Whether each prediction is wrong, (n,) bool.
        candidates: Thresholds, fixed without a look at the calibration examples.
        max_error: Limit, in (0, 1).
        delta: How likely it may fail, in (0, 1).

    Raises:
        ConfigError: no candidate passes.

    Source: Angelopoulos, Bates, Candès, Jordan & Lei, 2021, arXiv:2110.01052; Geifman & El-Yaniv, 2017.
    """
    candidates = np.unique(np.asarray(candidates, np.float64))
    answered = scores[:, None] <= candidates
    num, errors = answered.sum(0), (answered & is_wrong[:, None]).sum(0)
    p_values = np.where(num > 0, stats.binom.cdf(errors, num, max_error), 1.0)
    passed = p_values <= delta / len(candidates)
    if not passed.any():
        best = np.min(np.where(num > 0, errors / np.maximum(num, 1), 1.0))
        raise ConfigError(
            f"export.max_error is {max_error:g}, which no threshold is sure to keep with {len(scores):,} calibration "
            f"examples (smallest error seen: {best:.2g}). Allow more, raise export.delta, or hold out more examples."
        )
    return float(candidates[passed].max())
