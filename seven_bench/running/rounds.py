"""Rounds: train, prune, rewind, train again, up a fixed ladder of sparsities.

Each level is an ordinary run with its own folder and record, and begins from the level below. So
each has a new Trainer, optimizer and schedule of its own length, levels that are there already are
not trained again, and runs at higher sparsities share them. Frankle & Carbin 2019, arXiv
1803.03635; late rewinding: Frankle et al. 2020, arXiv 1912.05671; learning-rate rewinding: Renda et
al. 2020, arXiv 2003.02389.

`pruner.rounds` says how: `fraction` of what remains, or `of: start` of all there was, is removed in
each round (null: the target at once); `rewind` is "start" (the weights that the run began from), a
time like "100it" or "1ep" (the weights after it, in the dense round), or null (the weights stay,
the learning rate is rewound).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet
from seven_bench.pruning.schedules import steps_of
from seven_bench.running.job import Below, Cost, Job
from seven_bench.running.scoring import alter_weights, score_and_prune
from seven_bench.settings.identity import dense_pruner
from seven_bench.settings.model import Control, Settings
from seven_bench.settings.validity import unpruned
from seven_bench.store.files import REWIND
from seven_bench.store.finished import open_run
from seven_bench.store.tensors import load_tensors, write_tensors
from seven_bench.training.finetune import optimizer_steps


def level_below(settings: Settings) -> Settings | None:
    """The settings of the run that this one builds on; None at the bottom, or without rounds.

    The bottom is the dense run of the same start and training, or, where weights are rewound to a
    step, this method at sparsity 0, which keeps the weights of that step.
    """
    rounds = settings.pruner.rounds
    if rounds is None or settings.sparsity == 0:
        return None
    if lower := ladder(rounds.fraction, settings.sparsity, rounds.of)[:-1]:
        return _uncontrolled(settings, lower[-1])
    return bottom(settings) if rewind_time(settings) else unpruned(settings, dense_pruner())


def bottom(settings: Settings) -> Settings:
    """The settings of this method's own run that removes nothing."""
    return _uncontrolled(settings, 0.0)


def _uncontrolled(settings: Settings, sparsity: float) -> Settings:
    """A round below: what a control changes, it changes in the last one."""
    return settings.model_copy(update={"sparsity": sparsity, "control": Control(name="none")})


def ladder(fraction: float | None, target: float, of: str = "remaining") -> list[float]:
    """The sparsities of the rounds up to a target, which is the last: 1 - (1 - fraction)^i, or
    i * fraction where each round takes its share of all there was at the start.
    """
    levels: list[float] = []
    while fraction is not None:
        number = len(levels) + 1
        level = round(number * fraction if of == "start" else 1 - (1 - fraction) ** number, 9)
        if level >= target:
            break
        levels.append(level)
    return [*levels, target]


def rewind_time(settings: Settings) -> str | None:
    """The time in the dense round that weights are rewound to; None where they are not, or go back
    to the start.
    """
    rounds = settings.pruner.rounds
    return None if rounds is None or rounds.rewind == "start" else rounds.rewind


def load_below(folder: Path, bottom: Path | None) -> Below:
    """What the round in `folder` has left; the weights of a step are in the folder of `bottom`."""
    below = open_run(folder)
    rewound = load_tensors(bottom / REWIND) if bottom is not None else None
    return Below(below.weights(), MaskSet(below.masks()), rewound)


class KeepStep(pl.Callback):
    """Writes the plain model's weights after `step` optimizer steps, to be rewound to."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        if trainer.global_step == self.step and trainer.is_global_zero:
            model: Any = pl_module.model
            state = {n: v.detach().cpu().contiguous() for n, v in model.state_dict().items()}
            write_tensors(state, self.path)


def keep_step(job: Job) -> Iterator[KeepStep]:
    """In the bottom round, where later ones are rewound to a step: what keeps that step.

    Raises: ConfigError when training has no such step.
    """
    settings, checkpoint = job.settings, job.context.checkpoint
    time = rewind_time(settings)
    if settings.sparsity > 0 or time is None or checkpoint is None:
        return
    yield KeepStep(checkpoint.path.with_name(REWIND), _rewound_step(job, time))


def begin_at_rewound_step(job: Job) -> None:
    """Where weights are rewound to step k, training goes on at step k: k steps fewer, and the
    learning rates of those that are left (Frankle et al. 2020, arXiv 1912.05671). Batches are those
    of a first epoch.
    """
    time = rewind_time(job.settings)
    if time is not None and job.below is not None and job.below.rewound is not None:
        job.module.recipe = replace(job.module.recipe, first_step=_rewound_step(job, time))


def _rewound_step(job: Job, time: str) -> int:
    total, epoch = optimizer_steps(job.module.recipe, job.data.size("train"))
    if not 1 <= (step := steps_of(time, total, epoch)) < total:
        raise ConfigError(f"pruner.rounds.rewind={time} is step {step}, but there are {total}")
    return step


def prune_below(job: Job, below: Below) -> tuple[MaskSet, Cost]:
    """Prunes the trained weights of the round below, then rewinds the model's weights."""
    model = job.module.model
    rewound = below.rewound or {n: v.detach().clone() for n, v in model.state_dict().items()}
    model.load_state_dict(below.state)
    # a dense round keeps more weights than a pattern with units of its own looks at
    masks, cost = score_and_prune(job, MaskSet((n, below.masks[n]) for n in job.params))
    rounds = job.settings.pruner.rounds
    if rounds is not None and rounds.rewind is not None:
        model.load_state_dict(rewound)
        alter_weights(job)
        masks.apply_({name: parameter.data for name, parameter in job.params.items()})
    return masks, cost
