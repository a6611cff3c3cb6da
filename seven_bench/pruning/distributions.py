"""Distributions: how the number of weights to keep is spread over the tensors.

Counts, not thresholds, are the interface: they are whole numbers that add up exactly.
"""

from __future__ import annotations

import math

from seven_bench.pruning.prunable import Params
from seven_bench.pruning.threshold import count_above, kth_largest


class Counts(dict[str, int]):
    """Weights to keep per tensor; `threshold` is the score at which a global cut fell."""

    threshold: float | None = None


def kept_count(total: int, sparsity: float) -> int:
    """How many of `total` weights stay: `total - round(sparsity * total)`.

    Raises: ValueError when sparsity is not a number in [0, 1).
    """
    if (
        isinstance(sparsity, bool)
        or not isinstance(sparsity, (int, float))
        or not 0 <= sparsity < 1
    ):
        raise ValueError(f"sparsity={sparsity!r}: allowed is a number in [0, 1)")
    return total - round(sparsity * total)


def allocate(scores: Params, masks: Params, *, count: int, mode: str = "global") -> Counts:
    """Spreads `count` weights over the tensors.

    Args:
        scores: one tensor per parameter, higher is kept; only `global` looks at the values.
        masks: the living weights, bool, of the same shapes; removed ones do not compete.
        count: how many weights stay, in [0, number of living weights].
        mode: of `DISTRIBUTIONS`.

    Returns: the count per tensor, in parameter order; they add up to `count` exactly and none is
        above what lives in its tensor.

    Raises: ValueError on an unknown mode, a count out of range, or a score that is not finite.
    """
    if mode not in DISTRIBUTIONS:
        raise ValueError(f"distribution={mode!r}: allowed are {', '.join(DISTRIBUTIONS)}")
    living = {name: int(mask.count_nonzero()) for name, mask in masks.items()}
    if not 0 <= count <= sum(living.values()):
        raise ValueError(f"cannot keep {count} weights: {sum(living.values())} live")
    return DISTRIBUTIONS[mode](scores, masks, living, count)


def _global(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The `count` largest scores, wherever they are; ties by (parameter order, flat index)."""
    if count in (0, sum(living.values())):
        return Counts(living if count else dict.fromkeys(living, 0))
    threshold = kth_largest(scores, masks, count)
    counts, ties = Counts(), {}
    for name, score in scores.items():
        counts[name], ties[name] = count_above(name, score, masks[name], threshold)
    missing = count - sum(counts.values())
    for name in counts:
        taken = min(missing, ties[name])
        counts[name] += taken
        missing -= taken
    counts.threshold = threshold
    return counts


def _uniform(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The same density in every tensor."""
    return _by_density(dict.fromkeys(scores, 1.0), scores, living, count)


def _erdos_renyi(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """Density in proportion to (d_in + d_out) / (d_in d_out). Mocanu et al. 2018, arXiv 1707.04780.

    On linear layers this is ERK (arXiv 1911.11134) as well; a convolution's sides are summed and
    multiplied over all its dimensions, as ERK does.
    """
    density = {name: sum(s.shape) / math.prod(s.shape) for name, s in scores.items()}
    return _by_density(density, scores, living, count)


def _by_density(
    relative: dict[str, float], scores: Params, living: dict[str, int], count: int
) -> Counts:
    """Whole counts in proportion to relative density x size, capped by what lives.

    What a full tensor cannot take goes to the others in the same proportion; whole numbers by
    largest remainder, ties in parameter order.
    """
    share = {name: relative[name] * scores[name].numel() for name in scores}
    counts, open_names, left = Counts.fromkeys(scores, 0), list(scores), count
    while True:  # fill the tensors whose share is more than they hold
        total = sum(share[name] for name in open_names)
        full = [n for n in open_names if left * share[n] >= living[n] * total]
        if not full or not open_names:
            break
        for name in full:
            counts[name] = living[name]
            left -= living[name]
        open_names = [name for name in open_names if name not in full]
        if left <= 0 or not open_names:
            break
    wanted = {name: left * share[name] / total for name in open_names}
    for name, value in wanted.items():
        counts[name] = math.floor(value)
    rest = count - sum(counts.values())
    by_remainder = sorted(open_names, key=lambda name: counts[name] - wanted[name])
    for name in by_remainder:
        if rest > 0 and counts[name] < living[name]:
            counts[name] += 1
            rest -= 1
    return Counts(counts)


DISTRIBUTIONS = {"global": _global, "uniform": _uniform, "er": _erdos_renyi}
