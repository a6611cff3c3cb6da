"""A method of the config at work: before training, during it, or on what a round below has left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from seven_bench import ranks
from seven_bench.data.task_data import TaskData
from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params, reachable_count
from seven_bench.pruning.calibration import passes, prune_before
from seven_bench.pruning.controls import altered, corrupted, exchanged
from seven_bench.pruning.prunable import stacked_names
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.pruning.schedules import steps_of
from seven_bench.pruning.suppliers import tempered
from seven_bench.running.rounds import Below, KeepStep, rewinds_to_step
from seven_bench.settings.building import build
from seven_bench.settings.checks import calibration_batches
from seven_bench.settings.identity import Config
from seven_bench.store.files import REWIND
from seven_bench.training.checkpoint import Checkpoint, readable
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.finetune import optimizer_steps
from seven_bench.training.fit import Machine, Trained, fit
from seven_bench.training.module import TaskModule
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.start import prepare
from seven_bench.training.zero_shot import ZeroShot

SCORING_SEED = 7_919  # added to the run's seed: scoring draws from a generator of its own


@dataclass(frozen=True)
class Cost:
    """What scoring took: example equivalents and seconds."""

    examples: float = 0
    seconds: float = 0.0


def train_pruned(
    config: Config,
    module: TaskModule,
    params: Params,
    data: TaskData,
    machine: Machine,
    loggers: list[Any],
    dense_record: dict[str, Any] | None = None,
    below: Below | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Trained, Cost]:
    """Prunes and trains as the config's method says.

    Args:
        config: checked.
        module: its model holds the start's weights.
        params: the model's prunable weights.
        dense_record: the dense run's, where one was needed; it teaches where that is asked for.
        below: the round that this one builds on.
        checkpoint: where an interrupted run goes on.

    Raises: ConfigError on a schedule that cannot finish. ValueError when training diverges, or a
        method did not do what it was asked.
    """
    pruner = config["pruner"]
    masks, cost, pruning = MaskSet.ones(params), Cost(), None
    if pruner["timing"] != "none":
        try:
            reachable_count(masks, config["sparsity"], pruner["pattern"])
        except ValueError as error:
            raise ConfigError(f"pattern={pruner['pattern']}: {error}") from error
    saved = readable(checkpoint.path) if checkpoint is not None else None
    earlier = saved["seven_bench"] if saved is not None else {}
    zero_shot = ZeroShot(config, module, data, machine, earlier.get("zero_shot"))
    if pruner["timing"] == "during":
        pruning = pruning_during(config, module, params, data)
    elif saved is not None:  # scored in an earlier life of this run
        cost = Cost(**earlier["scoring"])
    elif pruner["timing"] == "before":
        masks, cost = score_and_prune(config, module, params, data, machine)
        zero_shot.measure("pruned")
    elif below is not None:
        masks, cost = prune_below(config, module, params, data, machine, below)
    if checkpoint is not None:
        checkpoint.scoring, checkpoint.zero_shot = asdict(cost), zero_shot.found
    prepare(module, config, masks, params if pruning else {}, dense_record)
    callback = PruningCallback(params, masks, pruning)
    metric, more = config["task"]["metric"], [*keep_step(config, module, data, checkpoint)]
    trained = fit(module, data, callback, machine, metric, loggers, checkpoint, more)
    module.remove_adapters()
    return replace(trained, zero_shot=zero_shot.found), cost


def keep_step(
    config: Config, module: TaskModule, data: TaskData, checkpoint: Checkpoint | None
) -> Iterator[KeepStep]:
    """In the bottom round, where later ones are rewound to a step: what keeps that step.

    Raises: ConfigError when training has no such step.
    """
    if config["sparsity"] > 0 or not rewinds_to_step(config) or checkpoint is None:
        return
    time = config["pruner"]["rounds"]["rewind"]
    total, epoch = optimizer_steps(module.recipe, data.size("train"))
    if not 1 <= (step := steps_of(time, total, epoch)) <= total:
        raise ConfigError(f"pruner.rounds.rewind={time} is step {step}, but there are {total}")
    yield KeepStep(checkpoint.path.with_name(REWIND), step)


def prune_below(
    config: Config,
    module: TaskModule,
    params: Params,
    data: TaskData,
    machine: Machine,
    below: Below,
) -> tuple[MaskSet, Cost]:
    """Prunes the trained weights of the round below, then rewinds the model's weights."""
    rewound = below.rewound or _copy(module.model.state_dict())
    module.model.load_state_dict(below.state)
    masks, cost = score_and_prune(config, module, params, data, machine, below.masks)
    if config["pruner"]["rounds"]["rewind"] is not None:
        module.model.load_state_dict(rewound)
        masks.apply_({name: p.data for name, p in params.items()})
    return masks, cost


