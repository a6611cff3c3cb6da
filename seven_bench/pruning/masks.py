"""Masks: made with exact counts, applied in place, counted and hashed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seven_bench.bits import hash_masks, pack_bits
from seven_bench.pruning import device
from seven_bench.pruning.distributions import Counts, allocate, kept_count
from seven_bench.pruning.patterns import Pattern
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.threshold import check_finite, counted, kth_largest, select_each, top_masks
from seven_bench.pruning.units import Structure, form_of

LASTING = 3  # uses after which masks on a CPU are taken to be those of many steps
MOST_FACTORS = 16_000_000  # weights, 64 MB of float32: more is not held beside a model on a CPU


class MaskSet(dict[str, Tensor]):
    """One bool mask per prunable parameter, True where the weight lives, in parameter order."""

    def __init__(self, masks: Iterable[tuple[str, Tensor]] | dict[str, Tensor] = ()) -> None:
        super().__init__(masks)
        self._multipliers: dict[torch.dtype, Params] = {}
        self._uses = 0
        for name, mask in self.items():
            if mask.dtype != torch.bool:
                raise TypeError(f"mask of {name} is {mask.dtype}: masks are bool")

    @classmethod
    def ones(cls, params: Params) -> MaskSet:
        """Everything lives."""
        masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in params.items()}
        return cls(device.side_by_side(masks))

    @property
    def total(self) -> int:
        return sum(mask.numel() for mask in self.values())

    @property
    def kept(self) -> int:
        return sum(counted(self).values())

    @property
    def sparsity(self) -> float:
        """The fraction removed."""
        return 1 - self.kept / self.total if self else 0.0

    def to(self, device: torch.device) -> MaskSet:
        """The masks on a device."""
        return MaskSet({name: mask.to(device) for name, mask in self.items()})

    def empty_layers(self) -> list[str]:
        """Names of the parameters of which nothing is left."""
        return [name for name, kept in counted(self).items() if kept == 0]

    def summary(self) -> dict[str, dict[str, int]]:
        """Kept and total weights per parameter."""
        return {
            name: {"kept": kept, "total": self[name].numel()}
            for name, kept in counted(self).items()
        }

    @torch.no_grad()
    def apply_(self, tensors: Params) -> None:
        """Multiplies tensors (weights, gradients, moments) in place by the masks of their names.

        Raises: ValueError when names or shapes differ.
        """
        self.check(tensors)
        self.multiply_(tensors)

    @torch.no_grad()
    def multiply_(self, tensors: Params) -> None:
        """`apply_` to some of the names, unchecked."""
        kinds = {tensor.dtype for tensor in tensors.values()}
        if len(kinds) != 1 or not (device.on_gpu(self) or self._lasts()):
            # as bytes: of bools torch writes numbers into new memory first, in twice the time
            bits = [self[name].view(torch.uint8) for name in tensors]
            torch._foreach_mul_(list(tensors.values()), bits)
            return
        (kind,) = kinds
        if kind not in self._multipliers:  # masks are never written to: an update makes new ones
            made = zip(self, device.multipliers(self, kind), strict=True)
            self._multipliers[kind] = dict(made)
        factors = self._multipliers[kind]
        torch._foreach_mul_(list(tensors.values()), [factors[name] for name in tensors])

    def _lasts(self) -> bool:
        """Whether numbers in place of bools are worth their memory on a CPU: they multiply in a
        third of the time, but have to be made.
        """
        self._uses += 1
        return self._uses > LASTING and (bool(self._multipliers) or self.total <= MOST_FACTORS)

    def check(self, tensors: Params) -> None:
        """Raises ValueError unless `tensors` have exactly the masks' names and shapes."""
        if self.keys() != tensors.keys():
            odd = sorted(self.keys() ^ tensors.keys())
            raise ValueError(f"masks and parameters differ in {', '.join(odd[:3])}")
        for name, mask in self.items():
            if mask.shape != tensors[name].shape:
                shapes = f"{tuple(mask.shape)} and {tuple(tensors[name].shape)}"
                raise ValueError(f"mask and parameter {name} differ in shape: {shapes}")

    def hash(self) -> str:
        """SHA-256 over names, shapes and bits: equal hashes mean equal masks."""
        bits = {name: pack_bits(mask.cpu().numpy()) for name, mask in self.items()}
        return hash_masks(bits, {name: mask.shape for name, mask in self.items()})


