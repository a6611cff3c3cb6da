"""Image classification with a timm model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from seven_bench.training.finetune import Recipe
from seven_bench.training.module import Batch, TaskModule


def accuracies(classes: int) -> MetricCollection:
    """Accuracy and, of more than a hundred classes, that the label is among the first five."""
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(classes, average="micro")
    }
    if classes > 100:
        metrics["accuracy_top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
    return MetricCollection(metrics)


class VisionModule(TaskModule):
    """Cross-entropy over the logits of `pixel_values` [b, c, h, w] against `labels` [b], or, where
    images are mixed, `targets` [b, classes].
    """

    def __init__(self, model: nn.Module, recipe: Recipe, classes: int) -> None:
        super().__init__(model, recipe, accuracies(classes))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch["pixel_values"])
        return logits.float()

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        targets: Tensor = batch["targets"] if "targets" in batch else batch["labels"]
        return F.cross_entropy(logits, targets)
