"""What finished runs keep of steady and noisy weights, measured at the weights they began from.

Runs of one task, model, start and seed are analysed together, in one pass over the data. Each run's
folder gets a `sentinels.json`; `seven_bench.results.sentinel_rows` has its schema.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device

from seven_bench.data.making import make_data
from seven_bench.errors import ConfigError
from seven_bench.measure.gradient_noise import (
    Ranked,
    measure_moments,
    measure_weights,
    noise_floor,
    summarise_mask,
)
from seven_bench.results.collect import find_finished
from seven_bench.results.groups import DENSE
from seven_bench.results.sentinel_rows import SENTINELS_FORMAT, read_sentinels
from seven_bench.running.scope import prunable
from seven_bench.settings.building import build
from seven_bench.settings.checks import stored
from seven_bench.settings.identity import dense_start, identify, threads
from seven_bench.settings.model import Settings
from seven_bench.store.files import SENTINELS
from seven_bench.store.finished import FinishedRun
from seven_bench.store.record import write_json
from seven_bench.store.run_folder import RunFolder
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of
from seven_bench.training.start import starting_model

ORDER_SEED = 104_729  # added to the run's seed: the order of examples is that of nothing else


@dataclass(frozen=True)
class Options:
    """How gradients are taken. `batch_size` None: that of the run's own training."""

    batches: int = 64
    batch_size: int | None = None
    split: str = "validation"
    dropout: bool = False
    device: str | None = None


@dataclass(frozen=True)
class Analysed(FinishedRun):
    """A finished run and the settings that it was made with, its root where it lies now."""

    settings: Settings


def find_runs(roots: Sequence[Path], unsealed: bool = False) -> tuple[list[Analysed], list[str]]:
    """The pruned runs at or below `roots`, but for those of `debug=true`, whose figures mean
    nothing; and what could not be used.

    Raises FileNotFoundError for a root that does not exist.
    """
    finished, problems = find_finished(roots, unsealed)
    runs = []
    for run in finished:
        aside = run.record.get("small") is not None or run.record.get("debug")
        if run.record["pruner"] != DENSE and not aside:
            # Runs may have moved since: their root is where they lie now.
            folder, parts = run.folder.resolve(), Path(run.record["run_id"]).parts
            there = folder.parts[-len(parts) :] == parts
            root = folder.parents[len(parts)] if there else folder.parent
            try:
                settings = stored(run.folder).changed(output_root=str(root))
            except ConfigError as error:
                problems.append(str(error))
            else:
                runs.append(Analysed(run.folder, run.record, run.config, settings))
    return runs, problems


def group_runs(runs: Sequence[Analysed]) -> list[list[Analysed]]:
    """Runs that begin from the same weights of the same task, model, seed and split."""
    groups: dict[tuple[str, ...], list[Analysed]] = {}
    for run in runs:
        settings = run.settings
        dense = settings.start.kind == "dense"
        start = identify(dense_start(settings)).run_id if dense else run.record["start"]
        names = (settings.output_root, run.record["task"], run.record["model"], start)
        seeds = (settings.seed, settings.data.split_seed)
        groups.setdefault((*names, *map(str, seeds)), []).append(run)
    return list(groups.values())


def analyse(runs: Sequence[Analysed], options: Options) -> list[tuple[Analysed, dict[str, Any]]]:
    """Analyse runs of one start, write a file into each folder, and return what they hold.

    Raises ValueError or OSError when the start, the data or a mask cannot be used.
    """
    first = runs[0].settings
    recipe = recipe_of(first)
    batch_size = options.batch_size or recipe.batch_size
    asked = {
        "split": options.split,
        "batches": options.batches,
        "batch_size": batch_size,
        "dropout": options.dropout,
    }
    done = [(run, _read_current(run, asked)) for run in runs]
    todo = [run for run, analysis in done if analysis is None]
    finished = [(run, analysis) for run, analysis in done if analysis is not None]
    if not todo:
        return finished
    reset_process(first.seed, min(threads(first), os.cpu_count() or 1), first.trainer.deterministic)
    data = make_data(first, recipe.batch_size)
    data.setup()
    start, start_record = _find_start(first)
    model = starting_model(first, start_record)
    module = build(first.task.module, model=model, recipe=recipe)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    module.to(device)
    params = {name: p for run in todo for name, p in prunable(run.settings, model).items()}
    size = data.size(options.split)
    batches = held_out_batches(size, options.batches, batch_size, first.seed + ORDER_SEED)
    examples, floor = min(size, options.batches * batch_size), noise_floor(batches)
    split = data.splits[options.split]
    moved = (move_data_to_device(split[batch], device) for batch in batches)
    moments = measure_moments(model, params, module.loss, moved, dropout=options.dropout)
    ranked: dict[tuple[str, ...], Ranked] = {}  # methods may differ in what they may prune
    for run in todo:
        masks = run.masks()
        names = tuple(masks)
        if odd := [name for name in names if name not in params]:
            raise ValueError(f"{run.folder}: its masks name {odd[0]}, which is not prunable")
        if names not in ranked:
            ranked[names] = Ranked.of(measure_weights(params, moments, names))
        kept = torch.cat([mask.reshape(-1) for mask in masks.values()])
        analysis = {
            "format": SENTINELS_FORMAT,
            "run_id": run.record["run_id"],
            "mask_hash": run.record["mask_hash"],
            "start": start,
            "data": {**asked, "examples": examples},
            "noise_floor": floor,
            **summarise_mask(ranked[names], kept),
        }
        write_json(run.folder / SENTINELS, analysis)
        finished.append((run, analysis))
    return finished


def _read_current(run: Analysed, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The analysis that is there already, if it is of these masks and settings."""
    try:
        analysis = read_sentinels(run.folder)
    except ValueError:
        return None
    if analysis is None or analysis.get("mask_hash") != run.record["mask_hash"]:
        return None
    return analysis if asked.items() <= analysis["data"].items() else None


def _find_start(settings: Settings) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is told of the start, and the record of a dense one."""
    kind = settings.start.kind
    if kind != "dense":
        return {"kind": kind, "run_id": None}, None
    identity = identify(dense_start(settings))
    record = RunFolder(identity.folder(settings.output_root)).record(weights=True)
    if record is None:
        raise ValueError(f"the dense start {identity.run_id} is not there, or not whole")
    return {"kind": kind, "run_id": identity.run_id}, record


def held_out_batches(size: int, count: int, batch_size: int, seed: int) -> list[list[int]]:
    """`count` full batches of places in a split of `size` examples, in a new order each time they
    run out.

    Raises: ValueError when the split has no whole batch.
    """
    if size < batch_size:
        raise ValueError(f"{size} examples in batches of {batch_size}: there is no whole batch")
    generator = torch.Generator().manual_seed(seed)
    batches: list[list[int]] = []
    while len(batches) < count:
        order = torch.randperm(size, generator=generator).tolist()
        whole = range(0, size - batch_size + 1, batch_size)
        batches += [order[first : first + batch_size] for first in whole]
    return batches[:count]
