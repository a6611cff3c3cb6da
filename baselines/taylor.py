"""First-order Taylor importance. Molchanov et al. 2017, arXiv 1611.06440, per weight."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class TaylorScore(Score):
    """Accumulated |w g|: SEVEN's score without a noise term (c = 1), released or signed."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("importance",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.importance = zeros(params)

    def observe(self, seen: Observation) -> None:
        for name, weight in seen.params.items():
            change = (weight.detach() * seen.grads[name]).abs()
            self.importance[name].add_(change).mul_(seen.masks[name])

    def scores(self, params: Params, masks: Params) -> Params:
        return self.importance
