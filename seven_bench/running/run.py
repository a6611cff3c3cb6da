"""One run, from its settings to its record."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import move_data_to_device
from torch import nn

from seven_bench import ranks
from seven_bench.data.making import make_data
from seven_bench.data.task_data import TaskData
from seven_bench.measure.efficiency import efficiency
from seven_bench.measure.size import sizes, small_sizes
from seven_bench.pruning import MaskSet
from seven_bench.running.given_masks import check_given
from seven_bench.running.job import Below, Cost, Job
from seven_bench.running.processes import share_out
from seven_bench.running.prune_and_train import train_pruned
from seven_bench.running.rounds import (
    bottom,
    level_below,
    load_below,
    rewind_time,
)
from seven_bench.running.scope import prunable
from seven_bench.running.scoring import calibration_seed
from seven_bench.settings.building import build, build_score
from seven_bench.settings.given_masks import bill, tell_source
from seven_bench.settings.identity import (
    Identity,
    dense_start,
    identify,
    method_part,
    needs_dense,
    recipe_part,
    threads,
    title_of,
)
from seven_bench.settings.model import Settings
from seven_bench.settings.packages import all_versions
from seven_bench.settings.validity import takes_masks
from seven_bench.store.files import CHECKPOINT, MASKS, MODEL, PREDICTIONS, RECORD
from seven_bench.store.integrity import fingerprints
from seven_bench.store.masks import write_masks
from seven_bench.store.predictions import write_predictions
from seven_bench.store.record import read_record, write_record
from seven_bench.store.run_folder import RunFolder
from seven_bench.store.schema import SCHEMA_VERSION
from seven_bench.store.tensors import write_tensors
from seven_bench.training.answers import Answers
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import (
    environment,
    peak_memory_bytes,
    reset_process,
    uncompiled,
)
from seven_bench.training.finetune import recipe_of
from seven_bench.training.fit import Trained, evaluate
from seven_bench.training.loggers import loggers, not_the_trial, summarize_in_wandb
from seven_bench.training.module import TaskModule
from seven_bench.training.small import choose_small, prunable_of, tell_small, whole_model
from seven_bench.training.start import start_name, starting_model

log = logging.getLogger(__name__)
Record = dict[str, Any]


def run(settings: Settings, wait: bool = False, weights: bool = False) -> Record:
    """Does a run, or returns the record of the finished one. A damaged one is said and done again.

    Args:
        settings: resolved and checked (`seven_bench.settings.checks.checked`).
        wait: wait when another process works on this run, instead of raising.
        weights: they will be read: look at all of them before the run counts as finished.

    Raises:
        ConfigError: a setting that cannot work. BusyError: another process works on this run.
    """
    identity = identify(settings)
    folder = RunFolder(identity.folder(settings.output_root))
    if (finished := folder.record(weights)) is not None:
        return finished
    if settings.pruner.score is not None:
        build_score(settings.pruner)  # what is wrong with it is said before a start is trained
    if settings.pruner.small is not None:
        choose_small(settings)  # and so is a small model that there cannot be
    check_given(settings)  # and so are masks that are not this model's
    _device(settings)  # one that is not there is said before the runs that this one needs
    needed = _needed(settings)
    with folder.claim(wait):
        if (finished := folder.record(weights)) is not None:  # done by another process meanwhile
            return finished
        if (damage := folder.damage(weights)) is not None:
            log.warning("%s: %s: this run is done again", folder.path, damage)
        (folder.path / RECORD).unlink(missing_ok=True)
        folder.write_config(settings.plain())
        if settings.trainer.devices > 1:
            share_out(folder.path, settings.trainer.devices)
            record = read_record(folder.path / RECORD)
        else:
            record = work(settings, identity, folder.path, needed)
        (folder.path / CHECKPOINT).unlink(missing_ok=True)
        return record


@dataclass(frozen=True)
class Needed:
    """The records of the runs that this one begins from: its dense start, the round below."""

    start: Record | None
    below: Record | None


def _needed(settings: Settings) -> Needed:
    """Does those runs, unless they are done; waits for whoever works on them."""
    below = level_below(settings)
    with not_the_trial():
        return Needed(
            run(dense_start(settings), wait=True, weights=True) if needs_dense(settings) else None,
            run(below, wait=True, weights=True) if below is not None else None,
        )


def work(
    settings: Settings, identity: Identity, folder: Path, needed: Needed | None = None
) -> Record:
    """The work of a run that its process has claimed: of all of it, or, where several processes
    share a run, of this one's part (process 0 writes the files).
    """
    needed = needed or _needed(settings)
    with loggers(settings, identity.run_id, folder) as sinks, uncompiled(settings.debug):
        try:
            return _work(settings, identity, folder, needed, sinks)
        except SystemExit as error:  # with code 0 it would pass for success
            raise RuntimeError(f"something in this run called exit({error.code!r})") from error


def _work(
    settings: Settings, identity: Identity, folder: Path, needed: Needed, sinks: list[Any]
) -> Record:
    began = time.perf_counter()
    checkpoint = Checkpoint(folder / CHECKPOINT, settings.trainer.checkpoint_every)
    context = _context(settings, sinks, checkpoint)
    device = context.device
    reset_process(settings.seed, threads(settings), device.deterministic)
    recipe = recipe_of(settings)
    data = make_data(settings, recipe.batch_size)
    data.setup()
    model = starting_model(settings, needed.start)
    if identify(settings) != identity:  # by what was read, which may be replaced meanwhile
        raise RuntimeError("data, weights or tokenizer were changed while this run began")
    module: TaskModule = build(settings.task.module, model=model, recipe=recipe)
    params = prunable(settings, model)

    below = _below(settings)
    job = Job(settings, module, params, data, context, needed.start, below)
    trained, scoring = train_pruned(job)
    masks = trained.best_masks if settings.select == "best" else trained.last_masks
    for layer in masks.empty_layers():
        log.warning("nothing is left of %s", layer)

    evaluation_began = time.perf_counter()
    answers = Answers()  # of the epoch that is chosen
    same = trained.best_epoch == trained.last_epoch
    takes_last = same or settings.select == "last"
    last = evaluate(module, data, device, trained.last, answers if takes_last else None)
    best = last
    if not same:
        best = evaluate(module, data, device, trained.best, None if takes_last else answers)
    validation = _validation(module, data, device, trained)
    chosen = trained.best if settings.select == "best" else trained.last
    model.load_state_dict(chosen)
    evaluation = time.perf_counter() - evaluation_began

    record = _record(settings, identity, model, masks)
    record["metric"], record["metrics"] = _metrics(settings, data, trained, best, last)
    record["metrics"].update(trained.zero_shot)
    record["validation"] = validation
    record["cost"] = _cost(settings, scoring, trained, evaluation, began, needed)
    record["environment"] = environment(
        threads(settings), device.deterministic, all_versions(settings)
    )
    record["environment"]["optimizer"] = trained.optimizer
    if ranks.rank() == 0:
        write_masks(masks, folder / MASKS)
        _save_model(model, folder / MODEL)
        _save_answers(answers, data, record, folder / PREDICTIONS)
        one = move_data_to_device(data.example_batch(1), next(model.parameters()).device)
        record["efficiency"] = efficiency(model, module.logits, one, masks, folder / MODEL)
        record["integrity"] = {"files": fingerprints(folder)}
        record = write_record(folder / RECORD, record)
        summarize_in_wandb(record)
    return record


def _device(settings: Settings) -> Device:
    trainer = settings.trainer
    return Device(trainer.accelerator, trainer.devices, trainer.deterministic)


def _context(settings: Settings, sinks: list[Any], checkpoint: Checkpoint) -> Context:
    metric = settings.task.metric
    return Context(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        device=_device(settings),
        loggers=sinks,
        checkpoint=checkpoint,
        progress=settings.progress,
        title=title_of(settings),
        every=settings.logger.every,
    )


def _below(settings: Settings) -> Below | None:
    """The round below, from its folder."""
    below = level_below(settings)
    if below is None:
        return None
    root = settings.output_root
    rewound = identify(bottom(settings)).folder(root) if rewind_time(settings) else None
    return load_below(identify(below).folder(root), rewound)


def _record(settings: Settings, identity: Identity, model: nn.Module, masks: MaskSet) -> Record:
    pruner = settings.pruner
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": identity.run_id,
        "cell_id": identity.cell_id,
        "task": settings.task.name,
        "model": settings.model.name,
        "start": start_name(settings),
        "pruner": pruner.name,
        "timing": pruner.timing,
        "distribution": settings.distribution or "none",
        "pattern": settings.pattern or "none",
        "control": settings.control.name,
        "finetune": settings.finetune.name,
        "seed": settings.seed,
        "seeds": _named_seeds(settings),
        **_sizes(settings, model, masks),
        "mask_hash": masks.hash(),
        "efficiency": {},
        "recipe": recipe_part(settings),
        "method": method_part(settings),
        **({"masks": source} if (source := tell_source(settings)) is not None else {}),
        **({"debug": True} if settings.debug else {}),
        **({"labels": list(settings.task.labels)} if settings.task.labels else {}),
    }


def _named_seeds(settings: Settings) -> Record:
    """The seeds beside `seed`; there is none of calibration where no score is shown examples. What
    masks that are given were drawn by is the seed of the run that found them.
    """
    shown = settings.pruner.calibration is not None
    source = tell_source(settings) or {}
    return {
        "calibration": calibration_seed(settings) if shown else source.get("seed"),
        "split": settings.data.split_seed,
    }


def _sizes(settings: Settings, model: nn.Module, masks: MaskSet) -> Record:
    """Sizes by the masks; those of a small model by what it stands for, and what was chosen."""
    if settings.pruner.small is None:
        return sizes(model, masks, settings.sparsity)
    whole, params = whole_model(settings), prunable_of(settings, model)
    found = small_sizes(model, whole, params, settings.sparsity, prunable_of(settings, whole))
    return {**found, "small": tell_small(settings)}


def _metrics(
    settings: Settings,
    data: TaskData,
    trained: Trained,
    best: dict[str, float],
    last: dict[str, float],
) -> tuple[dict[str, Any], dict[str, Any]]:
    metric, chosen = settings.task.metric, best if settings.select == "best" else last
    metrics: dict[str, Any] = dict(chosen)
    metrics.update({f"{name}_best": value for name, value in best.items()})
    metrics.update({f"{name}_last": value for name, value in last.items()})
    metrics["best_epoch"], metrics["last_epoch"] = trained.best_epoch, trained.last_epoch
    metrics["majority"] = data.majority(metric.name)
    metrics["test_examples"] = data.scored_examples()
    if data.folds > 1:
        metrics["folds"] = data.folds
    metrics["train_examples"] = data.size("train")  # a subset is never held against a whole
    main = {
        "name": metric.name,
        "value": chosen[metric.name],
        "higher_is_better": metric.higher_is_better,
        "split": metric.split,
        "epoch": settings.select,
    }
    return main, metrics


def _validation(
    module: TaskModule, data: TaskData, device: Device, trained: Trained
) -> dict[str, dict[str, float]]:
    """What is held out, measured at the last epoch, and at the best."""
    last = trained.last_validation
    if not last:  # no epoch ended there
        last = evaluate(module, data, device, trained.last, stage="validation")
    return {"last": last, "best": trained.best_validation or last}


def _cost(
    settings: Settings,
    scoring: Cost,
    trained: Trained,
    evaluation: float,
    began: float,
    needed: Needed,
) -> dict[str, Any]:
    """Example equivalents and seconds; the rounds below, the start, the trials by which settings
    were chosen, and the run that found masks which are given are counted once each. Where nobody
    knows what these have cost, there is no total.
    """
    start = needed.start["cost"]["example_equivalents"]["total"] if needed.start else 0
    rounds = 0
    if needed.below is not None:
        below = needed.below["cost"]["example_equivalents"]
        rounds = below["total"] - below["start"] - below.get("tuning", 0)
    examples: dict[str, float | None] = {
        "scoring": scoring.examples,
        "training": trained.passes * trained.examples,
        "rounds": rounds,
        "start": start,
        "tuning": settings.tuning.examples,
    }
    if takes_masks(settings.pruner):
        examples["masks"] = bill(settings, needed.start)
    known = [value for value in examples.values() if value is not None]
    total = sum(known) if len(known) == len(examples) else None
    return {
        "example_equivalents": {**examples, "total": total},
        "seconds": {
            "scoring": scoring.seconds,
            "training": trained.seconds,
            "validation": trained.validation_seconds,
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
    write_tensors(state, path)


def _save_answers(answers: Answers, data: TaskData, record: Record, path: Path) -> None:
    """What was answered to each scored example; nothing where it cannot be kept, which is said."""
    split, content = record["metric"]["split"], record["recipe"]["task.data_fingerprint"]
    items = f"{record['task']} {split} {content}"
    if data.folds > 1:  # each scores other examples
        items += f" fold {record['seeds']['split']} of {data.folds}"
    try:
        answered = answers.in_order(data.eval_batches("test"), items)
    except ValueError as error:
        path.unlink(missing_ok=True)  # of an earlier life of this run
        log.warning("predictions are not kept: %s", error)
    else:
        write_predictions(answered, path)