def score_and_prune(
    config: Config,
    module: TaskModule,
    params: Params,
    data: TaskData,
    machine: Machine,
    masks: MaskSet | None = None,
) -> tuple[MaskSet, Cost]:
    """Scores the model as it is and removes weights, beyond those that `masks` have removed."""
    began = time.perf_counter()
    device = machine.device()
    module.model.to(device)
    if masks is not None:
        masks = MaskSet({name: mask.to(device) for name, mask in masks.items()})
    method, control = make_method(config), config["control"]["name"]
    stacked = stacked_names(module.model, params)
    method = replace(method, score=altered(method.score, control, stacked))
    count, seed = calibration_batches(config), config["seed"] + SCORING_SEED
    plan = method.schedule.plan(count, count)
    pruner = Pruner(method, plan, params, scoring_generator(config), masks, same_masks)
    calibration = config["pruner"]["calibration"]

    def batches_of(number: int) -> Iterator[Any]:
        size = calibration["batch_size"]
        found = data.calibration_batches(number, size, seed)
        return (module.transfer_batch_to_device(b, device, 0) for b in found)

    weight, temperature = 1.0, 1.0
    if calibration is not None:
        weight = data.calibration_weight(calibration["batch_size"])
        temperature = calibration.get("temperature") or 1.0

    def over_processes(gathered: Params) -> Params:
        shares = {n: t * weight for n, t in gathered.items()} if weight != 1 else gathered
        return ranks.mean_(shares)

    loss = module.loss if temperature == 1 else tempered(module.loss, temperature)
    batches = batches_of(count) if calibration is not None else iter(repeat(None, count))
    if control == "corrupt_labels":
        batches = corrupted(batches, seed)
    dense = {name: p.detach().clone() for name, p in params.items()} if control != "none" else {}
    state = random_state()
    found = prune_before(
        pruner, module.model, params, loss, batches, over_processes, module.examples
    )
    if control != "none":
        found = exchanged(found, control, dense, method.pattern, seed, stacked)
        if control == "reinit":
            torch.manual_seed(seed)
            module.model.load_state_dict(build(config["model"]["build"]).state_dict())
        else:
            for name, parameter in params.items():
                parameter.data.copy_(dense[name])
        found.apply_(params)
    examples = 0.0
    if calibration is not None:
        one = next(batches_of(1))
        each = passes(method.score.needs, module.model, params, module.loss, one)
        examples = calibration["examples"] * each
    restore_random_state(state)
    return found, Cost(examples, time.perf_counter() - began)


def pruning_during(config: Config, module: TaskModule, params: Params, data: TaskData) -> Pruner:
    """The method, laid over the steps of training."""
    method = make_method(config)
    total, epoch = optimizer_steps(module.recipe, data.size("train"))
    try:
        plan = method.schedule.plan(total, epoch)
    except ValueError as error:
        raise ConfigError(f"pruner={config['pruner']['name']}: {error} (of training)") from error
    return Pruner(method, plan, params, scoring_generator(config), on_update=same_masks)


def make_method(config: Config) -> Method:
    """The score of the config and what is composed around it."""
    pruner = config["pruner"]
    return Method(
        name=pruner["name"],
        score=build(pruner["score"]),
        schedule=build(pruner["schedule"]),
        sparsity=config["sparsity"],
        distribution=pruner["distribution"],
        pattern=pruner["pattern"],
        rescore=pruner["rescore"],
        observe_at=pruner["observe_at"],
        cut=pruner["cut"],
        masking=pruner["masking"],
    )


def scoring_generator(config: Config) -> torch.Generator:
    """The same in every process of a run: random scores are the run's, not the process's."""
    return torch.Generator().manual_seed(config["seed"] + SCORING_SEED)


def same_masks(masks: MaskSet) -> None:
    """Raises RuntimeError unless all processes of the run hold these masks."""
    if ranks.world() > 1:
        ranks.require_same("masks", masks.hash())


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
