"""What the seeds allow to be said: spreads, paired comparisons and average ranks.

Seeds are replicates; runs of one seed are paired. Formulas are the libraries': scipy's,
statsmodels' and scikit-posthocs', or held against theirs by the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from seven_bench.results.groups import SEPARATOR, Group

ALPHA = 0.05
CONFIDENCE = 0.95
#: Up to this many pairs the sign-flip test counts every assignment of signs.
EXACT_PAIRS = 30
#: Beyond it, so many are drawn: the smallest p-value that can come out is 2 / 1,000,001.
RANDOM_FLIPS = 1_000_000
#: Data sets below which average ranks say nothing, and those that are wanted (Demsar 2006).
FEWEST_BLOCKS = 5
WANTED_BLOCKS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation and t-interval of `n` values, in the values' unit.

    What `n` does not allow is NaN: everything for 0 values, spread and interval for 1.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def summarise(values: Sequence[float] | Floats | pd.Series) -> Summary:
    """Summarise the finite ones of `values`, one per seed. The interval is Student's, at 95 %."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = len(finite)
    if n == 0:
        return Summary(math.nan, math.nan, 0, math.nan, math.nan)
    mean = float(finite.mean())
    if n == 1:
        return Summary(mean, math.nan, 1, math.nan, math.nan)
    low, high = t_interval(finite[None])
    return Summary(mean, float(finite.std(ddof=1)), n, float(low[0]), float(high[0]))


def t_interval(samples: Floats) -> tuple[Floats, Floats]:
    """The 95 % t-interval of each row's mean. Shape (k, n) with n >= 2; no spread, no width."""
    mean, error = samples.mean(axis=1), stats.sem(samples, axis=1)
    half = error * stats.t.ppf((1 + CONFIDENCE) / 2, samples.shape[1] - 1)
    return mean - half, mean + half


