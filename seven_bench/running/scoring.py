"""A run's method, made; and its scoring of a model at rest."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from seven_bench import ranks
from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params, Score
from seven_bench.pruning.calibration import passes, prune_before
from seven_bench.pruning.controls import Control
from seven_bench.pruning.prunable import stacked_names
from seven_bench.pruning.pruner import Method, Pruner, Update
from seven_bench.pruning.suppliers import tempered
from seven_bench.running.given_masks import masks_of
from seven_bench.running.job import Cost, Job
from seven_bench.running.scope import pattern_of
from seven_bench.settings.building import build, build_score
from seven_bench.settings.given_masks import given_masks
from seven_bench.settings.model import Pruner as Pruning
from seven_bench.settings.model import Settings
from seven_bench.settings.validity import scoring_steps
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.finetune import optimizer_steps

SCORING_SEED = 7_919  # added to the run's seed: scoring draws from a generator of its own


def make_method(settings: Settings) -> Method:
    """The run's score and what is composed around it."""
    assert settings.pattern and settings.distribution
    pruner, composed = settings.pruner, (settings.pattern, settings.distribution)
    return method_of(pruner, build_score(pruner), settings.sparsity, *composed)


def method_of(
    pruner: Pruning, score: Score, sparsity: float, pattern: str, distribution: str
) -> Method:
    """A score and what the settings of a method compose around it, `composition` settled."""
    assert pruner.schedule is not None
    return Method(
        name=pruner.name,
        score=score,
        schedule=build(pruner.schedule),
        sparsity=sparsity,
        distribution=distribution,
        pattern=pattern,
        rescore=pruner.rescore,
        observe_at=pruner.observe_at,
        cut=pruner.cut,
        masking=pruner.masking,
        begin=pruner.begin,
        takes_step=pruner.takes_step,
    )


def _method(job: Job) -> Method:
    return replace(make_method(job.settings), pattern=pattern_of(job.settings, job.module.model))


def pruner_during(job: Job) -> Pruner:
    """The method, laid over the steps of training.

    Raises: ConfigError when they are too few for its schedule.
    """
    method = _method(job)
    total, epoch = optimizer_steps(job.module.recipe, job.data.size("train"))
    try:
        plan = method.schedule.plan(total, epoch)
    except ValueError as error:
        raise ConfigError(f"pruner={method}: {error} (of training)") from error
    return Pruner(
        method, plan, job.params, scoring_generator(job.settings.seed), on_update=same_update
    )


def score_and_prune(job: Job, masks: MaskSet | None = None) -> tuple[MaskSet, Cost]:
    """Scores the model as it is and removes weights, beyond those that `masks` have removed."""
    began = time.perf_counter()
    settings, module, params = job.settings, job.module, job.params
    device = job.context.device.here()
    module.model.to(device)
    method, examples = _method(job), Calibration(job)
    stacked = stacked_names(module.model, params)
    control = Control(settings.control.name, _scoring_seed(settings), stacked)
    method = replace(method, score=control.score(method.score))
    given = _given(job)
    pruner = Pruner(
        method,
        method.schedule.plan(examples.steps, examples.steps),
        params,
        scoring_generator(settings.seed),
        masks.to(device) if masks is not None else None,
        same_update,
    )

    state, start = random_state(), control.start(params)
    masks = prune_before(
        pruner,
        module.model,
        params,
        examples.loss,
        control.batches(examples.batches()),
        examples.mean,
        module.examples,
        given,
    )
    if given and masks.hash() != given.hash():
        raise ConfigError(f"pruner.masks: pattern={settings.pattern} makes other masks of them")
    masks = control.masks(masks, params, start, method.pattern)
    control.weights(params, partial(_redraw, job))
    masks.apply_(params)
    bill = examples.bill(method.score.needs)
    restore_random_state(state)
    return masks, Cost(bill, time.perf_counter() - began)


def _given(job: Job) -> MaskSet:
    """The masks that the method is given, where the weights are; none of one that finds its own."""
    given = given_masks(job.settings.pruner)
    if given is None:
        return MaskSet()
    return masks_of(job.settings, given, job.params).to(job.context.device.here())


def alter_weights(job: Job) -> None:
    """Changes weights as the run's control says: those that a last round is rewound to."""
    state = random_state()
    control = Control(job.settings.control.name, _scoring_seed(job.settings))
    control.weights(job.params, partial(_redraw, job))
    restore_random_state(state)


def _redraw(job: Job) -> None:
    job.module.model.load_state_dict(build(job.settings.model.build).state_dict())


class Calibration:
    """The training examples that a score is shown; none where it looks at the weights alone."""

    def __init__(self, job: Job) -> None:
        self.job, self.chosen = job, job.settings.pruner.calibration
        self.steps = scoring_steps(job.settings.pruner)
        self.device = job.context.device.here()
        self.weight = 1.0  # of this process's share of a batch
        if self.chosen is not None:
            self.weight = job.data.calibration_weight(self.chosen.batch_size)

    def batches(self, number: int | None = None) -> Iterable[Any]:
        """So many batches on the device (default: all there are); None for each where none is."""
        if self.chosen is None:
            return repeat(None, number or self.steps)
        seed, size = calibration_seed(self.job.settings) + SCORING_SEED, self.chosen.batch_size
        batches = self.job.data.calibration_batches(number or self.steps, size, seed)
        move = self.job.module.transfer_batch_to_device
        return (move(batch, self.device, 0) for batch in batches)

    def loss(self, batch: Any) -> Tensor:
        """The mean loss of a batch, at the temperature that the settings say."""
        temperature = (self.chosen.temperature if self.chosen is not None else None) or 1.0
        loss = self.job.module.loss
        return loss(batch) if temperature == 1 else tempered(loss, temperature)(batch)

    def mean(self, gathered: Params) -> Params:
        """The mean over the processes that share a batch of what each has gathered."""
        if self.weight != 1:
            gathered = {name: tensor * self.weight for name, tensor in gathered.items()}
        return ranks.mean_(gathered)

    def bill(self, needs: frozenset[str]) -> float:
        """Example equivalents of supplying `needs` for all examples."""
        if self.chosen is None:
            return 0.0
        (batch,) = self.batches(1)
        model, loss = self.job.module.model, self.job.module.loss
        return self.chosen.examples * passes(needs, model, self.job.params, loss, batch)


def calibration_seed(settings: Settings) -> int:
    """What decides which examples a score sees at rest."""
    own = settings.calibration.seed
    return settings.seed if own is None else own


def _scoring_seed(settings: Settings) -> int:
    return settings.seed + SCORING_SEED


def scoring_generator(seed: int) -> torch.Generator:
    """The same in every process of a run of that seed: random scores are the run's, not the
    process's.
    """
    return torch.Generator().manual_seed(seed + SCORING_SEED)


def same_update(update: Update) -> None:
    """Raises RuntimeError unless all processes of the run have made this update: its masks, and,
    where it moves weights, these.
    """
    if ranks.world() > 1:
        ranks.require_same("masks", update.masks.hash())
        if update.weights is not None:
            ranks.require_same("weights after an update", ranks.checksum(update.weights))
