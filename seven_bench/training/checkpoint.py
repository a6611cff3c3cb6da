"""A run that can be killed at any moment: `last.ckpt`, written now and then, and taken up again.

Lightning saves weights, optimizer, schedule and its loops' counters, and gives the callbacks' and
the loader's own state back (masks, score, best epoch, place in the epoch). What it leaves out is
here: the random generators, the time spent, and the curves, which go on in metrics.csv. A
checkpoint is taken just before a batch is trained on, when neither gradients nor a validation are
under way; a signal that ends the run waits for that moment.
"""

from __future__ import annotations

import logging
import signal
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from seven_bench import interrupts, ranks
from seven_bench.store.atomic import replacing
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.loggers import CurvesLogger

log = logging.getLogger(__name__)


class Checkpoint(pl.Callback):
    """Writes `path` every `every` seconds, whole or not at all.

    Args:
        path: the file; removed by whoever has written what the run is for.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self.seconds = 0.0  # of training, in earlier lives of this run
        self.scoring: dict[str, Any] = {}  # what scoring before training took
        self.zero_shot: dict[str, float] = {}  # what was measured before training
        self._began = self._written = time.monotonic()
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = self._written = time.monotonic()
        interrupts.watch_again()  # Lightning has put a handler of its own over ours
        if self._restored is not None:
            for logger in _curves(trainer):
                logger.continue_from(trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._restored is not None:
            if trainer.train_dataloader.state_dict() != self._restored["place"]:  # type: ignore[union-attr]
                raise RuntimeError(f"{self.path}: training does not go on with the next batch")
            restore_random_state(self._restored["random"][ranks.rank()])
            # Lightning counts one more after a restart; it is the x-axis of the curves
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._restored["batches_stepped"]
            self._restored = None
            return
        if trainer.global_step == 0:
            interrupts.check()
        if batch_idx % trainer.accumulate_grad_batches or trainer.global_step == 0:
            return
        asked = interrupts.pending() is not None
        due = asked or time.monotonic() - self._written >= self.every
        if ranks.any_of(due, pl_module.device):
            self._write(trainer)
            if ranks.any_of(asked, pl_module.device):
                raise interrupts.Interrupted(interrupts.pending() or signal.SIGTERM)

    def on_validation_batch_start(self, *args: Any) -> None:
        interrupts.check(interrupts.PATIENCE)  # the last checkpoint is what there is

    def _write(self, trainer: pl.Trainer) -> None:
        first = ranks.rank() == 0  # all take part, and the first writes
        with replacing(self.path) if first else nullcontext(self.path) as draft:
            trainer.save_checkpoint(draft, weights_only=False)
        if first:
            for logger in _curves(trainer):
                logger.save()
        self._written = time.monotonic()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["seven_bench"] = {
            "random": ranks.gathered(random_state()),
            "place": trainer.train_dataloader.state_dict(),  # type: ignore[union-attr]
            "batches_stepped": trainer.fit_loop.epoch_loop._batches_that_stepped,
            "scoring": self.scoring,
            "zero_shot": self.zero_shot,
            "seconds": self.seconds + time.monotonic() - self._began,
        }
        # left over from the epoch before when an epoch has but one batch
        loops: Any = checkpoint["loops"]["fit_loop"]
        loops["epoch_loop.batch_progress"]["is_last_batch"] = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restored = checkpoint["seven_bench"]
        self.seconds = checkpoint["seven_bench"]["seconds"]


def readable(path: Path) -> dict[str, Any] | None:
    """The checkpoint at `path`; None where there is none. A damaged one is said and removed."""
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:
                raise ValueError(f"{damaged} does not fit its checksum")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["seven_bench"]["random"], checkpoint["state_dict"], checkpoint["callbacks"]
    except Exception as error:  # whatever torch finds wrong with it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("%s cannot be read (%s): training starts anew", path, reason)
        path.unlink(missing_ok=True)
        return None
    return checkpoint


def _curves(trainer: pl.Trainer) -> list[CurvesLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, CurvesLogger)]
