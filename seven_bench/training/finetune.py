"""How weights are trained: the recipe, which weights, the optimizer, the learning rate."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.optim import Optimizer

from seven_bench.pruning.prunable import family_of
from seven_bench.pruning.schedules import steps_of
from seven_bench.settings.model import Settings, Trainer

LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run.

    `warmup` is a fraction of all steps; `lr_schedule` is what follows it, down to `lr_floor` times
    the learning rate. It begins anew after each of the times `lr_replay`, the last of which goes on
    ("2ep", "4ep": after epochs 2, 6, 10, ...). `max_steps` ends training early when it is not null.
    `gradient_clip` is the largest norm of the whole gradient. `first_step` is where in all steps
    training begins: later than at 0 where the weights are those of a step, whose learning rates are
    then gone on with.
    """

    max_epochs: int
    lr: float
    batch_size: int
    max_steps: int | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    momentum: float = 0.9
    lr_schedule: str = "linear"
    lr_floor: float = 0.0
    lr_replay: tuple[str, ...] | None = None
    warmup: float = 0.06
    gradient_clip: float | None = None
    accumulate: int = 1
    precision: str = "32-true"
    compile: bool = False
    validate_every: int | None = 1
    first_step: int = 0


def recipe_of(settings: Settings) -> Recipe:
    """The training settings of a run."""
    names = {field.name for field in fields(Recipe)} & Trainer.model_fields.keys()
    return Recipe(**{name: getattr(settings.trainer, name) for name in names})


def optimizer_steps(recipe: Recipe, train_size: int) -> tuple[int, int]:
    """Optimizer steps in all, those before `first_step` included, and in an epoch."""
    batches = math.ceil(train_size / recipe.batch_size)
    epoch = math.ceil(batches / recipe.accumulate)
    total = epoch * recipe.max_epochs
    return (min(total, recipe.max_steps) if recipe.max_steps else total), epoch


@dataclass(frozen=True)
class Finetune:
    """Which weights are trained, and towards what. The head always is.

    * `full`: all. `linear_probe`: the head alone. `bitfit`: biases (Ben Zaken et al. 2021, arXiv
      2106.10199). `lora`: low-rank additions of `rank`, scaled by `alpha` / `rank`, to the prunable
      linear layers (Hu et al. 2021, arXiv 2106.09685). `llrd`: all, each layer's learning rate
      `decay` times that of the one above (Howard & Ruder 2018, arXiv 1801.06146).
    * `distill`: `distill_weight` of the loss is the distance to the dense model's outputs, at
      `temperature`.
    """

    name: str = "full"
    rank: int = 8
    alpha: float = 16.0
    decay: float = 0.9
    distill: bool = False
    distill_weight: float = 0.5
    temperature: float = 2.0


STRATEGIES = ("full", "linear_probe", "bitfit", "lora", "llrd")


def trained_parameters(model: nn.Module, finetune: Finetune) -> dict[str, nn.Parameter]:
    """The parameters that a strategy trains, by name.

    Raises: ValueError on an unknown strategy.
    """
    if finetune.name not in STRATEGIES:
        raise ValueError(f"finetune={finetune.name}: allowed are {', '.join(STRATEGIES)}")
    family = family_of(model)

    def trained(name: str) -> bool:
        match finetune.name:
            case "linear_probe":
                return family.is_head(name)
            case "bitfit":
                return family.is_head(name) or name.endswith(".bias")
            case "lora":
                return family.is_head(name) or ".lora_" in name
            case _:
                return True

    return {name: p for name, p in model.named_parameters() if trained(name)}


def freeze_others(model: nn.Module, finetune: Finetune, scored: Iterable[nn.Parameter]) -> None:
    """Gradients for what is trained, and for `scored`: weights that a method at work during
    training looks at, though they may be frozen. Those are left to the optimizer's reach by
    `make_optimizer` alone.
    """
    trained = {id(p) for p in trained_parameters(model, finetune).values()} | {*map(id, scored)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)


