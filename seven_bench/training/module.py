"""What the task modules share: steps, metrics over the whole set, optimizer and schedule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from seven_bench.training.finetune import (
    Recipe,
    learning_rate_factor,
    make_optimizer,
    optimizer_steps,
)

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
        for metric in self.metrics.modules():
            if isinstance(metric, Metric):
                metric.sync_on_compute = False  # every process evaluates the whole set
        self.not_trained: set[int] = set()  # ids of parameters that have a gradient to be scored
        self.loss_sum: Tensor | float = 0.0  # of this epoch's batches
        self.loss_count = 0

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The mean loss of a batch, the predictions and the targets that the metrics take."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch: what calibration differentiates."""
        return self.outputs(batch)[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        weight = self.trainer.datamodule.weight(batch_idx, self.trainer.accumulate_grad_batches)  # type: ignore[attr-defined]
        if weight != 1:
            loss = loss * weight
        self.loss_sum = self.loss_sum + loss.detach().double()
        self.loss_count += 1
        return loss

    def on_train_epoch_start(self) -> None:
        self.loss_sum, self.loss_count = 0.0, 0

    def on_train_epoch_end(self) -> None:
        """The epoch's mean loss: kept here, for Lightning's own means do not survive a resume."""
        mean = torch.as_tensor(self.loss_sum / self.loss_count, dtype=torch.float32)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/loss", mean.to(self.device), sync_dist=True)
        self.log("train/learning_rate", rate, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["train_loss"] = [float(self.loss_sum), self.loss_count]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.loss_sum, self.loss_count = checkpoint["train_loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "validation")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        loss, predictions, targets = self.outputs(batch)
        metrics = self.metrics[stage]
        metrics.update(predictions, targets)  # type: ignore[operator]
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(targets))  # type: ignore[arg-type]
        self.log(
            f"{stage}/loss",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=len(targets),
            sync_dist=True,
        )

    def configure_optimizers(self) -> Any:
        left_out = [p for p in self.model.parameters() if id(p) in self.not_trained]
        for parameter in left_out:
            parameter.requires_grad_(False)
        optimizer = make_optimizer(self.model, self.recipe)
        for parameter in left_out:
            parameter.requires_grad_(True)
        # not Lightning's estimate, which would set up the loader before a checkpoint has its place
        total, _ = optimizer_steps(self.recipe, self.trainer.datamodule.size("train"))  # type: ignore[attr-defined]
        factor = learning_rate_factor(self.recipe, total)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
