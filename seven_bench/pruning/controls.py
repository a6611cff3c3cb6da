"""Controls of methods that prune before training: what of a method's result is its own?

After "Missing the mark" (Frankle et al. 2021, arXiv 2009.08576) and "Sanity-checking pruning
methods" (Su et al. 2020, arXiv 2009.11094). `reinit` draws weights anew and is the run's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from seven_bench.pruning import Counts, MaskSet, Observation, Params, Score, make_masks

LABELS = ("labels", "start_positions", "end_positions")


class Altered(Score):
    """A score that observes as another does; what it says of the weights is altered."""

    def __init__(self, score: Score) -> None:
        self.inner = score
        self.needs, self.compared = score.needs, score.compared  # type: ignore[misc]

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.inner.reset(params, generator)

    def observe(self, seen: Observation) -> None:
        self.inner.observe(seen)

    def update_weights(self, params: Params, masks: Params, new_masks: Params) -> Params | None:
        return self.inner.update_weights(params, masks, new_masks)

    def state_dict(self) -> dict[str, Tensor]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.inner.load_state_dict(state)


class Inverted(Altered):
    """The negated score: what the method would remove first is kept."""

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: -s for name, s in self.inner.scores(params, masks).items()}


class MagnitudeQuotas(Altered):
    """The method's ranking within each tensor, with magnitude's layer counts.

    In each tensor the method's best living weight gets the largest |w|, the next the next, so that
    any distribution spreads the count as it would over magnitudes.
    """

    def scores(self, params: Params, masks: Params) -> Params:
        swapped = {}
        for name, score in self.inner.scores(params, masks).items():
            ranked = score.where(masks[name], float("-inf")).reshape(-1)
            best_first = ranked.argsort(descending=True, stable=True)
            sizes = params[name].detach().float().abs().reshape(-1).sort(descending=True).values
            swapped[name] = torch.empty_like(sizes).scatter_(0, best_first, sizes).view_as(score)
        return swapped


def altered(score: Score, control: str) -> Score:
    """The score that a control puts in a method's place."""
    wrappers = {"invert": Inverted, "quota_swap_reverse": MagnitudeQuotas}
    return wrappers[control](score) if control in wrappers else score


def corrupted(batches: Iterable[dict[str, Any]], seed: int) -> Iterator[dict[str, Any]]:
    """The batches with their labels permuted among each batch's examples.

    Raises: ValueError when a batch has no labels.
    """
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        names = [name for name in LABELS if name in batch]
        if not names:
            raise ValueError(f"control=corrupt_labels: batches have no {', '.join(LABELS)}")
        order = torch.randperm(len(batch[names[0]]), generator=generator)
        yield {**batch, **{name: batch[name][order.to(batch[name].device)] for name in names}}


def exchanged(masks: MaskSet, control: str, weights: Params, pattern: str, seed: int) -> MaskSet:
    """Masks with the same layer counts whose places are no longer the method's.

    Args:
        masks: the method's.
        control: `shuffle` (places at random), `quota_swap` (by |w|); others change nothing.
        weights: the weights at the start.
        pattern: of `PATTERNS`; its units stay whole.
        seed: of the random places.
    """
    if control == "shuffle":
        generator = torch.Generator().manual_seed(seed)
        scores = {
            name: torch.rand(mask.shape, generator=generator).to(mask.device)
            for name, mask in masks.items()
        }
    elif control == "quota_swap":
        scores = {name: weights[name].detach().float().abs() for name in masks}
    else:
        return masks
    counts = Counts({name: int(mask.count_nonzero()) for name, mask in masks.items()})
    return make_masks(scores, MaskSet.ones(masks), counts, pattern)
