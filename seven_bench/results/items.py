"""What single examples tell: flips, paired tests, intervals over seeds and items, calibration.

All of it is of arrays with one entry an example, in the same order for every run. Two runs of one
seed are paired by example; two methods by seed and example, for the examples are the same for every
seed. The sampling error of a difference is that of the pairs, which mostly agree, and not that of
two separate accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from seven_bench.results.statistics import CONFIDENCE

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Draws behind an interval: its ends move by a fiftieth of its width from one seed to another.
DRAWS = 4_000
#: Bins of the expected calibration error, as torchmetrics has them.
BINS = 15


# ---- Two runs


@dataclass(frozen=True)
class Flips:
    """Two runs of one seed, example by example: how many both, one or none of them got right.

    `changed` counts other predictions, right or wrong. `p` is that of McNemar's exact test: of the
    examples on which one alone is right, each run would have half.
    """

    both: int
    lost: int
    won: int
    neither: int
    changed: int
    p: float

    @property
    def items(self) -> int:
        return self.both + self.lost + self.won + self.neither

    @property
    def agreement(self) -> float:
        """The share of examples with the same prediction; NaN without examples."""
        return 1 - self.changed / self.items if self.items else math.nan


def count_flips(label: ArrayLike, before: ArrayLike, after: ArrayLike) -> Flips:
    """What became of each example's class; all of shape (n,).

    `lost` are right before and wrong after, `won` the reverse. McNemar 1947; exact, two-sided:
    the binomial test of `lost` in `lost + won` with a chance of a half.
    Raises: ValueError where the shapes differ.
    """
    truth, one, other = _same_length(label, before, after)
    was, is_now = one == truth, other == truth
    lost, won = int((was & ~is_now).sum()), int((~was & is_now).sum())
    both, neither = int((was & is_now).sum()), int((~was & ~is_now).sum())
    return Flips(both, lost, won, neither, int((one != other).sum()), mcnemar_p(lost, won))


def mcnemar_p(lost: int, won: int) -> float:
    """McNemar's exact two-sided p-value; 1 where nothing parts the two."""
    if lost + won == 0:
        return 1.0
    return float(stats.binomtest(min(lost, won), lost + won).pvalue)


@dataclass(frozen=True)
class ClassLoss:
    """One class: its examples, those that were right before, and what became of them.

    `agreement` is the share of its examples whose prediction stayed, right or wrong.
    """

    label: int
    items: int
    right_before: int
    lost: int
    won: int
    agreement: float

    @property
    def drop(self) -> float:
        """By how much the class's accuracy fell."""
        return (self.lost - self.won) / self.items


def lost_by_class(label: ArrayLike, before: ArrayLike, after: ArrayLike) -> list[ClassLoss]:
    """Which examples were lost, by class, the class that fell furthest first.

    Raises: ValueError where the shapes differ.
    """
    truth, one, other = _same_length(label, before, after)
    classes, place = np.unique(truth, return_inverse=True)

    def count(flags: Flags) -> NDArray[np.int64]:
        return np.bincount(place[flags], minlength=len(classes))

    was, is_now = one == truth, other == truth
    found = zip(
        classes.tolist(),
        count(np.ones(len(truth), bool)).tolist(),
        count(was).tolist(),
        count(was & ~is_now).tolist(),
        count(~was & is_now).tolist(),
        count(one == other).tolist(),
        strict=True,
    )
    losses = [
        ClassLoss(label, items, right, lost, won, same / items)
        for label, items, right, lost, won, same in found
    ]
    return sorted(losses, key=lambda loss: (-loss.drop, -loss.lost, loss.label))


def _same_length(*arrays: ArrayLike) -> list[NDArray[Any]]:
    found = [np.asarray(array) for array in arrays]
    if any(array.shape != found[0].shape or array.ndim != 1 for array in found):
        raise ValueError(f"arrays of shapes {', '.join(str(a.shape) for a in found)} do not pair")
    return found


# ---- Two methods


@dataclass(frozen=True)
class Difference:
    """A difference of two methods over seeds and items, with its 95 % interval.

    `by_seeds` and `by_items` are the standard errors that seeds and items each leave. With one seed
    the interval is of items alone: it says nothing of other seeds. `seeds` counts the pairs of runs
    over all `splits`, that is test sets of which no two share an item; `by_splits` is the standard
    error that they leave beyond seeds and items.
    """

    mean: float
    low: float
    high: float
    seeds: int
    items: int
    by_seeds: float
    by_items: float
    splits: int = 1
    by_splits: float = math.nan


def bootstrap_difference(
    method: ArrayLike, reference: ArrayLike, draws: int = DRAWS, seed: int = 0
) -> Difference:
    """The mean of method minus reference over seeds and items, and what both leave open.

    Args:
        method, reference: what each run scored on each example (1 and 0 for right and wrong, or
            F1), shape (seeds, items); rows and columns pair.
        draws: of the bootstrap. seed: of its draws.

    A difference is mean + seed + item + rest, two crossed random effects (Owen 2007, Ann. Appl.
    Stat. 1:386): seeds share their items, so neither is nested in the other. Item effects are drawn
    with replacement, shrunk to the variance that is left when the rest's share is taken off (for
    the rest is in the seeds' part too, and would count twice). Seeds are too few to be drawn from:
    three have ten combinations, none of which lies outside them. Their effect is drawn from
    Student's t on their standard error, which is what their mean follows.

    Raises: ValueError where the shapes differ, or there is no seed or less than two items.
    """
    return bootstrap_splits([(method, reference)], draws, seed)


