"""Soft movement pruning. Sanh et al. 2020, arXiv 2005.07683, section 4 and appendix."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, device, zeros


class SoftMovementScore(Score):
    """Movement scores S trained on L + penalty * mean(sigmoid(S)); alive where sigmoid(S) > cut.

    S starts at 0 and takes Adam's steps, as in the authors' code (betas 0.9, 0.999, learning rate
    `lr`, here constant). The penalty is constant too, and in units of the mean |w g|, so that one
    value serves models of any size. What comes out is S - logit(cut): with `pruner.cut=above_zero`
    the sparsity is what it turns out to be, with an exact cut the largest scores of the count asked
    for are kept (the projected variant).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("level", "first", "second", "t")

    def __init__(self, penalty: float = 2.0, cut: float = 0.1, lr: float = 0.3) -> None:
        self.penalty, self.lr, self.threshold = penalty, lr, math.log(cut / (1 - cut))

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.level, self.first, self.second = zeros(params), zeros(params), zeros(params)
        self.t = 0

    def observe(self, seen: Observation) -> None:
        self.t += 1
        slopes = {name: w.detach() * seen.grads[name] for name, w in seen.params.items()}
        total = sum(slope.numel() for slope in slopes.values())
        unit = sum(device.read([slope.abs().sum() for slope in slopes.values()])) / total
        for name, slope in slopes.items():
            s, m, v = self.level[name], self.first[name], self.second[name]
            alive = torch.sigmoid(s)
            slope += self.penalty * unit * alive * (1 - alive)
            m.lerp_(slope, 0.1)
            v.lerp_(slope.square(), 0.001)
            size = (v / (1 - 0.999**self.t)).sqrt_().add_(1e-8)
            s.addcdiv_(m, size, value=-self.lr / (1 - 0.9**self.t))

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: level - self.threshold for name, level in self.level.items()}
