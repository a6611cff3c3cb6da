"""PLATON. Zhang et al. 2022, arXiv 2206.12562."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seven_bench.pruning import Observation, Params, Score, zeros
from seven_bench.pruning.fused import Fused


class PlatonScore(Score):
    """Smoothed sensitivity times smoothed uncertainty, eq. 5 to 8.

        I = |w g|                            averaged over `window` steps, as the authors' code does
        Ibar = b1 Ibar + (1 - b1) I          sensitivity
        Ubar = b2 Ubar + (1 - b2) |I - Ibar|     uncertainty
        S = Ibar Ubar

    With `window=1` it is the variant of SEVEN's released code, which has no window.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("local", "sensitivity", "uncertainty", "seen")

    def __init__(self, b1: float = 0.85, b2: float = 0.95, window: int = 10) -> None:
        self.b1, self.b2, self.window = b1, b2, window
        self.look, self.smooth = Fused(look_update, state=1), Fused(smooth_update, state=3)

    def reset(self, params: Params, generator: object = None) -> None:
        self.local, self.sensitivity, self.uncertainty = zeros(params), zeros(params), zeros(params)
        self.product: Params = {}
        self.seen = 0

    def observe(self, seen: Observation) -> None:
        self.seen += 1
        self.look(seen.params, seen.grads, self.local, constants=(1 / self.window,))
        if self.seen % self.window == 0:
            decays = (self.b1, 1 - self.b1, self.b2, 1 - self.b2)
            self.smooth(self.local, self.sensitivity, self.uncertainty, constants=decays)

    def scores(self, params: Params, masks: Params) -> Params:
        self.product = self.product or zeros(params)  # the same memory every time
        for name, product in self.product.items():
            torch.mul(self.sensitivity[name], self.uncertainty[name], out=product)
        return self.product


def look_update(weight: Tensor, gradient: Tensor, local: Tensor, share: float) -> None:
    """Takes one step's |w g| into the window's mean."""
    local.add_((weight.float() * gradient.float()).abs_().mul_(share))


def smooth_update(
    local: Tensor, sensitivity: Tensor, uncertainty: Tensor, keep1: float, take1: float,
    keep2: float, take2: float,
) -> None:  # fmt: skip
    """Ends a window: both moving averages take it in, and it begins anew."""
    sensitivity.mul_(keep1).add_(local * take1)
    uncertainty.mul_(keep2).add_((local - sensitivity).abs_().mul_(take2))
    local.zero_()
