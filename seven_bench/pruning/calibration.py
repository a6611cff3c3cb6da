"""Pruning before training: a score watches calibration batches, at weights that do not move (but
for what an update itself changes, see `Score.update_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seven_bench.pruning.masks import MaskSet
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.pruner import Pruner
from seven_bench.pruning.suppliers import (
    SUPPLIERS,
    ScoringContext,
    blocks,
    hessian_gradient,
    second_order,
)


@contextmanager
def scoring(model: nn.Module, params: Params) -> Iterator[None]:
    """Evaluation mode (dropout off) with gradients for `params` alone; restores both afterwards."""
    training = {module: module.training for module in model.modules()}
    scored = {id(parameter) for parameter in params.values()}
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for parameter in required:
        parameter.requires_grad_(id(parameter) in scored)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for parameter, mode in required.items():
            parameter.requires_grad_(mode)


def prune_before(
    pruner: Pruner,
    model: nn.Module,
    params: Params,
    loss: Callable[[Any], Tensor],
    batches: Iterable[Any],
    reduce: Callable[[Params], Params] = lambda gathered: gathered,
    examples: Callable[[Any], list[Any]] | None = None,
    given: Params | None = None,
) -> MaskSet:
    """Scores on `batches`, one step each, and tightens the masks as the plan says.

    Scores see the weights as they were at the start, gradients are those of the masked model. Under
    other masking than `hard` every weight competes at each update: regrowth inside the loop.

    Args:
        pruner: made for these parameters, with a plan over the number of batches.
        model: the plain model; when this returns its removed weights are zero, and nothing else has
            moved but what an update itself changes.
        params: its prunable weights.
        loss: the mean loss of a batch under `model`.
        batches: as many as the plan has steps.
        reduce: takes the mean of what a batch gives over the processes that share the batch.
        examples: a batch as batches of one, for scores that look at each example by itself;
            by default each tensor of a mapping, tuple or list is cut along its first dimension.
        given: the masks that a method takes from elsewhere, bool.

    Returns: the masks, of exactly the count asked for.

    Raises: ValueError on a loss that is not finite, a need that cannot be met, or when the plan was
        not finished. Whatever is raised, the weights are as they were.
    """
    needs = pruner.method.score.needs - {"weights"}
    if unknown := needs - SUPPLIERS.keys():
        raise ValueError(f"scoring before training supplies no {', '.join(sorted(unknown))}")
    one_shot = sorted(need for need in needs if NEEDS[need].one_shot)
    if one_shot and pruner.plan.count > 1:
        raise ValueError(f"{', '.join(one_shot)}: scored in one shot, not gradually")
    if one_shot:
        batches = list(batches)
    dense = {name: p.detach().clone() for name, p in params.items()}
    with whole(params, dense), scoring(model, params):
        parts = examples or _one_by_one
        context = ScoringContext(
            model, params, dense, loss, batches, pruner, reduce, parts, given or {}
        )
        supplies = [SUPPLIERS[need](context) for need in sorted(needs)]
        for batch in batches:
            if pruner.plan.observes(pruner.step + 1):
                seen = [supply(batch) for supply in supplies]
                if fields := {name: value for part in seen for name, value in part.items()}:
                    pruner.observe(dense, fields.pop("grads", None), fields)
            if (update := pruner.advance(dense)) is not None:
                dense = update.weights or dense
                _write(params, dense, pruner.masks)
        _write(params, dense, pruner.masks)
        pruner.check_finished()
    return pruner.masks


@contextmanager
def whole(params: Params, dense: Params) -> Iterator[None]:
    """Gives `params` the values of `dense` where what is inside fails: a caller may go on."""
    try:
        yield
    except BaseException:
        for name, parameter in params.items():
            parameter.data.copy_(dense[name])
        raise


def _one_by_one(batch: Any) -> list[Any]:
    """Raises ValueError where there is nothing to cut."""
    if isinstance(batch, Tensor):
        return list(torch.split(batch, 1))
    if isinstance(batch, Mapping) and batch:
        cut = [_one_by_one(value) for value in batch.values()]
        return [dict(zip(batch, parts, strict=True)) for parts in zip(*cut, strict=True)]
    if isinstance(batch, tuple | list) and batch:
        cut = [_one_by_one(value) for value in batch]
        return [tuple(parts) for parts in zip(*cut, strict=True)]
    kind = type(batch).__name__
    raise ValueError(f"a {kind} in a batch cannot be cut into examples: `examples` has to say how")


@torch.no_grad()
def _write(params: Params, dense: Params, masks: MaskSet) -> None:
    for name, parameter in params.items():
        torch.mul(dense[name], masks[name], out=parameter.data)


def passes(
    needs: frozenset[str],
    model: nn.Module,
    params: Params,
    loss: Callable[[Any], Tensor],
    batch: Any,
) -> float:
    """Example equivalents of scoring one example: a forward pass is 1, a gradient 3.

    A Hessian-gradient product counts the operations that it is measured to take on `batch`.
    """
    rows = [NEEDS[need] for need in needs]
    total = sum(need.passes + need.passes_per_block * len(blocks(params)) for need in rows)
    if any(need.measured for need in rows):
        with scoring(model, params), second_order():
            with FlopCounterMode(display=False) as forward:
                loss(batch)
            with FlopCounterMode(display=False) as product:
                hessian_gradient(loss(batch), params, params)
        total += product.get_total_flops() / forward.get_total_flops()
    return float(total)