def layer_depths(model: nn.Module) -> dict[str, int]:
    """How deep each parameter sits: 0 the embeddings, i + 1 the i-th layer, at the top the rest."""
    family = family_of(model)
    layers = {name: LAYER.search(name) for name, _ in model.named_parameters()}
    top = max((int(match[1]) for match in layers.values() if match), default=-1) + 2
    return {
        name: int(match[1]) + 1 if match else 0 if family.is_embedding(name) else top
        for name, match in layers.items()
    }


class AdamW(torch.optim.AdamW):
    """torch's. Its step asks whether a GPU records a graph, which here none ever does: where there
    is no GPU, and so no answer to remember, the driver is looked for at every step.
    """

    def _accelerator_graph_capture_health_check(self) -> None: ...


def make_optimizer(model: nn.Module, recipe: Recipe, finetune: Finetune = Finetune()) -> Optimizer:
    """The recipe's optimizer over what is trained; biases and norms are not decayed.

    Decay is decoupled in AdamW and part of the gradient in SGD and Adamax, as torch has them. AdamW
    and SGD are torch's fused ones, one pass over memory, but for `16-mixed`: a fused optimizer
    takes the scale off by itself, and would be shown scaled gradients.
    """
    trained = trained_parameters(model, finetune)
    depths = layer_depths(model) if finetune.name == "llrd" else dict.fromkeys(trained, 0)
    top = max(depths.values())
    groups = []
    for depth in sorted(set(depths.values()), reverse=True):
        lr = recipe.lr * finetune.decay ** (top - depth) if finetune.name == "llrd" else recipe.lr
        here = [p for name, p in trained.items() if depths[name] == depth]
        decayed = [p for p in here if p.ndim > 1]
        others = [p for p in here if p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": recipe.weight_decay, "lr": lr})
        groups.append({"params": others, "weight_decay": 0.0, "lr": lr})
    groups = [group for group in groups if group["params"]]
    fused = recipe.precision != "16-mixed" or None  # None: torch's own choice of a plain one
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=fused)
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=recipe.lr)
    return AdamW(groups, lr=recipe.lr, fused=fused)


def implementation(optimizer: Optimizer) -> str:
    """How an optimizer computes, in a word: the last bits of a run depend on it."""
    return "fused" if optimizer.param_groups[0].get("fused") else "plain"


def learning_rate_factor(recipe: Recipe, total: int, epoch: int = 1) -> Callable[[int], float]:
    """The factor on the learning rate at each of `total` steps, `epoch` steps an epoch: warm-up,
    then the schedule to its floor, once or again and again.
    """
    warm = round(recipe.warmup * total)
    ends = _replays(recipe, warm, total, epoch)

    def factor(step: int) -> float:
        step += recipe.first_step
        if step < warm:
            return (step + 1) / (warm + 1)
        index = min(bisect_right(ends, step), len(ends) - 1)
        begin = ends[index - 1] if index else warm
        left = 1 - (step - begin) / max(1, ends[index] - begin)
        match recipe.lr_schedule:
            case "cosine":
                height = 0.5 * (1 + math.cos(math.pi * (1 - left)))
            case "constant":
                height = 1.0
            case _:
                height = max(0.0, left)
        return recipe.lr_floor + (1 - recipe.lr_floor) * height

    return factor


def _replays(recipe: Recipe, warm: int, total: int, epoch: int) -> list[int]:
    """The steps at which the learning rate's schedule comes to an end, the last at or past `total`.

    Raises: ValueError on a time that is no whole step.
    """
    if recipe.lr_replay is None:
        return [total]
    ends, spans = [warm], [steps_of(time, total, epoch) for time in recipe.lr_replay]
    if min(spans) < 1:
        raise ValueError(f"trainer.lr_replay={recipe.lr_replay}: times of at least a step")
    while ends[-1] < total:
        ends.append(ends[-1] + spans[min(len(ends), len(spans)) - 1])
    return ends[1:] or [total]
