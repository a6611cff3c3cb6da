"""The score: a number for each weight; the highest are kept."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class MyScore(Score):
    """|w| times the summed |g| of all batches, to a power.

    Args:
        power: 0 is magnitude, 1 accumulated |w g| of weights that do not move.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("total",)  # what a resumed run needs

    def __init__(self, power: float = 0.5) -> None:
        self.power = power

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.total = zeros(params)

    def observe(self, seen: Observation) -> None:
        for name, gradient in seen.grads.items():
            self.total[name] += gradient.abs()

    def scores(self, params: Params, masks: Params) -> Params:
        powers = {name: total**self.power for name, total in self.total.items()}
        return {name: p.detach().float().abs() * powers[name] for name, p in params.items()}
