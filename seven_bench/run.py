"""One run, from its config to its record."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from seven_bench.build import build
from seven_bench.config import calibration_batches
from seven_bench.data.make import make_data
from seven_bench.data.task_data import TaskData
from seven_bench.errors import ConfigError
from seven_bench.identity import Config, Identity, dense_start, identify, needs_dense, threads
from seven_bench.measure.size import sizes
from seven_bench.pruning import MaskSet, Params, prunable_parameters
from seven_bench.pruning.calibration import prune_before
from seven_bench.pruning.process import Method, Pruning
from seven_bench.results.record import SCHEMA_VERSION, write_json
from seven_bench.results.run_folder import RunFolder
from seven_bench.training.environment import (
    environment,
    peak_memory_bytes,
    random_state,
    reset_process,
    restore_random_state,
)
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import Machine, Trained, evaluate, fit, optimizer_steps
from seven_bench.training.loggers import loggers, summarize_in_wandb
from seven_bench.training.module import TaskModule
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.start import prepare, start_name, starting_model
from seven_bench.training.zero_shot import ZeroShot

log = logging.getLogger(__name__)
Record = dict[str, Any]
SCORING_SEED = 7_919  # added to the run's seed: scoring draws from a generator of its own
PASSES = {"gradients": 3}  # example equivalents of one scored example; a forward pass is 1


@dataclass(frozen=True)
class Cost:
    """What scoring took: example equivalents and seconds."""

    examples: int = 0
    seconds: float = 0.0


def run(config: Config, wait: bool = False) -> Record:
    """Does a run, or returns the record of the finished one.

    Args:
        config: resolved and checked (`seven_bench.config.checked`).
        wait: wait when another process works on this run, instead of raising.

    Raises:
        ConfigError: a setting that cannot work. BusyError: another process works on this run.
    """
    identity = identify(config)
    folder = RunFolder(identity.folder(config["output_root"]))
    if (finished := folder.record()) is not None:
        return finished
    start_record = run(dense_start(config), wait=True) if needs_dense(config) else None
    with folder.claim(wait):
        if (finished := folder.record()) is not None:  # done by another process meanwhile
            return finished
        (folder.path / "result.json").unlink(missing_ok=True)
        with loggers(config, identity.run_id, folder.path) as sinks:
            return _work(config, identity, folder.path, start_record, sinks)


def _work(
    config: Config, identity: Identity, folder: Path, start_record: Record | None, sinks: list[Any]
) -> Record:
    began = time.perf_counter()
    machine = _machine(config)
    reset_process(config["seed"], threads(config), machine.deterministic)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    recipe = _recipe(config)
    data = make_data(config, recipe.batch_size)
    data.setup()
    model = starting_model(config, start_record)
    module: TaskModule = build(config["task"]["module"], model=model, recipe=recipe)
    zero_shot = ZeroShot(config, module, data, machine)
    params = _prunable(config, model)

    masks, pruning, scoring = MaskSet.ones(params), None, Cost()
    if config["pruner"]["timing"] == "before":
        masks, scoring = _prune_before(config, module, params, data)
        zero_shot.measure("pruned")
    elif config["pruner"]["timing"] == "during":
        pruning = _pruning_during(config, recipe, params, data)
    prepare(module, config, masks, params if pruning else {}, start_record)
    callback = PruningCallback(params, masks, pruning)
    trained = fit(module, data, callback, machine, config["task"]["metric"], sinks)
    module.remove_adapters()
    masks = callback.masks
    for layer in masks.empty_layers():
        log.warning("nothing is left of %s", layer)

    evaluation_began = time.perf_counter()
    last = evaluate(module, data, machine, trained.last)
    best = evaluate(module, data, machine, trained.best)  # leaves the best weights in the model
    chosen = trained.best if config["select"] == "best" else trained.last
    model.load_state_dict(chosen)
    evaluation = time.perf_counter() - evaluation_began
    if pruning is not None and config["pruner"]["timing"] == "during":
        scoring = Cost(0, callback.seconds)

    record = _record(config, identity, model, masks)
    record["metric"], record["metrics"] = _metrics(config, data, trained, best, last)
    record["metrics"].update(zero_shot.found)
    record["cost"] = _cost(config, scoring, trained, evaluation, began, start_record)
    record["environment"] = environment(threads(config), machine.deterministic)
    masks.save(folder / "masks.safetensors")
    _save_model(model, folder / "model.safetensors")
    write_json(folder / "result.json", record)
    summarize_in_wandb(record)
    return record


def _recipe(config: Config) -> Recipe:
    names = {field.name for field in fields(Recipe)}
    return Recipe(**{name: value for name, value in config["trainer"].items() if name in names})


def _machine(config: Config) -> Machine:
    trainer = config["trainer"]
    return Machine(
        trainer["accelerator"], trainer["devices"], trainer["deterministic"], config["progress"]
    )


def _prunable(config: Config, model: nn.Module) -> Params:
    """What the run may remove; a method's own additions count where the model has them."""
    params = prunable_parameters(model, config["prunable"])
    for option in config["pruner"].get("prunable", []):
        try:
            params = prunable_parameters(model, [*config["prunable"], option])
        except ValueError:
            log.info("%s has no %s to prune", config["model"]["name"], option)
    return params


