"""Block movement pruning. Lagunas et al. 2021, arXiv 2109.04838."""

from __future__ import annotations

import torch

from seven_bench.baselines.movement import MovementScore, adam_step, step_size
from seven_bench.pruning import Observation, Params
from seven_bench.pruning.units import form_of


class BlockMovementScore(MovementScore):
    """Movement with one score parameter for each unit of the pattern, section 3: its gradient is
    the sum of w dL/d(masked w) over the unit, and its Adam step is one.

    The paper's units are blocks of 32 x 32 in attention and whole dimensions of the feed-forward
    part (its "hybrid"), thresholded under a penalty; here they are what `pattern` says, and the
    count is exact. Under the paper's equation (`optimizer: sgd`) this is `movement` itself, whose
    scores a pattern adds up; Adam's step of a sum is another than the sum of steps.
    """

    def __init__(self, lr: float = 1e-2) -> None:
        super().__init__(lr, "adam")

    def observe(self, seen: Observation) -> None:
        self.form = form_of(seen.pattern)
        products = {
            name: seen.params[name].detach().float() * grad.float()
            for name, grad in seen.grads.items()
        }
        slopes = self.form.unit_scores(products)
        if not self.t:
            for held in (self.movement, self.first, self.second):
                held.clear()
                held.update({name: torch.zeros_like(slope) for name, slope in slopes.items()})
        self.t += 1
        size = step_size(self.lr * seen.lr_factor, self.t)
        for name, slope in slopes.items():
            state = (self.movement[name], self.first[name], self.second[name])
            adam_step(torch.ones_like(slope), slope, *state, size)

    def scores(self, params: Params, masks: Params) -> Params:
        if not self.t:
            return self.movement
        return self.form.expand(self.movement, params)
