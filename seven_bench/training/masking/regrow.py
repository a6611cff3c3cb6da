"""Removed weights are set to zero at an update and grow on from there until the next.

So PLATON has it (Zhang et al. 2022, arXiv 2206.12562). Once the masks are settled it is `hard`.
"""

from __future__ import annotations

from torch.optim import Optimizer

from seven_bench.pruning import Params
from seven_bench.pruning.pruner import Pruner, Settled, Update
from seven_bench.training.masking.protocol import copied, fill, mask_gradients


class Regrow:
    """While the model is evaluated, what has grown back waits in `_grown`."""

    def __init__(self, params: Params, pruner: Pruner | Settled) -> None:
        self.params, self.pruner = params, pruner
        self._grown: Params = {}

    @property
    def weights(self) -> Params:
        return self.params

    @property
    def growing(self) -> bool:
        return not self.pruner.settled

    def start(self) -> None:
        self.after_evaluation()  # a checkpoint's
        if not self.growing:
            self.pruner.masks.apply_(self.params)

    def before_step(self) -> None:
        if not self.growing:
            mask_gradients(self.params, self.pruner.masks)

    def after_step(self) -> None: ...

    def end_step(self, update: Update | None, optimizer: Optimizer) -> None:
        if update is not None and update.weights is not None:
            fill(self.params, update.weights)
        if update is not None or not self.growing:
            self.pruner.masks.apply_(self.params)

    def abandon_step(self) -> None: ...

    def before_evaluation(self) -> None:
        if self.growing:
            self._grown = copied(self.params)
            self.pruner.masks.apply_(self.params)

    def after_evaluation(self) -> None:
        if self._grown:
            fill(self.params, self._grown)
            self._grown = {}

    def state(self) -> Params:
        return copied(self.params) if self.growing else {}

    def load(self, state: Params) -> None:
        self._grown = copied(state)
