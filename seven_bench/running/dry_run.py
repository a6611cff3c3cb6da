"""What a suite would do, before it does it: runs, schedules, sizes, estimated time and memory."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from seven_bench.errors import ConfigError
from seven_bench.pruning import kept_count
from seven_bench.running.given_masks import check_given
from seven_bench.running.scope import prunable
from seven_bench.settings.building import build, build_score
from seven_bench.settings.digests import cache_folder, digest_files
from seven_bench.settings.identity import identify
from seven_bench.settings.model import Settings
from seven_bench.settings.packages import all_versions
from seven_bench.settings.sources import fingerprint
from seven_bench.settings.validity import scoring_steps
from seven_bench.store.atomic import replace_file
from seven_bench.store.run_folder import RunFolder
from seven_bench.terminal import console as make_console
from seven_bench.terminal import show_live
from seven_bench.training.finetune import optimizer_steps, recipe_of
from seven_bench.training.small import run_model

STATE_BYTES = {"adamw": 8, "adamax": 8, "sgd": 4}  # optimizer state a weight, float32

LIBRARIES = ("torch", "timm", "transformers")


@dataclass(frozen=True)
class Estimate:
    """A run before it is one. `seconds` comes from finished runs of the same cell but for the
    method; None where there are none. `memory` counts weights, gradients, optimizer and score
    state, not activations. `fault` is why masks that it is given are not its model's, if so.
    """

    cell: tuple[str, str, str]
    state: str
    schedule: str
    prunable: int
    kept: int
    seconds: float | None
    memory: int
    fault: str = ""


def print_plan(suite: Sequence[Settings]) -> None:
    """Prints the plan of a suite as a table, and what it adds up to."""
    sizes: dict[str, int] = {}
    for settings in suite:
        _read_own(settings, sizes)
    past = Past()
    estimates = [estimate(settings, sizes, past) for settings in _told(suite)]
    table = Table(box=SIMPLE_HEAD)
    for name in ("run", "sparsity", "seed", "state", "schedule", "kept", "time", "memory"):
        text = name in ("run", "schedule")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text)
    for item in estimates:
        time = "unknown" if item.seconds is None else f"{item.seconds:.0f} s"
        kept = f"{item.kept:,}"
        memory = f"{item.memory / 2**20:,.0f} MiB"
        schedule = "does not fit, see below" if item.fault else item.schedule
        table.add_row(*item.cell, item.state, schedule, kept, time, memory)
    console = make_console()
    console.print(table)
    for fault in dict.fromkeys(item.fault for item in estimates if item.fault):
        console.print(f"does not fit: {fault}", markup=False, highlight=False, soft_wrap=True)
    todo = [item for item in estimates if item.state != "done"]
    known = [item.seconds for item in todo if item.seconds is not None]
    total = f"about {sum(known) / 60:.1f} min" if len(known) == len(todo) else "time unknown"
    console.print(f"{len(suite)} runs, {len(todo)} to do, {total} one after another")


def _told(suite: Sequence[Settings]) -> Iterator[Settings]:
    """All of a suite; where there is a terminal it says how many are through."""
    for number, settings in enumerate(suite):
        if sys.stderr.isatty():
            show_live(f"planning run {number + 1} of {len(suite)}")
        yield settings
    if sys.stderr.isatty():
        show_live()


@dataclass(frozen=True)
class Past:
    """What an estimate need not look up again: `models` counts by kind (prunable and all weights,
    or why there is none), `runs` finished ones by folder (method, start and seconds of each).
    """

    models: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    runs: dict[Path, list[tuple[str, str, float]]] = field(default_factory=dict)


def estimate(settings: Settings, sizes: dict[str, int], past: Past | None = None) -> Estimate:
    """Sizes are counted on a model without storage; `sizes` remembers training set sizes."""
    past = past or Past()
    score = None if settings.pruner.score is None else build_score(settings.pruner)
    folder = RunFolder(identify(settings).folder(settings.output_root))
    recipe = recipe_of(settings)
    schedule = _schedule(settings, sizes)
    total, weights, fault = _counted(settings, past)
    schedule = fault or schedule
    unpruned = settings.pruner.timing == "none"
    return Estimate(
        cell=(
            f"{settings.task.name}, {settings.model.name}, {settings.pruner.name}",
            f"{settings.sparsity:g}",
            str(settings.seed),
        ),
        state=folder.state(),
        schedule=schedule,
        prunable=total,
        kept=total if unpruned else kept_count(total, settings.sparsity),
        seconds=_seconds(folder, settings, past),
        memory=weights * (8 + STATE_BYTES[recipe.optimizer])
        + (score.memory * total if score is not None else 0),
        fault=_masks_fault(settings),
    )


def _counted(settings: Settings, past: Past) -> tuple[int, int, str]:
    """Prunable and all weights of a run's model, and why a small one does not fit, if it does not.
    Runs that differ in sparsity alone have one model, but for small ones. What was counted is kept
    for later plans, as long as neither this program nor what builds its models changes.
    """
    pruner = settings.pruner
    kind = settings.model_dump_json(include={"model", "prunable", "pattern"})
    key = f"{kind} {pruner.prunable} {pruner.timing == 'none'}"
    if pruner.small is not None:
        key += f" {settings.sparsity} {pruner.model_dump_json()}"
    if key not in past.models:
        told = f"{key} {_program()} {all_versions(settings)}"
        kept = cache_folder() / "models" / hashlib.sha256(told.encode()).hexdigest()[:32]
        try:
            total, weights, fault = json.loads(kept.read_text("utf-8"))
            past.models[key] = int(total), int(weights), str(fault)
        except (OSError, ValueError, TypeError):
            past.models[key] = _count(settings)
            with suppress(OSError):
                replace_file(kept, json.dumps(past.models[key]).encode())
    return past.models[key]


def _masks_fault(settings: Settings) -> str:
    """Why masks that a run is given are not its model's, if they are not."""
    try:
        check_given(settings)
    except ConfigError as error:
        return str(error)
    return ""


