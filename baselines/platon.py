"""PLATON. Zhang et al. 2022, arXiv 2206.12562."""

from __future__ import annotations

from typing import ClassVar

from seven_bench.pruning import Observation, Params, Score, zeros


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

    def reset(self, params: Params, generator: object = None) -> None:
        self.local, self.sensitivity, self.uncertainty = zeros(params), zeros(params), zeros(params)
        self.seen = 0

    def observe(self, seen: Observation) -> None:
        self.seen += 1
        for name, weight in seen.params.items():
            local, mean = self.local[name], self.sensitivity[name]
            local += (weight.detach().float() * seen.grads[name]).abs() / self.window
            if self.seen % self.window == 0:
                mean.lerp_(local, 1 - self.b1)
                self.uncertainty[name].lerp_((local - mean).abs_(), 1 - self.b2)
                local.zero_()

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: mean * self.uncertainty[name] for name, mean in self.sensitivity.items()}