def bootstrap_splits(
    splits: Sequence[tuple[ArrayLike, ArrayLike]], draws: int = DRAWS, seed: int = 0
) -> Difference:
    """`bootstrap_difference` over several test sets of which no two share an item, such as folds.

    Each item counts once: means are weighted by items. Runs of two splits share neither items nor
    training, so the variance of seeds is pooled within splits. By how much splits differ beyond
    seeds and items (they are trained on other examples) is what is left of the variance between
    their means, by moments and never below 0; with one seed a split it holds the seeds' part too.

    Raises: ValueError as `bootstrap_difference` does, and without splits.
    """
    if not splits:
        raise ValueError("there is no split to compare on")
    blocks = [_Block.of(*split) for split in splits]
    items = sum(block.items for block in blocks)
    weights = np.array([block.items / items for block in blocks])
    means = np.array([block.mean for block in blocks])
    mean = float(weights @ means)
    freedom = sum(block.seeds - 1 for block in blocks)
    spread = sum(float(block.of_seeds @ block.of_seeds) for block in blocks) / max(freedom, 1)
    seed_variances = np.array([spread / block.seeds for block in blocks])
    own_variances = np.array([block.own_variance for block in blocks])
    seed_variance, own_variance = (
        float(weights**2 @ variances) for variances in (seed_variances, own_variances)
    )
    split_variance = 0.0
    if len(blocks) > 1:
        expected = float((seed_variances + own_variances).mean())
        split_variance = max(float(means.var(ddof=1)) - expected, 0.0) / len(blocks)
    rng = np.random.default_rng(seed)
    drawn = np.zeros(draws)
    for weight, block in zip(weights.tolist(), blocks, strict=True):
        drawn += weight * block.draw(draws, rng)
    if seed_variance > 0:
        drawn = drawn + math.sqrt(seed_variance) * rng.standard_t(freedom, draws)
    if split_variance > 0:
        drawn = drawn + math.sqrt(split_variance) * rng.standard_t(len(blocks) - 1, draws)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(
        mean,
        mean + float(low),
        mean + float(high),
        sum(block.seeds for block in blocks),
        items,
        math.sqrt(seed_variance) if freedom else math.nan,
        math.sqrt(own_variance),
        len(blocks),
        math.sqrt(split_variance) if len(blocks) > 1 else math.nan,
    )


@dataclass(frozen=True)
class _Block:
    """The differences of one test set: effects of its seeds and items about their mean."""

    mean: float
    of_seeds: Floats
    of_items: Floats
    own_variance: float

    @classmethod
    def of(cls, method: ArrayLike, reference: ArrayLike) -> _Block:
        one, other = np.asarray(method, np.float64), np.asarray(reference, np.float64)
        if one.shape != other.shape or one.ndim != 2 or one.shape[0] < 1 or one.shape[1] < 2:
            raise ValueError(f"scores of shapes {one.shape} and {other.shape} do not pair")
        differences = one - other
        seeds, items = differences.shape
        mean = float(differences.mean())
        of_seeds, of_items = differences.mean(axis=1) - mean, differences.mean(axis=0) - mean
        own_variance = float(of_items @ of_items) / (items - 1) / items
        if seeds > 1:
            rest = differences - mean - of_seeds[:, None] - of_items
            rest_variance = float((rest**2).sum()) / ((seeds - 1) * (items - 1)) / (seeds * items)
            own_variance = max(own_variance - rest_variance, 0.0)
        return cls(mean, of_seeds, of_items, own_variance)

    @property
    def seeds(self) -> int:
        return len(self.of_seeds)

    @property
    def items(self) -> int:
        return len(self.of_items)

    def draw(self, draws: int, rng: np.random.Generator) -> Floats:
        """Deviations of the mean by other items, scaled to the variance that is theirs."""
        if self.own_variance <= 0:
            return np.zeros(draws)
        variance = float(self.of_items @ self.of_items) / (self.items - 1) / self.items
        scale = math.sqrt(self.own_variance / variance * self.items / (self.items - 1))
        return _draw_means(self.of_items, draws, rng) * scale


def _draw_means(values: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means of as many values, drawn with replacement. Equal values are many: how often each is
    drawn is multinomial."""
    distinct, counts = np.unique(values.round(12), return_counts=True)
    step = max(1, 4_000_000 // len(distinct))  # 32 MB at a time
    parts = (
        rng.multinomial(len(values), counts / len(values), min(step, draws - first)) @ distinct
        for first in range(0, draws, step)
    )
    return np.concatenate([*parts]) / len(values)


# ---- Calibration


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """How far confidence is from accuracy, over bins of equal width weighted by their examples.

    Naeini et al. 2015, the l1 norm; as torchmetrics has it. Both of shape (n,); NaN for none.
    Raises: ValueError where the shapes differ.
    """
    said, was = _same_length(confidence, right)
    if not len(said):
        return math.nan
    # A bin holds its upper end, and the first its lower one too.
    place = np.clip(np.ceil(np.asarray(said, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, said, bins) - np.bincount(place, was.astype(float), bins)
    return float(np.abs(gaps).sum() / len(said))


def mean_brier(squared_distances: Sequence[float] | Floats) -> float:
    """Brier's score, from 0 to 2: the mean squared distance of probabilities to the label; NaN for
    none. Brier 1950, over all classes.
    """
    return float(np.mean(squared_distances)) if len(squared_distances) else math.nan