def _method(config: Config) -> Method:
    pruner = config["pruner"]
    return Method(
        score=build(pruner["score"]),
        schedule=build(pruner["schedule"]),
        sparsity=config["sparsity"],
        distribution=pruner["distribution"],
        pattern=pruner["pattern"],
        rescore=pruner["rescore"],
        observe_at=pruner["observe_at"],
        cut=pruner["cut"],
    )


def _generator(config: Config) -> torch.Generator:
    return torch.Generator().manual_seed(config["seed"] + SCORING_SEED)


def _prune_before(
    config: Config, module: TaskModule, params: Params, data: TaskData
) -> tuple[MaskSet, Cost]:
    began = time.perf_counter()
    method = _method(config)
    count = calibration_batches(config)
    plan = method.schedule.plan(count, count)
    pruning = Pruning(method, plan, params, _generator(config))
    calibration = config["pruner"]["calibration"]
    batches: Iterator[Any] = iter(repeat(None, count))
    if calibration is not None:
        seed = config["seed"] + SCORING_SEED
        batches = data.calibration_batches(count, calibration["batch_size"], seed)
    state = random_state()
    masks = prune_before(pruning, module.model, params, module.loss, batches)
    restore_random_state(state)
    examples = calibration["examples"] if calibration is not None else 0
    passes = max((PASSES.get(need, 0) for need in method.score.needs), default=0)
    return masks, Cost(examples * passes, time.perf_counter() - began)


def _pruning_during(config: Config, recipe: Recipe, params: Params, data: TaskData) -> Pruning:
    method = _method(config)
    total, epoch = optimizer_steps(recipe, data.size("train"))
    try:
        plan = method.schedule.plan(total, epoch)
    except ValueError as error:
        raise ConfigError(f"pruner={config['pruner']['name']}: {error} (of training)") from error
    return Pruning(method, plan, params, _generator(config))


def _record(config: Config, identity: Identity, model: nn.Module, masks: MaskSet) -> Record:
    pruner, unpruned = config["pruner"], config["pruner"]["timing"] == "none"
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": identity.run_id,
        "cell_id": identity.cell_id,
        "task": config["task"]["name"],
        "model": config["model"]["name"],
        "start": start_name(config),
        "pruner": pruner["name"],
        "timing": pruner["timing"],
        "distribution": pruner.get("distribution", "none"),
        "pattern": pruner.get("pattern", "none"),
        "control": "none",
        "finetune": config["finetune"]["name"],
        "seed": config["seed"],
        **sizes(model, masks, 0.0 if unpruned else config["sparsity"]),
        "mask_hash": masks.hash(),
        "efficiency": {},
    }


def _metrics(
    config: Config,
    data: TaskData,
    trained: Trained,
    best: dict[str, float],
    last: dict[str, float],
) -> tuple[dict[str, Any], dict[str, Any]]:
    metric, chosen = config["task"]["metric"], best if config["select"] == "best" else last
    metrics: dict[str, Any] = dict(chosen)
    metrics.update({f"{name}_best": value for name, value in best.items()})
    metrics.update({f"{name}_last": value for name, value in last.items()})
    metrics["best_epoch"], metrics["last_epoch"] = trained.best_epoch, trained.last_epoch
    metrics["majority"] = data.majority(metric["name"])
    metrics["test_examples"] = data.scored_examples()
    main = {
        "name": metric["name"],
        "value": chosen[metric["name"]],
        "higher_is_better": metric["higher_is_better"],
        "split": metric.get("split", "test"),
        "epoch": config["select"],
    }
    return main, metrics


def _cost(
    config: Config,
    scoring: Cost,
    trained: Trained,
    evaluation: float,
    began: float,
    start_record: Record | None,
) -> dict[str, Any]:
    examples = {
        "scoring": scoring.examples,
        # a teacher looks at every example too
        "training": (4 if config["finetune"].get("distill") else 3) * trained.examples,
        "rounds": 0,
        "start": start_record["cost"]["example_equivalents"]["total"] if start_record else 0,
    }
    return {
        "example_equivalents": {**examples, "total": sum(examples.values())},
        "seconds": {
            "scoring": scoring.seconds,
            "training": trained.seconds,
            "evaluation": evaluation,
            "total": time.perf_counter() - began,
        },
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _save_model(model: nn.Module, path: Path) -> None:
    """The effective weights under the plain model's names, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    taken: set[int] = set()
    for name, value in state.items():  # safetensors writes no two names of one tensor
        if value.data_ptr() in taken:
            state[name] = value.clone()
        taken.add(value.data_ptr())
    partial = path.with_name(path.name + ".partial")
    save_file(state, partial)
    os.replace(partial, path)
