"""The progress bar: what is trained, how far it is, how it goes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from seven_bench import terminal
from seven_bench.training.pruning_callback import PruningCallback

#: Seen alike on black and on white: a contrast above 4.5 to 1 with either (WCAG 2.2, 1.4.3).
COLOUR = "#0a77d5"
THEME = RichProgressBarTheme(metrics="")


class RunBar(RichProgressBar):
    """Lightning's bar with how far the sweep is, if this is a run of one, what is trained, epochs
    from 1, the mean loss of this epoch so far, the last validation, and the sparsity reached.

    Args:
        title: what is trained, such as "dense start, seed 0".
        metric: the main metric's name.
    """

    def __init__(self, pruning: PruningCallback, title: str, metric: str) -> None:
        super().__init__(refresh_rate=10, leave=False, theme=THEME)
        self.pruning, self.title, self.metric = pruning, title, metric

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        bar = BarColumn(16, complete_style=COLOUR, finished_style=COLOUR, pulse_style=COLOUR)
        done = TextColumn("{task.completed:.0f}/{task.total:.0f}")
        left = TimeRemainingColumn(compact=True)
        return [TextColumn("{task.description}"), bar, done, left]

    def _get_train_description(self, current_epoch: int) -> str:
        words = f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return escape(" | ".join(filter(None, (terminal.suite_words, self.title, words))))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        module: Any = pl_module
        found: dict[str, Any] = {}
        if module.loss_count:
            found["loss"] = f"{float(module.loss_sum) / module.loss_count:.3f}"
        if (value := trainer.callback_metrics.get(f"validation/{self.metric}")) is not None:
            found["validation"] = f"{float(value):.3f}"
        return {**found, "sparsity": f"{self.pruning.masks.sparsity:.3f}"}
