"""The weights underneath stay; the model computes with weight x mask.

So movement pruning has it (Sanh et al. 2020, arXiv 2005.07683): the score takes the gradient of the
masked weight, the optimizer moves the weight underneath.
"""

from __future__ import annotations

from torch.optim import Optimizer

from seven_bench.pruning import Params
from seven_bench.pruning.pruner import Pruner, Settled, Update
from seven_bench.training.masking.protocol import copied, fill, mask_gradients


class StraightThrough:
    """`weights` are put into the model for the optimizer's step alone."""

    growing = False

    def __init__(self, params: Params, pruner: Pruner | Settled) -> None:
        self.params, self.pruner = params, pruner
        self.weights: Params = {}
        self._inside = False  # whether the model holds them right now

    def start(self) -> None:
        dense = self.weights or copied(self.params)
        self.weights = {name: value.to(self.params[name].device) for name, value in dense.items()}
        self.pruner.masks.apply_(self.params)

    def before_step(self) -> None:
        mask_gradients(self.params, self.pruner.masks)
        fill(self.params, self.weights)
        self._inside = True

    def after_step(self) -> None:
        fill(self.weights, self.params)

    def end_step(self, update: Update | None, optimizer: Optimizer) -> None:
        if update is not None and update.weights is not None:
            fill(self.weights, update.weights)
            fill(self.params, update.weights)
        self.pruner.masks.apply_(self.params)
        self._inside = False

    def abandon_step(self) -> None:
        if self._inside:
            self.pruner.masks.apply_(self.params)
            self._inside = False

    def before_evaluation(self) -> None: ...

    def after_evaluation(self) -> None: ...

    def state(self) -> Params:
        return self.weights

    def load(self, state: Params) -> None:
        self.weights = copied(state)
