"""CLIP as a classifier: an image goes to the class whose prompt is most similar to it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seven_bench.training.finetune import Recipe
from seven_bench.training.module import Batch, TaskModule
from seven_bench.training.vision import accuracies


class ClipModule(TaskModule):
    """Cross-entropy over the scaled cosine similarities of images to the prompts of the classes.

    Both towers are trained. Without any training this is CLIP's zero-shot classifier (Radford et
    al. 2021, arXiv 2103.00020, section 3.1).
    """

    shared = ("input_ids", "attention_mask")  # the prompts

    def __init__(self, model: nn.Module, recipe: Recipe, classes: int) -> None:
        super().__init__(model, recipe, accuracies(classes))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        compared = model(pixel_values=batch["pixel_values"], **batch["prompts"])
        logits: Tensor = compared.logits_per_image
        return logits.float()

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        targets: Tensor = batch["targets"] if "targets" in batch else batch["labels"]
        return F.cross_entropy(logits, targets)
