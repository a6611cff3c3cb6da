"""What a run is: a hash over all that decides its result, and the folder that follows from it.

What decides is said beside each key, by its `Role`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seven_bench.settings.conf import choice
from seven_bench.settings.given_masks import given_masks, source_part
from seven_bench.settings.model import (
    Finetune,
    Prunable,
    Pruner,
    Settings,
    Start,
    Tuning,
    as_folder,
)
from seven_bench.settings.node import Role, as_plain, by_role, read
from seven_bench.settings.packages import method_versions, other_versions
from seven_bench.settings.renamed import as_first_named
from seven_bench.settings.sources import fingerprint
from seven_bench.settings.validity import unpruned
from seven_bench.settings.weights import TOKENIZER, tokenizer_source
from seven_bench.settings.weights import fingerprint as fingerprint_of_weights

Plain = dict[str, Any]
DECISIVE = (Role.COLUMN, Role.METHOD, Role.RECIPE)
DISTILLATION = ("distill", "distill_weight", "temperature")
NO_AUGMENT = {"flip": False, "crop": None, "randaugment": None, "mixup": 0.0}
# Keys that came later, with the value that runs before them had: at that value they do not enter
# the hash, so that old runs keep their names. Append only.
LEDGER: dict[str, Any] = {
    "pruner.begin": "dense", "pruner.takes_step": False, "pruner.rounds.of": "remaining",
    "task.data.group_by_length": True,
    "trainer.lr_floor": 0.0, "trainer.lr_replay": None,
    "start.train.lr_floor": 0.0, "start.train.lr_replay": None,
    "trainer.augment": NO_AUGMENT, "start.train.augment": NO_AUGMENT,
    "calibration.seed": None, "data.split_seed": 0,
    "trainer.compile": False, "start.train.compile": False,
    "tuning.trials": 0, "tuning.space": None, "tuning.chosen": [], "tuning.examples": 0,
    "debug": False,
}  # fmt: skip
DEBUG = "debug"  # the first part of the ids of runs that only show that the program goes through
NAMED_SEEDS = ("calibration", "data")  # groups of settings that hold seeds and nothing else


@dataclass(frozen=True)
class Identity:
    """`run_id`: the run's folder below `output_root/runs`; `cell_id`: without its seeds."""

    run_id: str
    cell_id: str

    def folder(self, output_root: str | os.PathLike[str]) -> Path:
        return Path(output_root) / "runs" / self.run_id


def identify(settings: Settings) -> Identity:
    """The identity of checked settings."""
    dense = _dense_identity(settings)
    decisive = _decisive(settings, dense)
    names = (decisive["task"]["name"], settings.model.name, settings.pruner.name)
    root = (DEBUG,) if settings.debug else ()
    place = "/".join((*root, *map(as_folder, names), f"s{settings.sparsity:g}"))
    cell = {} if dense is None else {"cell": dense.cell_id}
    without_seeds = {
        "seed": None, "start": _start(settings, cell), "finetune": _finetune(settings, cell),
    }  # fmt: skip
    kept = {key: value for key, value in decisive.items() if key not in NAMED_SEEDS}
    kept["pruner"] = {k: value for k, value in kept["pruner"].items() if k != "masks_hash"}
    return Identity(
        f"{place}/seed{settings.seed}-{_hash(decisive)}",
        f"{place}/{_hash({**kept, **without_seeds})}",
    )


def decisive_part(settings: Settings) -> Plain:
    """The part of settings that decides the result, with data and start by content."""
    return _decisive(settings, _dense_identity(settings))


def _decisive(settings: Settings, dense: Identity | None) -> Plain:
    part = by_role(settings, DECISIVE)
    _add_method(part, settings)
    if (given := given_masks(settings.pruner)) is not None:
        part["pruner"]["masks_hash"] = given.hash
    part["task"]["data"].pop("workers", None)  # an argument of a target: it has no role of its own
    _add_contents(part, settings)
    run = {} if dense is None else {"run": dense.run_id}
    part["start"], part["finetune"] = _start(settings, run), _finetune(settings, run)
    part["trainer"]["threads"] = threads(settings)
    _add_validation(part, settings)
    for key, old in LEDGER.items():
        _drop(part, key.split("."), old)
    return part


def recipe_part(settings: Settings) -> Plain:
    """What decides the result and is neither method nor column, by dotted key: only runs of one
    recipe are held against each other. That of a dense start, or of a teacher, is part of it, and
    so are data and pretrained weights, by their content.
    """
    part = by_role(settings, (Role.RECIPE,))
    part["task"]["data"].pop("workers", None)
    part["trainer"]["threads"] = threads(settings)
    _add_validation(part, settings)
    if not needs_dense(settings):
        part.pop("start", None)
    _add_contents(part, settings)
    if settings.start.from_ == "pretrained":
        weights = fingerprint_of_weights(settings.start.weights)
        part.setdefault("start", {})["weights"] = weights
    part["finetune"] = _without_distillation(settings.finetune, part["finetune"])
    for key, old in LEDGER.items():
        _drop(part, key.split("."), old)
    return _without_chosen(settings, dict(_flat(part)))


def _without_chosen(settings: Settings, part: Plain) -> Plain:
    """What trials chose is told apart by how it was chosen, and not by what came out."""
    left_out = {*settings.tuning.chosen, "tuning.chosen", "tuning.examples"}
    return {key: value for key, value in part.items() if key not in left_out}