def sampling_interval(accuracy: float, examples: int) -> tuple[float, float]:
    """What a test set of `examples` alone leaves open about an accuracy: Wilson's 95 % interval.

    `accuracy` is a fraction, a mean over seeds included: its count need not be whole.
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(accuracy * examples, examples, 1 - CONFIDENCE, method="wilson")
    return float(low), float(high)


def seeds_needed(tests: int, alpha: float = ALPHA) -> int:
    """Seeds from which a sign-flip test can reject in a family of `tests` corrected by Holm.

    The smallest n with 2^(1-n) <= alpha / tests: 6 for one test, 8 for five, 10 for 23.
    Raises ValueError for a family without tests.
    """
    if tests < 1:
        raise ValueError(f"a family has at least one test, not {tests}")
    n = 1
    while 2.0 ** (1 - n) > alpha / tests:
        n += 1
    return n


def smallest_p(pairs: int) -> float:
    """The smallest p-value that a sign-flip test of so many pairs can give."""
    return 2.0 ** (1 - pairs) if pairs <= EXACT_PAIRS else 2 / (RANDOM_FLIPS + 1)


def sign_flip_p(differences: Floats) -> Floats:
    """Two-sided sign-flip p-values for mean 0, one a row. Shape (k, n), a column a pair.

    Twice the share of all 2^n assignments of signs whose sum is at least as far out on the side
    that was seen, at most 1. Exact up to 30 pairs: a sum of n terms is one over a half of them
    plus one over the other half, so 2^(n/2) sorted sums stand for all (Horowitz & Sahni 1974).
    Beyond, from a million assignments under a fixed seed, the one that was seen among them.
    """
    seen = np.abs(differences.sum(axis=1))
    # Sums that are equal by hand differ in their last digits: such are counted as at least as far.
    near = 1e-10 * np.abs(differences).sum(axis=1)
    count = _count_all if differences.shape[1] <= EXACT_PAIRS else _count_drawn
    shares: Floats = np.array(
        [count(row, at) for row, at in zip(differences, seen - near, strict=True)]
    )
    # The sums are symmetric: the share below -seen is the share above.
    return np.clip(2 * shares, 0.0, 1.0)


def _count_all(values: Floats, bound: float) -> float:
    """The share of all signed sums of `values` that reach `bound`."""
    half = len(values) // 2
    left, right = _all_sums(values[:half]), np.sort(_all_sums(values[half:]))
    below = np.searchsorted(right, bound - left, side="left")
    return float((len(right) - below).sum()) / 2.0 ** len(values)


def _all_sums(values: Floats) -> Floats:
    sums = np.zeros(1)
    for value in values.tolist():
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _count_drawn(values: Floats, bound: float) -> float:
    rng, reached = np.random.default_rng(0), 0
    for _ in range(10):  # about 40 MB at a time
        signs = rng.integers(0, 2, (RANDOM_FLIPS // 10, len(values)), dtype=np.int8)
        reached += int(((2 * signs.astype(np.float32) - 1) @ values >= bound).sum())
    return (reached + 1) / (RANDOM_FLIPS + 1)


@dataclass(frozen=True)
class Pairing:
    """Method minus reference at one sparsity, one difference per shared seed."""

    method: str
    sparsity: float
    differences: tuple[float, ...]


def pair_by_seed(
    group: Group, reference: str, at: Sequence[float] = (), methods: Sequence[str] = ()
) -> list[Pairing]:
    """Pair the methods of a group with `reference` by seed, at every sparsity or those in `at`.

    `methods` limits whom it is paired with; a name without its variant stands for all variants.
    Small dense models are among them where they are named, there or as the reference.
    The dense runs pair with every sparsity. Sparsities where no seed is shared have no pairing, and
    neither has a group whose runs do not say that they were trained alike.
    """
    if not group.alike:
        return []
    dense = sorted(group.dense["method"].unique())
    pairings = []
    for sparsity in group.sparsities:
        if at and not any(math.isclose(sparsity, wanted, abs_tol=1e-6) for wanted in at):
            continue
        base = group.by_seed.get((reference, 0.0 if reference in dense else sparsity))
        for method in [*group.methods, *dense, *(group.controls if methods else ())]:
            values = group.by_seed.get((method, 0.0 if method in dense else sparsity))
            if method == reference or base is None or values is None:
                continue
            if methods and not {method, method.partition(SEPARATOR)[0]} & set(methods):
                continue
            difference = values - base
            difference = difference[np.isfinite(difference)]
            if len(difference):
                pairings.append(Pairing(method, sparsity, tuple(difference.tolist())))
    return pairings


@dataclass(frozen=True)
class Comparison:
    """A method held against a reference, as far as the shared seeds carry.

    `difference`, `low`, `high`: mean of method minus reference and its paired 95 % t-interval, in
    the metric's unit. `effect`: mean difference over its standard deviation (Cohen's d_z). `p`:
    Holm-corrected sign-flip p-value. `detectable`: the difference that as many pairs of this spread
    show four times in five, see `detectable_difference`. NaN where not to be had. `words` is the
    conclusion.
    """

    method: str
    sparsity: float
    pairs: int
    difference: float
    low: float
    high: float
    effect: float
    p: float
    detectable: float
    words: str


POWER = 0.8  # how often a difference is to be shown that is called detectable


def detectable_difference(differences: Sequence[float], level: float) -> float:
    """The true difference that a two-sided paired t-test at `level` finds with `POWER`, for pairs
    as many as these and of their spread: (t_{1 - level / 2} + t_power) s / sqrt n, n - 1 degrees of
    freedom. Its sign flips find about as much. NaN of less than two.
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return math.nan
    reach = t.ppf(1 - level / 2, n - 1) + t.ppf(POWER, n - 1)
    return float(reach * np.std(differences, ddof=1) / math.sqrt(n))


def compare(
    pairings: Sequence[Pairing],
    *,
    higher_is_better: bool = True,
    margin: float | None = None,
    alpha: float = ALPHA,
) -> list[Comparison]:
    """Test every pairing as one family, which is fixed by the grid and not by what was seen.

    Differences are tested by flipping signs, corrected by Holm over the whole family. Equality
    is claimed only with a `margin`, in the metric's unit, by two one-sided t-tests under the
    same correction. Where the seeds could not reject whatever they showed, nothing is tested and
    the words say how many would do. Raises ValueError for a margin that is not positive.
    """
    if margin is not None and margin <= 0:
        raise ValueError(f"a margin of equality is positive, not {margin}")
    if not pairings:
        return []
    needed, level = seeds_needed(len(pairings), alpha), alpha / len(pairings)
    raw, equal = np.ones(len(pairings)), np.ones(len(pairings))
    low, high = np.full(len(pairings), np.nan), np.full(len(pairings), np.nan)
    sizes = np.array([len(pairing.differences) for pairing in pairings])
    for n in np.unique(sizes[sizes > 1]):  # pairings of one size at once: thousands stay quick
        chosen = np.flatnonzero(sizes == n)
        samples = np.array([pairings[index].differences for index in chosen.tolist()])
        low[chosen], high[chosen] = t_interval(samples)
        if smallest_p(int(n)) <= level:
            raw[chosen] = sign_flip_p(samples)
            if margin is not None:
                equal[chosen] = [_equality_p(sample, margin) for sample in samples]
    adjusted, equal = holm(raw), holm(equal)
    comparisons = []
    for index, pairing in enumerate(pairings):
        mean = float(np.mean(pairing.differences))
        tested = smallest_p(int(sizes[index])) <= level
        p = float(adjusted[index]) if tested else math.nan
        words = (
            _conclude(mean if higher_is_better else -mean, p, float(equal[index]), margin, alpha)
            if tested
            else _refuse(int(sizes[index]), needed, len(pairings))
        )
        comparisons.append(
            Comparison(
                pairing.method,
                pairing.sparsity,
                int(sizes[index]),
                mean,
                float(low[index]),
                float(high[index]),
                _effect(pairing.differences),
                p,
                detectable_difference(pairing.differences, level),
                words,
            )
        )
    return comparisons


