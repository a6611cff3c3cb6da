"""SNIP: connection sensitivity. Lee et al. 2019, arXiv 1810.02340, eq. 5."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class SnipScore(Score):
    """|w mean_b g_b|: the absolute value after the mean over batches, as in the paper.

    The normalisation by the sum of all scores is left out: it changes no order.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("total",)

    def __init__(self) -> None:
        self.total: Params = {}

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.total = zeros(params)

    def observe(self, seen: Observation) -> None:
        for name, gradient in seen.grads.items():
            self.total[name] += gradient

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: (p.detach() * self.total[name]).abs() for name, p in params.items()}
