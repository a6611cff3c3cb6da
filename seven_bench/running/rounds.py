"""Rounds: train, prune, rewind, train again, up a fixed ladder of sparsities.

Each level is an ordinary run with its own folder and record, and begins from the level below. So
each has a new Trainer, optimizer and schedule of its own length, levels that are there already are
not trained again, and runs at higher sparsities share them. Frankle & Carbin 2019, arXiv
1803.03635; late rewinding: Frankle et al. 2020, arXiv 1912.05671; learning-rate rewinding: Renda et
al. 2020, arXiv 2003.02389.

`pruner.rounds` says how: `fraction` of what remains is removed in each round (null: the target at
once); `rewind` is "start" (the weights that the run began from), a time like "100it" or "1ep" (the
weights after it, in the dense round), or null (the weights stay, the learning rate is rewound).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from seven_bench.pruning import MaskSet
from seven_bench.settings.identity import Config, dense_pruner
from seven_bench.store.files import MASKS, MODEL, REWIND
from seven_bench.store.masks import load_masks
from seven_bench.store.tensors import load_tensors, write_tensors


@dataclass(frozen=True)
class Below:
    """The round below: its final effective weights, its masks, and, when the weights are rewound
    to a step, those of that step.
    """

    state: dict[str, Tensor]
    masks: MaskSet
    rewound: dict[str, Tensor] | None = None


def level_below(config: Config) -> Config | None:
    """The config of the run that this one builds on; None at the bottom, or without rounds.

    The bottom is the dense run of the same start and training, or, where weights are rewound to a
    step, this method at sparsity 0, which keeps the weights of that step.
    """
    rounds = config["pruner"].get("rounds")
    if rounds is None or config["sparsity"] == 0:
        return None
    lower = [level for level in ladder(rounds["fraction"], config["sparsity"])][:-1]
    if lower:
        return {**config, "sparsity": lower[-1]}
    if rewinds_to_step(config):
        return {**config, "sparsity": 0.0}
    return {**config, "sparsity": 0.0, "pruner": dense_pruner()}


def ladder(fraction: float | None, target: float) -> list[float]:
    """The sparsities of the rounds up to a target, which is the last: 1 - (1 - fraction)^i."""
    levels: list[float] = []
    while fraction is not None:
        level = round(1 - (1 - fraction) ** (len(levels) + 1), 9)
        if level >= target:
            break
        levels.append(level)
    return [*levels, target]


def rewinds_to_step(config: Config) -> bool:
    """Whether weights are rewound to a time in the dense round, not to the start."""
    rounds = config["pruner"].get("rounds")
    return rounds is not None and rounds["rewind"] not in (None, "start")


def load_below(folder: Path, bottom: Path | None) -> Below:
    """What the round in `folder` has left; the weights of a step are in the folder of `bottom`."""
    return Below(
        load_tensors(folder / MODEL),
        MaskSet(load_masks(folder / MASKS)),
        load_tensors(bottom / REWIND) if bottom is not None else None,
    )


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