def _refuse(pairs: int, needed: int, tests: int) -> str:
    if pairs < needed:
        return f"too few seeds to test ({pairs} of {needed})"
    return f"too many tests for {RANDOM_FLIPS:,} drawn flips ({tests})"


def _effect(differences: Sequence[float]) -> float:
    if len(differences) < 2 or not (spread := np.std(differences, ddof=1)):
        return math.nan
    return float(np.mean(differences) / spread)


def _equality_p(differences: Floats, margin: float) -> float:
    from statsmodels.stats.weightstats import DescrStatsW

    if np.ptp(differences) == 0:  # no spread: a t-test has no denominator
        return 0.0 if abs(differences[0]) < margin else 1.0
    return float(DescrStatsW(differences).ttost_mean(-margin, margin)[0])


def holm(p_values: Floats) -> Floats:
    """Holm's adjusted p-values (1979), as statsmodels has them; that collects garbage each time."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted


def _conclude(gain: float, p: float, equal: float, margin: float | None, alpha: float) -> str:
    different = p <= alpha
    same = margin is not None and equal <= alpha
    if different:
        verdict = "better than the reference" if gain > 0 else "worse than the reference"
        return f"{verdict}, yet within the margin" if same else verdict
    if same:
        return "equal within the margin"
    return "no difference shown" if margin is None else "neither a difference nor equality shown"


@dataclass(frozen=True)
class Ranking:
    """Average ranks over data sets, 1 the best, with Nemenyi's p-values between methods.

    `p` is Friedman's; it and `nemenyi` are missing where the blocks are too few, and `words`
    says so.
    """

    ranks: pd.Series
    blocks: int
    words: str
    p: float = math.nan
    nemenyi: pd.DataFrame | None = None


def rank_methods(scores: pd.DataFrame) -> Ranking:
    """Rank methods (columns) over data sets (rows); a higher score is better.

    A cell is a method's mean over seeds on one data set: seeds and sparsities are never rows.
    Methods with too few data sets, then data sets without all the rest, are left out.
    """
    covered = scores.notna().sum()
    enough = covered[covered >= min(FEWEST_BLOCKS, len(scores))].index
    complete = scores[enough].dropna()
    blocks, methods = complete.shape
    ranks = complete.rank(axis=1, ascending=False).mean().sort_values()
    if blocks < FEWEST_BLOCKS or methods < 3:
        words = (
            f"{_count(blocks, 'data set')} with {_count(methods, 'method')}: too few for average "
            f"ranks ({FEWEST_BLOCKS} data sets and 3 methods at least, {WANTED_BLOCKS} data sets "
            "wanted)"
        )
        return Ranking(ranks, blocks, words)
    from scikit_posthocs import posthoc_nemenyi_friedman

    p = float(stats.friedmanchisquare(*complete.to_numpy().T).pvalue)
    words = f"{blocks} data sets, Friedman p = {p:.2g}"
    if blocks < WANTED_BLOCKS:
        words += f"; about {WANTED_BLOCKS} data sets are wanted, so read the groups with care"
    nemenyi = posthoc_nemenyi_friedman(complete.to_numpy())
    nemenyi.index = nemenyi.columns = complete.columns
    return Ranking(ranks, blocks, words, p, nemenyi)


def tabulate_scores(groups: Sequence[Group], sparsity: float) -> pd.DataFrame:
    """Means over seeds at one sparsity, a row a task, a column a method; higher is better."""
    rows = {}
    for group in groups:
        runs = group.runs[np.isclose(group.runs["sparsity.target"], sparsity, atol=1e-6)]
        runs = runs[runs["method"].isin(group.methods)]
        means = runs.groupby("method")["metric.value"].mean()
        rows[group.task] = means if group.metric.higher_is_better else -means
    return pd.DataFrame(rows).T


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
