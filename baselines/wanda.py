"""Wanda: weights and activations. Sun et al. 2024, arXiv 2306.11695, eq. 1."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score


class WandaScore(Score):
    """|w_ij| ||x_j||, with the norm of input j over all calibration tokens.

    Comparable within an output row alone, as in the paper. The engine prunes block after block, so
    that a block's inputs are those that the pruned blocks before it make.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    compared: ClassVar[str] = "row"
    state = ("squares",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.squares = {n: torch.zeros(p[0].numel(), device=p.device) for n, p in params.items()}

    def observe(self, seen: Observation) -> None:
        for name, squares in seen.activations.items():
            self.squares[name] += squares

    def scores(self, params: Params, masks: Params) -> Params:
        return {
            name: (p.detach().abs().flatten(1) * self.squares[name].sqrt()).view_as(p)
            for name, p in params.items()
        }
