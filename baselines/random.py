"""Uniformly random scores: the floor of any comparison."""

from __future__ import annotations

import torch

from seven_bench.pruning import Params, Score


class RandomScore(Score):
    """Independent uniform scores, drawn once, on the CPU, from the run's scoring generator."""

    state = ("drawn",)

    def __init__(self) -> None:
        self.drawn: Params = {}

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.drawn = {
            name: torch.rand(p.shape, generator=generator).to(p.device)
            for name, p in params.items()
        }

    def scores(self, params: Params, masks: Params) -> Params:
        return self.drawn
