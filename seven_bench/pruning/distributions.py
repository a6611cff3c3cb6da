"""Distributions: how the number of weights to keep is spread over the tensors.

Counts, not thresholds, are the interface: they are whole numbers that add up exactly. Torch is
imported where scores are at hand, for the config's checks read the names alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seven_bench.pruning.patterns import Pattern, units_by_size
from seven_bench.pruning.units import Structure, form_of

if TYPE_CHECKING:
    from seven_bench.pruning.prunable import Params


class Counts(dict[str, int]):
    """Weights to keep per tensor.

    `threshold` is the score at which a global cut fell; `rows` the weights to keep in each row of
    each tensor, where rows have counts of their own.
    """

    threshold: float | None = None
    rows: dict[str, list[int]] | None = None


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


def allocate(
    scores: Params,
    masks: Params,
    *,
    count: int,
    mode: str = "global",
    pattern: str | Structure = "unstructured",
    weights: Params | None = None,
) -> Counts:
    """Spreads `count` weights over the tensors.

    Args:
        scores: one tensor per parameter, higher is kept; `global` alone looks at the values.
        masks: the living weights, bool, of the same shapes; removed ones do not compete.
        count: how many weights stay, in [0, number of living weights].
        mode: of `DISTRIBUTIONS`.
        pattern: of `PATTERNS`, or a model's structure; whole units of it are counted.
        weights: whose magnitudes give the quotas of `lamp`; the scores themselves if None.

    Returns: the count per tensor, in parameter order, none above what lives in its tensor; of a
        structure per group, in the order of layers. They add up to `count` exactly, or to the most
        below it that whole units can hold.

    Raises: ValueError on an unknown mode or pattern, a pair of them that cannot be, a count out of
        range, or a score that is not finite.
    """
    if mode not in DISTRIBUTIONS:
        raise ValueError(f"distribution={mode!r}: allowed are {', '.join(DISTRIBUTIONS)}")
    form = form_of(pattern)
    from seven_bench.pruning.threshold import counted

    if mode not in form.distributions:
        allowed = ", ".join(form.distributions)
        name = pattern.pattern if isinstance(pattern, Structure) else pattern
        raise ValueError(f"distribution={mode!r}: pattern={name} allows {allowed}")
    if isinstance(form, Structure):
        return _units_alike(form, mode, scores, masks, count)
    living = counted(masks)
    if not 0 <= count <= sum(living.values()):
        raise ValueError(f"cannot keep {count} weights: {sum(living.values())} live")
    quota = weights if mode == "lamp" and weights is not None else scores
    if form.single:
        return DISTRIBUTIONS[mode](quota, masks, living, count)
    return _whole_units(form, mode, quota, masks, living, count)


def _whole_units(
    form: Pattern, mode: str, scores: Params, masks: Params, living: dict[str, int], count: int
) -> Counts:
    """Counts in whole units. Tensors whose units are of one size share a number of units."""
    size = form.sizes({name: tuple(score.shape) for name, score in scores.items()})
    units = {name: living[name] // size[name] for name in scores}
    available: dict[int, int] = {}
    for name, one in size.items():
        available[one] = available.get(one, 0) + units[name]
    means, alive = form.unit_scores(scores), form.living_units(masks)
    if mode == "global":
        ideal = _best_that_fit(means, alive, size, count) if len(available) > 1 else {}
    else:
        ideal = DISTRIBUTIONS[mode](scores, masks, living, count)
    near = dict.fromkeys(available, 0)
    for name, weights in ideal.items():
        near[size[name]] += weights
    near = {one: round(weights / one) for one, weights in near.items()}
    counts = Counts.fromkeys(scores, 0)
    for one, number in units_by_size(available, near, count).items():
        names = [name for name in scores if size[name] == one]
        here = {name: units[name] for name in names}
        if mode == "global":
            picked = {n: means[n] for n in names}, {n: alive[n] for n in names}
            part = _global(*picked, here, number)
        else:
            part = _in_proportion({n: ideal[n] for n in names}, here, number)
        counts.update({name: units_kept * one for name, units_kept in part.items()})
    return Counts(counts)


def _units_alike(form: Structure, mode: str, scores: Params, masks: Params, count: int) -> Counts:
    """Weights to keep per group, in whole units; each kind of unit keeps the same fraction."""
    from seven_bench.pruning.threshold import counted

    sums, alive = form.unit_scores(scores), form.living_units(masks)
    units = counted(alive)
    counts = Counts(dict.fromkeys(units, 0))
    for groups, number in form.shares(count):
        here = {group.name: units[group.name] for group in groups}
        if number > sum(here.values()):
            raise ValueError(f"cannot keep {number} {groups[0].kind}s: {sum(here.values())} live")
        if mode == "global":
            picked = {n: sums[n] for n in here}, {n: alive[n] for n in here}
            part = _global(*picked, here, number)
        else:
            part = _in_proportion({group.name: group.units for group in groups}, here, number)
        counts.update({group.name: part[group.name] * group.size for group in groups})
    return counts


def _best_that_fit(
    means: Params, alive: Params, size: dict[str, int], count: int
) -> dict[str, int]:
    """Weights per tensor when units of any size are taken by their mean score while they fit."""
    import torch

    means = {
        name: mean.where(alive[name], float("-inf")).reshape(-1) for name, mean in means.items()
    }
    tensor = torch.cat([torch.full(m.shape, i) for i, m in enumerate(means.values())])
    weight = torch.tensor([size[name] for name in means])[tensor]
    order = torch.cat(list(means.values())).cpu().argsort(descending=True, stable=True)
    taken = tensor[order][weight[order].cumsum(0) <= count]
    units = torch.bincount(taken, minlength=len(means)).tolist()
    return {name: n * size[name] for name, n in zip(means, units, strict=True)}


def _global(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The `count` largest scores, wherever they are; ties by (parameter order, flat index)."""
    from seven_bench.pruning.threshold import find_cut

    if count in (0, sum(living.values())):
        return Counts(living if count else dict.fromkeys(living, 0))
    cut = find_cut(scores, masks, count)
    counts = Counts(cut.counts(count))
    counts.threshold = cut.value
    return counts


