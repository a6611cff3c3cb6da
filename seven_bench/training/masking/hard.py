"""Removed weights are zero after every step and never come back: the default."""

from __future__ import annotations

from torch.optim import Optimizer

from seven_bench.pruning import Params
from seven_bench.pruning.pruner import Pruner, Settled, Update
from seven_bench.training.masking.protocol import clear_moments, fill, mask_gradients


class Hard:
    """The weight is set to zero in place; there is nothing underneath."""

    growing = False

    def __init__(self, params: Params, pruner: Pruner | Settled) -> None:
        self.params, self.pruner = params, pruner

    @property
    def weights(self) -> Params:
        return self.params

    def start(self) -> None:
        self.pruner.masks.apply_(self.params)

    def before_step(self) -> None:
        mask_gradients(self.params, self.pruner.masks)

    def after_step(self) -> None: ...

    def end_step(self, update: Update | None, optimizer: Optimizer) -> None:
        if update is not None:
            if update.weights is not None:
                fill(self.params, update.weights)
            clear_moments(self.params, update, optimizer)
        self.pruner.masks.apply_(self.params)  # momentum and decay have moved what was removed

    def abandon_step(self) -> None: ...

    def before_evaluation(self) -> None: ...

    def after_evaluation(self) -> None: ...

    def state(self) -> Params:
        return {}

    def load(self, state: Params) -> None: ...
