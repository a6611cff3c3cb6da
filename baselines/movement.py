"""Movement pruning. Sanh et al. 2020, arXiv 2005.07683."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class MovementScore(Score):
    """S <- S - a w dL/d(masked w), section 4: weights that move away from zero are kept.

    The step size a changes no order and is left out. To be used with `straight_through` masking:
    w is then the weight underneath, and the gradient that of the masked weight. What SEVEN's
    released code calls movement is another method, the instantaneous |w g|.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("movement",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.movement = zeros(params)

    def observe(self, seen: Observation) -> None:
        names = list(self.movement)  # one operation: nothing to fuse
        weights = [seen.params[name].detach() for name in names]
        grads = [seen.grads[name] for name in names]
        torch._foreach_addcmul_(list(self.movement.values()), weights, grads, value=-1)

    def scores(self, params: Params, masks: Params) -> Params:
        return self.movement
