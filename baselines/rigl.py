"""RigL. Evci et al. 2020, arXiv 1911.11134; code: google-research/rigl."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros
from seven_bench.pruning.threshold import counted, select_each


class RiglScore(Score):
    """At each update, of a tensor's n living weights the int(f n) of least |w| make room for as
    many of largest |g| among all that are not kept, f = alpha / 2 (1 + cos(pi t / T)), algorithm 1.

    A weight that goes and comes back at once keeps its value, as in the authors' code; its
    tie-break by noise of 1e-5 is left out. To be used with `rewire` masking, where what is grown
    starts from zero, with random masks at the start, updates that take the step's place, and a
    distribution that fixes each tensor's count.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("gradient", "progress")

    def __init__(self, alpha: float = 0.3) -> None:
        self.alpha = alpha

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.gradient, self.progress = zeros(params), 0.0

    def observe(self, seen: Observation) -> None:
        self.gradient = {name: grad.float().abs() for name, grad in seen.grads.items()}
        self.progress = seen.progress

    def scores(self, params: Params, masks: Params) -> Params:
        dropped = self.alpha / 2 * (1 + math.cos(math.pi * self.progress))
        scores = {name: weight.detach().float().abs() for name, weight in params.items()}
        living = counted({name: masks[name] for name in params})
        counts = {name: lives - int(dropped * lives) for name, lives in living.items()}
        for name, kept in select_each(scores, masks, counts).items():
            grown = self.gradient[name] / self.gradient[name].max().clamp(min=1e-30)
            if living[name] < kept.numel():
                scores[name] = torch.where(kept, 2.0, grown)
        return scores
