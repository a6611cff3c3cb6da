"""The training loop of a run against a bare PyTorch loop: the same model, batches and optimizer."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from seven_bench.data.making import make_data
from seven_bench.data.samplers import ArrayDataset
from seven_bench.data.task_data import Splits, TaskData
from seven_bench.pruning import Cubic, MaskSet, SevenScore, prunable_parameters
from seven_bench.pruning.pruner import Method, Pruner, Settled
from seven_bench.settings.building import build
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import conf_dir
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Recipe, learning_rate_factor, make_optimizer, recipe_of
from seven_bench.training.fit import fit
from seven_bench.training.loggers import loggers
from seven_bench.training.module import TaskModule
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.text import TextModule
from tests.benchmarks.models import SHAPES, Shape
from tests.benchmarks.parts import parted
from tests.benchmarks.timing import Row, interleaved, wait

CONTEXT, CPU = Context("accuracy"), Device("cpu", deterministic=False)


class Clock(pl.Callback):
    """Seconds from the first step to the end of training: what sets a Trainer up is left out."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait()
        self.began = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wait()
        self.seconds = time.perf_counter() - self.began


class RandomText(TaskData):
    """Batches of random tokens, as many as are asked for."""

    def load(self) -> Splits:
        shape = self.options["shape"]

        def part(batches: int) -> ArrayDataset:
            tokens = shape.inputs(batches * shape.batch)
            labels = torch.arange(len(tokens["input_ids"])) % 2
            tokens["token_type_ids"] = torch.zeros_like(tokens["input_ids"])
            return ArrayDataset(**tokens, labels=labels)

        return {"train": part(self.options["batches"]), "validation": part(1), "test": part(1)}


def rows() -> list[Row]:
    """MiniLM without, the digits ViT with all that a run logs (W&B offline too)."""
    torch.set_num_threads(2)
    return [_minilm(), *_digits()]


def _minilm(steps: int = 12) -> Row:
    shape = SHAPES["MiniLM"]
    recipe = Recipe(max_epochs=1, batch_size=shape.batch, lr=1e-5, warmup=0.0)
    name = f"training loop, MiniLM, batch {shape.batch}, 64 tokens: steps a second / bare loop"
    return of_text(name, shape, recipe, CPU, steps, 3, 0.97)


def of_text(
    name: str, shape: Shape, recipe: Recipe, device: Device, steps: int, repeats: int,
    bound: float,
) -> Row:  # fmt: skip
    """A BERT of this shape on random tokens."""
    files = {"": Path()}
    data = RandomText(seed=0, batch_size=shape.batch, files=files, batches=steps, shape=shape)
    data.setup()

    def module() -> TaskModule:
        return TextModule(shape.build(), recipe, 2, ["accuracy"])

    ours, bare = _compare(module, data, recipe, device, [], repeats)
    return _row(name, ours, bare, steps, bound)


