"""Pruning a module before it is trained, in a program of one's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Score
from seven_bench.pruning.calibration import prune_before
from seven_bench.pruning.pruner import Pruner
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.pruning.suppliers import tempered
from seven_bench.pruning.units import Structure
from seven_bench.python.methods import Wanted, compose, prunable_of
from seven_bench.python.summary import Summary, summarize
from seven_bench.running.scoring import scoring_generator
from seven_bench.settings.validity import takes_masks
from seven_bench.training.environment import random_state, restore_random_state

Loss = Callable[[nn.Module, Any], Tensor]


def prune(
    model: nn.Module,
    batches: Iterable[Any] | None = None,
    loss: Loss | None = None,
    method: str | Score = "snip",
    sparsity: float = 0.9,
    *,
    prunable: str | Wanted | None = None,
    include: Collection[str] = (),
    pattern: str | None = None,
    distribution: str | None = None,
    schedule: Mapping[str, Any] | None = None,
    score: Mapping[str, Any] | None = None,
    temperature: float | None = None,
    examples: Callable[[Any], list[Any]] | None = None,
    seed: int = 0,
) -> tuple[MaskSet, Summary]:
    """Removes weights of a module, in place, by a method that prunes before training.

    The masks are those of a run with these weights, batches and seed: scoring sees the model in
    evaluation mode (dropout off), draws from a generator of its own, and leaves modes, gradients
    and the global generators as they were. While it is at work those are seeded, so that a loader
    that shuffles gives the same batches every time.

    Args:
        model: any module with linear layers, on any device; its removed weights are set to zero.
        batches: what is scored on, one step each, on the model's device; None for a method that
            looks at the weights alone.
        loss: the mean loss of a batch: a scalar of (model, batch).
        method: a choice of `pruner=` that prunes before training, or a score of one's own.
        sparsity: the fraction of the prunable weights to remove, in [0, 1).
        prunable: a regular expression found in the names of weights, or a function of (name,
            layer), that says what may be removed; None: the rule of the model's family.
        include: optional groups of a family: "pooler", "patch_embedding".
        pattern: as `pattern=`; None: the method's own.
        distribution: as `distribution=`; None: the method's own.
        schedule: arguments of the method's schedule, or another (with `_target_`).
        score: arguments of the method's score.
        temperature: divides the logits of every cross-entropy; None: the method's own, or 1.
        examples: a batch as batches of one, for scores that look at each example by itself; by
            default tensors in mappings, tuples and lists are cut along their first dimension.
        seed: of the score's randomness.

    Returns: the masks by parameter name (bool, True where a weight lives), of exactly the count
        asked for, and a summary that prints as a table.

    Raises: ConfigError when the arguments do not go together, ValueError on a loss that is not
        finite or a weight that takes no part in it.
    """
    options = {"score": score, "schedule": schedule}
    made = compose(
        model, method, "before", sparsity, options, pattern=pattern, distribution=distribution
    )
    if takes_masks(made.settings):
        raise ConfigError(
            f"method={made.method}: masks that are there already need no method: "
            "MaskSet(masks).apply_(weights by name)"
        )
    params = prunable_of(model, made, prunable, include)
    if not made.method.score.needs - {"weights"}:
        batches, loss = [None], _unasked
    elif batches is None or loss is None:
        needs = ", ".join(made.settings.needs)
        raise ConfigError(f"method={made.method}: its score needs {needs}: give batches and loss")
    own = made.settings.calibration.temperature if made.settings.calibration else None
    heat = temperature or own or 1.0
    with _own_randomness(seed), torch.enable_grad():
        shown = batches if isinstance(batches, Sized) else list(batches)
        count, mean_loss = len(shown), loss
        try:
            plan = made.method.schedule.plan(count, count)
        except ValueError as error:
            raise ConfigError(f"method={made.method}: {error} (of {count} batches)") from error

        def of_batch(batch: Any) -> Tensor:
            return mean_loss(model, batch)

        pruner = Pruner(made.method, plan, params, scoring_generator(seed))
        masks = prune_before(
            pruner, model, params, of_batch if heat == 1 else tempered(of_batch, heat), shown,
            examples=examples,
        )  # fmt: skip
    if isinstance(made.method.pattern, Structure):
        CoupledBiases(model, made.method.pattern).apply_(masks)
    return masks, summarize(model, masks, made.method)


def _unasked(*_: Any) -> Tensor:
    raise AssertionError("a score that looks at weights alone asks for no loss")


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Inside, the global generators are seeded; afterwards they are as they were."""
    state = random_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        yield
    finally:
        restore_random_state(state)
