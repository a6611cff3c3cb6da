"""Fisher pruning, per example. Theis et al. 2018, arXiv 1801.05787."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class FisherScore(Score):
    """w^2 / 2 times the mean over examples of g_n^2: the empirical Fisher's diagonal.

    The gradient is squared for each example by itself. The square of a batch's mean gradient, which
    many codes take, is another quantity: examples that pull in opposite directions cancel in it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"example_squares"})
    state = ("total", "batches")

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.total, self.batches = zeros(params), 0

    def observe(self, seen: Observation) -> None:
        self.batches += 1
        for name, squares in seen.example_squares.items():
            self.total[name] += squares

    def scores(self, params: Params, masks: Params) -> Params:
        scale = 0.5 / self.batches
        return {n: scale * p.detach().square() * self.total[n] for n, p in params.items()}
