"""How weights are trained: the recipe, the optimizer, the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run.

    `warmup` is a fraction of all steps; `lr_schedule` is what follows it. `max_steps` ends training
    early when it is not null. `gradient_clip` is the largest norm of the whole gradient.
    """

    max_epochs: int
    lr: float
    batch_size: int
    max_steps: int | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    momentum: float = 0.9
    lr_schedule: str = "linear"
    warmup: float = 0.06
    gradient_clip: float | None = None
    accumulate: int = 1
    precision: str = "32-true"


def optimizer_steps(recipe: Recipe, train_size: int) -> tuple[int, int]:
    """Optimizer steps in all, and in an epoch."""
    batches = math.ceil(train_size / recipe.batch_size)
    epoch = math.ceil(batches / recipe.accumulate)
    total = epoch * recipe.max_epochs
    return (min(total, recipe.max_steps) if recipe.max_steps else total), epoch


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """AdamW or SGD over the trainable parameters; biases and norms are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr)


OPTIMIZERS = ("adamw", "sgd")
LR_SCHEDULES = ("linear", "cosine", "constant")


def learning_rate_factor(recipe: Recipe, total: int) -> Callable[[int], float]:
    """The factor on the learning rate at each of `total` steps: warm-up, then the schedule to 0."""
    warm = round(recipe.warmup * total)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        left = 1 - (step - warm) / max(1, total - warm)
        match recipe.lr_schedule:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * (1 - left)))
            case "constant":
                return 1.0
            case _:
                return max(0.0, left)

    return factor