def _digits() -> list[Row]:
    GlobalHydra.instance().clear()
    with tempfile.TemporaryDirectory() as folder:
        given = [f"output_root={folder}", "trainer.threads=1", "start=init", "pruner=dense"]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = checked(compose("config", overrides=given))
        reset_process(0, 1, True)
        recipe = recipe_of(config)
        data = make_data(config, recipe.batch_size)
        data.setup()

        def module() -> TaskModule:
            model: nn.Module = build(config.model.build)
            made: TaskModule = build(config.task.module, model=model, recipe=recipe)
            return made

        with loggers(config, "bench", Path(folder)) as sinks:
            ours, bare = _compare(module, data, recipe, CPU, sinks, repeats=5)
            by_part = _parted(module, data, recipe, sinks)
    torch.set_num_threads(2)
    steps = recipe.max_epochs * -(-data.size("train") // recipe.batch_size)
    name = f"training loop, digits ViT, batch {recipe.batch_size}, logged: steps a second / bare"
    return [_row(f"{name} loop", ours, bare, steps, 0.85), *_shares(by_part, steps)]


def _parted(
    module: Callable[[], TaskModule], data: TaskData, recipe: Recipe, sinks: list[Any]
) -> Counter[str]:
    """Seconds by part, SEVENdyn at work for half of the steps."""
    reset_process(0, 1, True)
    with parted() as seconds:
        made = module()
        params = prunable_parameters(made.model)
        epoch = len(data.train_batches())
        schedule = Cubic(start=0.1, steps=0.5, warmup="0it")
        pruner = Pruner(
            Method(SevenScore(), schedule, 0.9), schedule.plan(recipe.max_epochs * epoch, epoch),
            params, torch.Generator(),
        )  # fmt: skip
        context = replace(CONTEXT, device=CPU, loggers=sinks)
        fit(made, data, PruningCallback(params, pruner), context)
    return seconds


def _shares(seconds: Counter[str], steps: int) -> list[Row]:
    """A row a part, the largest first."""
    whole = sum(seconds.values())
    rows = []
    for part, spent in seconds.most_common():
        own = f"{spent / steps * 1e3:.2f} ms of {whole / steps * 1e3:.2f} ms a step"
        name = f"digits ViT under SEVENdyn, share of training: {part}"
        rows.append(Row(name, 100 * spent / whole, "%", ours=own))
    return rows


def _row(name: str, ours: float, bare: float, steps: int, bound: float) -> Row:
    def rate(seconds: float) -> str:
        return f"{steps / seconds:.1f} steps/s"

    return Row(name, bare / ours, "", bound, False, rate(ours), rate(bare))


def _compare(
    module: Callable[[], TaskModule],
    data: TaskData,
    recipe: Recipe,
    device: Device,
    sinks: list[Any],
    repeats: int,
) -> tuple[float, float]:
    """Median seconds of training by `fit` and by a bare loop, validation of each epoch included."""
    inside: list[float] = []

    def ours() -> None:
        made, clock = module(), Clock()
        params = prunable_parameters(made.model)
        pruning = PruningCallback(params, Settled(MaskSet.ones(params)))
        fit(made, data, pruning, replace(CONTEXT, device=device, loggers=sinks, callbacks=[clock]))
        inside.append(clock.seconds)

    def bare() -> None:
        made = module()
        made.model.to(device.here())
        wait()
        began = time.perf_counter()
        _bare(made, data, recipe, device.here())
        wait()
        outside.append(time.perf_counter() - began)

    outside: list[float] = []
    interleaved({"ours": ours, "bare": bare}, repeats)
    middle = repeats // 2
    return sorted(inside[1:])[middle], sorted(outside[1:])[middle]


def _bare(module: TaskModule, data: TaskData, recipe: Recipe, device: torch.device) -> None:
    """What one writes by hand: no masks, no logging, the loss read at the end of an epoch."""
    half = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16-mixed")

    def batch_of(split: str, indices: list[int]) -> dict[str, torch.Tensor]:
        return {name: value.to(device) for name, value in data.splits[split][indices].items()}

    model, total = module.model, recipe.max_epochs * len(data.train_batches())
    optimizer = make_optimizer(model, recipe, module.finetune)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(recipe, total))
    for epoch in range(recipe.max_epochs):
        batches = data.train_batches()
        batches.set_epoch(epoch)
        model.train()
        summed = torch.zeros((), device=device)
        for indices in batches:
            with half:
                loss = module.loss(batch_of("train", indices))
            optimizer.zero_grad()
            loss.backward()
            if recipe.gradient_clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            scheduler.step()
            summed += loss.detach()
        float(summed)
        model.eval()
        right = 0
        with torch.no_grad(), half:
            for indices in data.eval_batches("validation"):
                batch = batch_of("validation", indices)
                right += int((module.logits(model, batch).argmax(-1) == batch["labels"]).sum())