def make_masks(
    scores: Params,
    masks: Params,
    counts: dict[str, int],
    pattern: str | Structure = "unstructured",
) -> MaskSet:
    """The masks that keep exactly `counts[name]` weights of each tensor, those of highest score.

    Args:
        scores: one tensor per parameter, higher is kept.
        masks: the living weights; only they compete.
        counts: weights to keep per tensor (of a structure: per group), from `allocate`.
        pattern: of `PATTERNS`, or a model's structure. Of blocks, rows, heads and neurons as many
            whole ones are kept as the count holds.
            N:M keeps N of every M, whatever the counts, unless they add up to more: then the best
            N of every M and the best of the rest (a gradual method on its way).

    Returns: masks of exactly these counts; ties go to the lower flat index.

    Raises: ValueError on an unknown pattern or one that does not cover a tensor, a count above what
        lives, a score not finite.
    """
    form = form_of(pattern)
    size = form.sizes({name: tuple(score.shape) for name, score in scores.items()})
    rows = counts.rows if isinstance(counts, Counts) else None
    if rows is not None or form.group is not None:
        check_finite(scores)
    if rows is not None:
        return MaskSet((n, _best_of_rows(s, masks[n], rows[n])) for n, s in scores.items())
    if form.group is not None:
        return _best_of_groups(scores, masks, counts, form.group)
    if form.single:
        threshold = counts.threshold if isinstance(counts, Counts) else None
        return MaskSet(select_each(scores, masks, counts, threshold))
    alive = form.living_units({name: masks[name] for name in scores})
    numbers = {name: counts[name] // one for name, one in size.items()}
    return MaskSet(form.expand(select_each(form.unit_scores(scores), alive, numbers), scores))


def _best_of_groups(
    scores: Params, masks: Params, counts: dict[str, int], group: tuple[int, int]
) -> MaskSet:
    """The best N of every M, and where the counts add up to more, the best of the rest."""
    n, m = group
    best = {}
    for name, score in scores.items():
        groups = _best_of_rows(score.reshape(-1, m), masks[name].reshape(-1, m), n)
        best[name] = groups.view(masks[name].shape)
    if sum(counts.values()) * m <= sum(mask.numel() for mask in masks.values()) * n:
        return MaskSet(best)
    more = {name: max(0, counts[name] - held) for name, held in counted(best).items()}
    rest = select_each(scores, {name: masks[name] & ~best[name] for name in scores}, more)
    return MaskSet((name, mask | rest[name]) for name, mask in best.items())


def _best_of_rows(score: Tensor, living: Tensor, counts: int | list[int]) -> Tensor:
    """The `counts` (one number, or one a row) best living weights of each row, a mask."""
    alive = living.reshape(living.shape[0], -1)
    ranked = score.detach().float().reshape(alive.shape).where(alive, float("-inf"))
    most = torch.tensor(counts, device=alive.device).reshape(-1, 1)
    if alive.is_cuda:
        best = device.ranks(ranked) < most
    else:
        order = ranked.argsort(dim=1, descending=True, stable=True)
        places = (torch.arange(alive.shape[1]) < most).expand_as(alive)
        best = torch.zeros_like(alive).scatter_(1, order, places)
    return (best & alive).view(living.shape)


def prune(
    scores: Params,
    masks: Params,
    sparsity: float,
    distribution: str = "global",
    pattern: str | Structure = "unstructured",
    cut: str = "exact",
    weights: Params | None = None,
    density: float | None = None,
) -> MaskSet:
    """Masks at a sparsity over *all* prunable weights (living or not), from the living ones.

    Args:
        cut: "exact", or "threshold": everything at or above the k-th largest score lives, with k
            truncated (that is what published codes do; ties may leave more than k weights), or
            "above_zero": every score above 0 lives, whatever the sparsity, unless that is 0.
        weights: see `allocate`.
        density: what is truncated, where a schedule computes it by itself; 1 - sparsity if None.

    Raises: ValueError as `allocate` and `make_masks` do.
    """
    total = sum(mask.numel() for mask in masks.values())
    if cut == "above_zero":
        check_finite(scores)
        return MaskSet(
            (n, (score > 0) & masks[n] if sparsity else masks[n]) for n, score in scores.items()
        )
    if cut == "threshold":
        k = int((1 - sparsity if density is None else density) * total)
        threshold = kth_largest(scores, masks, k) if k else float("inf")
        return MaskSet((n, (score >= threshold) & masks[n]) for n, score in scores.items())
    form = form_of(pattern)
    count = kept_count(total, sparsity)
    if isinstance(form, Pattern):  # a structure finds its own, in units
        count = reachable_count(masks, sparsity, pattern)
    single = distribution == "global" and form.single
    if single and count:  # without counts by tensor: nobody reads them
        return MaskSet(top_masks(scores, masks, count))
    counts = allocate(
        scores, masks, count=count, mode=distribution, pattern=pattern, weights=weights
    )
    return make_masks(scores, masks, counts, pattern)


def reachable_count(
    masks: Params, sparsity: float, pattern: str | Structure = "unstructured"
) -> int:
    """Weights to keep at a sparsity: `kept_count`, or the nearest below it that the pattern has."""
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    total = sum(mask.numel() for mask in masks.values())
    return form_of(pattern).reachable(shapes, kept_count(total, sparsity))
