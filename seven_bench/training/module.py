"""What the task modules share: steps, metrics over the whole set, optimizer and schedule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from seven_bench.training.finetune import Recipe, learning_rate_factor, make_optimizer

Batch = dict[str, Any]


class TaskModule(pl.LightningModule):
    """A plain model under training. A task derives from it and gives `outputs`.

    Args:
        model: the plain timm or transformers model; its names are the state dict's names.
        recipe: how it is trained.
        metrics: torchmetrics that take (predictions, targets), accumulated over the whole set.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, metrics: MetricCollection) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self.metrics = nn.ModuleDict(
            {stage: metrics.clone(prefix=f"{stage}/") for stage in ("validation", "test")}
        )

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss of a batch, the predictions and the targets that the metrics take."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch: what calibration differentiates."""
        return self.outputs(batch)[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        loss, predictions, targets = self.outputs(batch)
        metrics = self.metrics[stage]
        metrics.update(predictions, targets)  # type: ignore[operator]
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(targets))  # type: ignore[arg-type]
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.recipe)
        total = int(self.trainer.estimated_stepping_batches)
        factor = learning_rate_factor(self.recipe, total)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
