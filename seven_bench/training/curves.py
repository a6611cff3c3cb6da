"""What pruning does as training goes on, an epoch a row: sparsity, density by layer, mask churn."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger

from seven_bench.pruning import MaskSet, layer_counts
from seven_bench.training.pruning_callback import PruningCallback


class StepCurves(pl.Callback):
    """`step/loss` and `step/sparsity` of every `every` optimizer steps, for W&B, which shows curves
    as they grow; metrics.csv has a row an epoch.
    """

    def __init__(self, pruning: PruningCallback, every: int) -> None:
        self.pruning, self.every = pruning, every
        self.last = 0  # the step that was logged last

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        step = trainer.global_step
        if step == self.last or step % self.every:
            return
        self.last = step
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        row = {"step/loss": float(loss), "step/sparsity": self.pruning.masks.sparsity}
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_metrics(row, step)


class PruningCurves(pl.Callback):
    """Logs `progress/step`, `progress/sparsity`, `progress/churn` and `density/<layer>`.

    Churn is the number of weights whose mask changed since the last row, as a fraction of the
    prunable ones. While the masks stay as they are, densities are not written again.
    """

    def __init__(self, pruning: PruningCallback) -> None:
        self.pruning = pruning
        self.before: MaskSet | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        masks = self.pruning.masks
        churn = self._churn(masks)
        row = {
            "progress/step": float(trainer.global_step),
            "progress/sparsity": masks.sparsity,
            "progress/churn": churn,
        }
        if self.before is None or churn > 0:
            counts = layer_counts(pl_module.model, masks)  # type: ignore[arg-type]
            row |= {f"density/{name}": c["kept"] / c["total"] for name, c in counts.items()}
        pl_module.log_dict(row)
        self.before = masks  # never written to: an update makes new ones

    def state_dict(self) -> dict[str, Any]:
        return dict(self.before or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = MaskSet(state_dict) if state_dict else None

    def _churn(self, masks: MaskSet) -> float:
        if self.before is None:
            return 0.0
        before = self.before
        changed = {n: mask ^ before[n].to(mask.device) for n, mask in masks.items()}
        return MaskSet(changed).kept / masks.total