def _count(settings: Settings) -> tuple[int, int, str]:
    fault = ""
    with torch.device("meta"):
        try:
            model = run_model(settings)
        except ConfigError as error:
            fault, model = f"does not fit: {error}", build(settings.model.build)
    total = sum(p.numel() for p in prunable(settings, model).values())
    return total, sum(p.numel() for p in model.parameters()), fault


@cache
def _program() -> str:
    """What decides how a model is built and counted: the code of this program and its libraries."""
    code = digest_files(sorted(Path(__file__).parents[1].rglob("*.py")))
    return " ".join((code, *(version(name) for name in LIBRARIES)))


def _schedule(settings: Settings, sizes: dict[str, int]) -> str:
    pruner = settings.pruner
    if pruner.schedule is None:
        return "none"
    if pruner.timing == "before":
        total = epoch = scoring_steps(pruner)
    else:
        total, epoch = optimizer_steps(recipe_of(settings), _train_size(settings, sizes))
    try:
        plan = build(pruner.schedule).plan(total, epoch)
    except (ValueError, ConfigError) as error:
        return f"does not fit: {error}"
    return f"{plan.count} to step {plan.end}/{total}"


def _train_size(settings: Settings, sizes: dict[str, int]) -> int:
    """Training examples; the data of a task are read once, and of local ones their number is kept
    by their content.
    """
    task = settings.task
    key = f"{task.name} {task.train_examples} {task.source}"
    if key not in sizes:
        kept = _kept_size(settings)
        with suppress(OSError, ValueError):
            if kept is not None:
                sizes[key] = int(kept.read_text("ascii"))
                return sizes[key]
        from seven_bench.data.making import make_data  # brings Lightning: seconds

        data = make_data(settings, recipe_of(settings).batch_size)
        data.setup()
        sizes[key] = data.size("train")
        with suppress(OSError):
            if kept is not None:
                replace_file(kept, str(sizes[key]).encode())
    return sizes[key]


def _kept_size(settings: Settings) -> Path | None:
    """Where the number of a task's training examples is kept; None where they are the hub's, or
    one's own, which are read whenever they are asked for.
    """
    task = settings.task
    content = fingerprint(task.source, settings.data_root, task.name)
    if content.startswith("hub:") or task.source.own is not None:
        return None
    told = f"{settings.model_dump_json(include={'task', 'data'})} {content}"
    return cache_folder() / "sizes" / hashlib.sha256(told.encode()).hexdigest()[:32]


def _read_own(settings: Settings, sizes: dict[str, int]) -> None:
    """Data of one's own are read to the last example: a plan is a promise that they can be."""
    if settings.task.source.own is not None:
        _train_size(settings, sizes)


def _seconds(folder: RunFolder, settings: Settings, past: Past) -> float | None:
    """The median of finished runs of this task, model and start, those of this method if any."""
    model_folder = folder.path.parents[2]
    if model_folder not in past.runs:
        past.runs[model_folder] = list(_finished(model_folder))
    found: dict[bool, list[float]] = {True: [], False: []}
    for pruner, start, seconds in past.runs[model_folder]:
        if start == settings.start.kind:
            found[pruner == settings.pruner.name].append(seconds)
    same = found[True] or found[False]
    return statistics.median(same) if same else None


def _finished(model_folder: Path) -> Iterator[tuple[str, str, float]]:
    for path in model_folder.glob("*/*/*/result.json"):
        record: dict[str, Any] | None = RunFolder(path.parent).record()
        if record is not None and math.isfinite(seconds := record["cost"]["seconds"]["total"]):
            yield record["pruner"], record["start"], seconds
