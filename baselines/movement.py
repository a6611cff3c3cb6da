"""Movement pruning. Sanh et al. 2020, arXiv 2005.07683; code: huggingface/nn_pruning."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seven_bench.pruning import Observation, Params, Score, zeros
from seven_bench.pruning.fused import Fused

OPTIMIZERS = ("adam", "sgd")


class MovementScore(Score):
    """Scores S that are trained beside the weights, with the gradient w dL/d(masked w), section 4:
    weights that move away from zero are kept.

    They start at 0 and have a learning rate of their own, which follows the run's schedule. `sgd`
    is the paper's equation, S <- S - lr w dL/d(masked w); `adam` is what the authors' code does,
    which makes them parameters under its AdamW (betas 0.9 and 0.999, no decay, 1e-8 added to the
    root of a second moment that is not yet unbiased). Here their gradients have no part in
    clipping. To be used with `straight_through` masking: w is then the weight underneath. What
    SEVEN's released code calls movement is another method, the instantaneous |w g|.

    Raises:
        ValueError: an unknown optimizer.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state = ("movement", "first", "second", "t")

    def __init__(self, lr: float = 1e-2, optimizer: str = "adam") -> None:
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"score.optimizer={optimizer!r}: allowed are {', '.join(OPTIMIZERS)}")
        self.lr, self.optimizer, self.step = lr, optimizer, Fused(adam_step, state=3)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.movement, self.t = zeros(params), 0
        moments = params if self.optimizer == "adam" else {}
        self.first, self.second = zeros(moments), zeros(moments)

    def observe(self, seen: Observation) -> None:
        self.t += 1
        rate = self.lr * seen.lr_factor
        if self.optimizer == "adam":
            size = step_size(rate, self.t)
            state = (self.movement, self.first, self.second)
            self.step(seen.params, seen.grads, *state, constants=(size,))
            return
        names = list(self.movement)  # one operation: nothing to fuse
        weights = [seen.params[name].detach() for name in names]
        grads = [seen.grads[name] for name in names]
        torch._foreach_addcmul_(list(self.movement.values()), weights, grads, value=-rate)

    def scores(self, params: Params, masks: Params) -> Params:
        return self.movement


def step_size(rate: float, t: int) -> float:
    """What Adam multiplies its t-th step (from 1) with."""
    return float(rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t))


def adam_step(
    weight: Tensor, gradient: Tensor, score: Tensor, first: Tensor, second: Tensor, size: float
) -> None:
    """One step of Adam on `score`, whose gradient is weight x gradient."""
    slope = weight.float() * gradient.float()
    first.mul_(0.9).add_(slope * 0.1)
    second.mul_(0.999).add_((slope * slope).mul_(0.001))
    score.sub_(first.div(second.rsqrt().reciprocal_().add_(1e-8)).mul_(size))