def _uniform(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The same density in every tensor."""
    return _in_proportion({n: s.numel() for n, s in scores.items()}, living, count)


def _erdos_renyi(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """Density in proportion to (d_in + d_out) / (d_in d_out). Mocanu et al. 2018, arXiv 1707.04780.

    On linear layers this is ERK (arXiv 1911.11134) as well; a convolution's sides are summed over
    all its dimensions, as ERK does.
    """
    return _in_proportion({n: sum(s.shape) for n, s in scores.items()}, living, count)


def _lamp(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The tensors' shares of the `count` largest LAMP scores. Lee et al. 2021, arXiv 2010.07611.

    The score is w_u^2 over the sum of all w_v^2 in the tensor with |w_v| >= |w_u|; removed weights
    are in neither.
    """
    lamp = {}
    for name, score in scores.items():
        squares = score.detach().double().square().mul(masks[name]).reshape(-1)
        ordered, order = squares.sort(descending=True, stable=True)
        # on the CPU: floating sums along a GPU tensor do not repeat bit for bit
        sums = ordered.cpu().cumsum(0).clamp_(min=1e-300).to(ordered.device)
        lamp[name] = squares.float().scatter_(0, order, (ordered / sums).float()).view(score.shape)
    return Counts(_global(lamp, masks, living, count))


def _per_row(scores: Params, masks: Params, living: dict[str, int], count: int) -> Counts:
    """The same density in every row, and so in every tensor; counts of rows differ by one."""
    counts = _uniform(scores, masks, living, count)
    counts.rows = {}
    for name, alive in _living_of_rows(masks).items():
        lives = {str(row): lives for row, lives in enumerate(alive)}
        rows = _in_proportion(dict.fromkeys(lives, 1), lives, counts[name])
        counts.rows[name] = list(rows.values())
    return counts


def _living_of_rows(masks: Params) -> dict[str, list[int]]:
    """How much of each row is true, by tensor; of a device's all is read at once."""
    import torch

    sums = [mask.reshape(mask.shape[0], -1).sum(1) for mask in masks.values()]
    by_tensor = torch.cat(sums).cpu().split([len(rows) for rows in sums])  # type: ignore[no-untyped-call]
    return {name: rows.tolist() for name, rows in zip(masks, by_tensor, strict=True)}


def _in_proportion(share: dict[str, int], living: dict[str, int], count: int) -> Counts:
    """Whole counts in proportion to `share`, capped by what lives.

    What a full tensor cannot take goes to the others in the same proportion; whole numbers by
    largest remainder, ties in parameter order. Integers throughout: a float could be one off.
    """
    counts, names, left = Counts.fromkeys(share, 0), list(share), count
    while True:  # fill the tensors whose share is at least what they hold
        total = sum(share[name] for name in names)
        full = {n for n in names if left * share[n] >= living[n] * total}
        if not full or total == 0:
            break
        counts.update({name: living[name] for name in full})
        left -= sum(living[name] for name in full)
        names = [name for name in names if name not in full]
    remainder = {}
    for name in names:
        counts[name], remainder[name] = divmod(left * share[name], max(total, 1))
    missing = count - sum(counts.values())
    for name in sorted(names, key=lambda name: -remainder[name]):
        taken = min(missing, 1 if total else living[name])
        counts[name] += taken
        missing -= taken
    return Counts(counts)


DISTRIBUTIONS = {
    "global": _global,
    "uniform": _uniform,
    "er": _erdos_renyi,
    "lamp": _lamp,
    "per_row": _per_row,
}
