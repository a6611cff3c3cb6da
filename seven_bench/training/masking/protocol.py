"""What a way of masking is asked to do in a step of training, and the acts that the ways share."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.device import agreeing, on_gpu
from seven_bench.pruning.pruner import Pruner, Settled, Update
from seven_bench.pruning.threshold import differing


class Masking(Protocol):
    """A way that the masks of `pruner` act on the weights `params` of a model under training.

    A step calls `before_step`, then the optimizer, `after_step`, the pruner, `end_step`; or
    `abandon_step` where the optimizer was not called. Between steps the model holds what it
    computes with; evaluation and files see removed weights at zero.
    """

    def __init__(self, params: Params, pruner: Pruner | Settled) -> None: ...

    @property
    def weights(self) -> Params:
        """What the optimizer moves: scores are shown these, and an update may change them."""
        ...

    @property
    def growing(self) -> bool:
        """Whether the model computes with weights that its masks have removed, right now."""
        ...

    def start(self) -> None:
        """Training begins, or goes on after `load`; everything is on its device."""

    def before_step(self) -> None:
        """The gradients are complete, and the score has seen them; the optimizer comes next."""

    def after_step(self) -> None:
        """The optimizer has moved the model's weights."""

    def end_step(self, update: Update | None, optimizer: Optimizer) -> None:
        """The step is done, and `update` (if one was due) is what the pruner made of it."""

    def abandon_step(self) -> None:
        """A gradient scaler skipped the step, or training ended in the middle of it."""

    def before_evaluation(self) -> None:
        """The model is to be measured, with removed weights at zero."""

    def after_evaluation(self) -> None:
        """Training goes on where `before_evaluation` found it."""

    def state(self) -> Params:
        """Weights that the model's own state does not show, for a checkpoint."""
        ...

    def load(self, state: Params) -> None:
        """Takes what `state` gave; `start` follows."""


@torch.no_grad()
def copied(params: Params) -> Params:
    """Copies that nothing trains."""
    return {name: value.detach().clone() for name, value in params.items()}


@torch.no_grad()
def fill(target: Params, source: Params) -> None:
    """Writes values in place, wherever they come from."""
    torch._foreach_copy_(list(target.values()), [source[name] for name in target])


@torch.no_grad()
def mask_gradients(params: Params, masks: MaskSet) -> None:
    """Zeroes the gradients of removed weights: before clipping, so that they do not count in it."""
    grads = {name: p.grad for name, p in params.items() if p.grad is not None}
    if grads:
        masks.multiply_(grads)


@torch.no_grad()
def clear_moments(params: Params, update: Update, optimizer: Optimizer) -> None:
    """Zeroes what the optimizer remembers of weights that an update has removed (or brought back).

    Those are few, and the moments of what was removed earlier are zero already.
    """
    moments: dict[str, list[Tensor]] = {}
    for name, parameter in params.items():
        held = optimizer.state.get(parameter, {}).values()
        moments[name] = [v for v in held if torch.is_tensor(v) and v.shape == parameter.shape]
    if on_gpu(update.masks):  # no place is looked for: the host would wait
        stay = MaskSet(agreeing(update.masks, update.before))
        for i in range(max(map(len, moments.values()))):
            stay.multiply_({name: held[i] for name, held in moments.items() if len(held) > i})
        return
    for name, mask in update.masks.items():
        places = differing(mask, update.before[name])
        for moment in moments[name]:
            moment.view(-1).index_fill_(0, places, 0)
