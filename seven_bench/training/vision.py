"""Image classification with a timm model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seven_bench.training.finetune import Recipe
from seven_bench.training.module import Batch, TaskModule


class VisionModule(TaskModule):
    """Cross-entropy over the logits of `pixel_values` [b, c, h, w] against `labels` [b]."""

    def __init__(self, model: nn.Module, recipe: Recipe, classes: int) -> None:
        metrics = {"accuracy": MulticlassAccuracy(classes, average="micro")}
        if classes > 100:
            metrics["accuracy_top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
        super().__init__(model, recipe, MetricCollection(metrics))

    def outputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.model(batch["pixel_values"])
        return F.cross_entropy(logits.float(), batch["labels"]), logits, batch["labels"]
