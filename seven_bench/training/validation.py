"""Which epochs are validated, and what validation takes."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch

NEVER = 2**62  # epochs


class Validation(pl.Callback):
    """Validates after every `every` epochs and after the last; `every` None: after none.

    How often one looks changes nothing of what is trained: a look draws one number from torch's
    generator (the loader's), and where there is none it is drawn all the same.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer)  # of the epoch that a resumed run is in the middle of

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(trainer)

    def _set(self, trainer: pl.Trainer) -> None:
        trainer.check_val_every_n_epoch = 1 if self._due(trainer) else NEVER

    def _due(self, trainer: pl.Trainer) -> bool:
        number = trainer.current_epoch + 1
        return self.every is not None and (number % self.every == 0 or number == trainer.max_epochs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._due(trainer):
            torch.empty((), dtype=torch.int64).random_()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds += time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]