def _add_validation(part: Plain, settings: Settings) -> None:
    """How often one looks at validation decides nothing, but where the best epoch is measured."""
    if settings.select == "last":
        return
    stated = {"trainer": settings.trainer, "start": settings.start.train}
    for key, trainer in stated.items():
        if trainer is None or trainer.validate_every == 1 or key not in part:
            continue
        place = part[key] if key == "trainer" else part[key].setdefault("train", {})
        place["validate_every"] = trainer.validate_every


def _add_contents(part: Plain, settings: Settings) -> None:
    """Data and tokenizer enter by what is in them, not by where they lie; packages from outside by
    their versions.
    """
    if versions := other_versions(settings):
        part["versions"] = versions
    task = settings.task
    content = fingerprint(task.source, settings.data_root, task.name)
    part["task"]["data_fingerprint"] = content
    if task.name_from == "file" and "name" in part["task"]:  # a recipe has no names
        part["task"]["name"] = f"{task.kind}-{content[:8]}"
    if settings.model.tokenizer is not None:
        part["model"]["tokenizer"] = _tokenizer(settings)


def method_part(settings: Settings) -> Plain:
    """What a run's method is, by dotted key, without what a table has a column for."""
    part = by_role(settings, (Role.METHOD,))
    _add_method(part, settings)
    return _without_chosen(settings, dict(_flat(part)))


def _add_method(part: Plain, settings: Settings) -> None:
    """A method's score enters under the name that it had first, one from outside with a version;
    masks that it is given by their source.
    """
    part["pruner"] |= source_part(settings)
    if (score := part["pruner"].get("score")) is not None:
        part["pruner"]["score"] = as_first_named(score)
    if versions := method_versions(settings):
        part["pruner"]["versions"] = versions


def dense_start(settings: Settings) -> Settings:
    """The settings of the dense run that `start=dense` begins from, and that teaches where
    `finetune.distill=true`: an ordinary run of its own, all of whose weights are trained. A small
    model of random weights has none to begin from: it is trained as long by itself, as small.
    """
    start = settings.start
    weights = start.weights if start.from_ == "pretrained" else None
    begin = {"kind": start.from_, "from": start.from_, "weights": as_plain(weights)}
    changes: Plain = {
        "finetune": read(Finetune, choice("finetune/full")),
        "trainer": start.train,
        "tuning": Tuning(),
    }
    if from_random(settings.pruner) and start.kind == "dense":
        begin = {"kind": "init", "from": "init"}
        model = settings.model
        if model.tokenizer is not None:  # that of the pretrained weights goes on to be used
            model = model.model_copy(update={"tokenizer": tokenizer_source(model, start)})
        changes |= {"start": read(Start, begin), "model": model}
        return settings.model_copy(update=changes)
    changes |= {"prunable": Prunable(), "start": read(Start, begin)}
    return unpruned(settings, dense_pruner()).model_copy(update=changes)


def from_random(pruner: Pruner) -> bool:
    """Whether a run is of a small model that no start has weights for."""
    return pruner.small is not None and pruner.small.kind == "width"


def needs_dense(settings: Settings) -> bool:
    """Whether a run needs the dense run of `dense_start` first."""
    return settings.start.kind == "dense" or settings.finetune.distill


def title_of(settings: Settings) -> str:
    """What a run is, for whoever watches it."""
    if settings.pruner.timing == "none":
        words = "dense row" if settings.start.kind == "dense" else "dense start"
    else:
        words = f"{settings.pruner.name} at {settings.sparsity:g}"
    return f"{words}, seed {settings.seed}"


def dense_pruner() -> Pruner:
    """The method of an unpruned run."""
    return read(Pruner, choice("pruner/dense"))


def threads(settings: Settings) -> int:
    """CPU threads of a run: part of its identity, for sums differ with it."""
    return settings.trainer.threads or os.cpu_count() or 1


def _tokenizer(settings: Settings) -> str:
    where = tokenizer_source(settings.model, settings.start)
    return "data" if where == "data" else fingerprint_of_weights(where, TOKENIZER)


def _start(settings: Settings, dense: Plain) -> Plain:
    """What a start is; a dense one by its run, or seedless by its cell."""
    start = settings.start
    kind = {"kind": start.kind}
    if start.kind == "pretrained":
        return {**kind, "weights": fingerprint_of_weights(start.weights)}
    return {**kind, **dense} if start.kind == "dense" else kind


def _finetune(settings: Settings, dense: Plain) -> Plain:
    finetune = _without_distillation(settings.finetune, settings.finetune.plain())
    if settings.finetune.distill:
        finetune["teacher"] = dense
    return finetune


def _without_distillation(finetune: Finetune, part: Plain) -> Plain:
    """A strategy's keys, without those of distillation where there is none."""
    return {k: v for k, v in part.items() if finetune.distill or k not in DISTILLATION}


def _dense_identity(settings: Settings) -> Identity | None:
    return identify(dense_start(settings)) if needs_dense(settings) else None


def _hash(part: Plain) -> str:
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _drop(part: Plain, path: list[str], old: Any) -> None:
    key, *below = path
    if not below:
        if part.get(key, object()) == old:
            part.pop(key)
    elif inner := part.get(key):
        _drop(inner, below, old)
        if not inner:  # a group that came with its keys
            part.pop(key)


def _flat(part: Plain, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in part.items():
        below = isinstance(value, dict) and value
        pairs += _flat(value, f"{prefix}{key}.") if below else [(f"{prefix}{key}", value)]
    return pairs
