"""Pruning before training: a score watches calibration batches, and the weights never move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seven_bench.pruning.masks import MaskSet
from seven_bench.pruning.process import Pruning
from seven_bench.pruning.prunable import Params


@contextmanager
def scoring(model: nn.Module, params: Params) -> Iterator[None]:
    """Evaluation mode (dropout off) with gradients for `params` alone; restores both afterwards."""
    training = {module: module.training for module in model.modules()}
    wanted = {id(parameter) for parameter in params.values()}
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for parameter in required:
        parameter.requires_grad_(id(parameter) in wanted)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter, mode in required.items():
            parameter.requires_grad_(mode)


def gradients(loss: Tensor, params: Params) -> Params:
    """The gradient of a scalar loss, per parameter.

    Raises: ValueError when it is not finite or a parameter takes no part in the loss.
    """
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss on a calibration batch is {float(loss)}")
    found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    grads = {}
    for name, gradient in zip(params, found, strict=True):
        if gradient is None:
            raise ValueError(f"{name} takes no part in the loss: it cannot be scored")
        grads[name] = gradient
    return grads


def prune_before(
    pruning: Pruning,
    model: nn.Module,
    params: Params,
    loss: Callable[[Any], Tensor],
    batches: Iterable[Any],
    reduce: Callable[[Params], Params] = lambda gathered: gathered,
) -> MaskSet:
    """Scores on `batches`, one step each, and tightens the masks as the plan says.

    Args:
        pruning: made for these parameters, with a plan over the number of batches.
        model: the plain model; its removed weights are zero when this returns, nothing else moved.
        params: its prunable weights.
        loss: the mean loss of a batch under `model`.
        batches: as many as the plan has steps.
        reduce: takes the mean of a batch's gradients over the processes that share the batch.

    Returns: the masks, of exactly the count asked for.

    Raises: ValueError on a loss that is not finite or when the plan was not finished.
    """
    gradient_free = pruning.method.score.needs <= {"weights"}
    with scoring(model, params):
        for batch in batches:
            if not gradient_free and pruning.plan.observes(pruning.step + 1):
                pruning.observe(params, reduce(gradients(loss(batch), params)))
            if pruning.advance(params):
                pruning.masks.apply_(params)
    pruning.check_finished()
    return pruning.masks
