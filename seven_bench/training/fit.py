"""One training run under masks: Lightning's loop, the callback, the epoch that is measured."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from seven_bench import interrupts
from seven_bench.data.task_data import TaskData
from seven_bench.pruning import MaskSet
from seven_bench.training.answers import Answers
from seven_bench.training.context import Context, Device
from seven_bench.training.curves import PruningCurves, StepCurves
from seven_bench.training.epoch_loop import EpochLoop
from seven_bench.training.finetune import Recipe, implementation, optimizer_steps
from seven_bench.training.module import TaskModule
from seven_bench.training.progress import RunBar
from seven_bench.training.pruning_callback import PruningCallback
from seven_bench.training.validation import Validation

State = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """The plain model's state, and its masks, after the last and after the best epoch; epochs
    count from 1, and 0 is a run of no epochs. `optimizer`: how it computed, in a word of
    `finetune.implementation`; None of no epochs, which have no `validation` metrics either,
    as training that ended inside an epoch has none of its end.
    `passes`: forward passes that training on one example is worth.
    """

    last: State
    last_masks: MaskSet
    last_epoch: int
    best: State
    best_masks: MaskSet
    best_epoch: int
    examples: int
    seconds: float
    validation_seconds: float = 0.0
    passes: float = 3.0
    optimizer: str | None = None
    last_validation: dict[str, float] = field(default_factory=dict)
    best_validation: dict[str, float] = field(default_factory=dict)
    zero_shot: dict[str, float] = field(default_factory=dict)


class BestEpoch(pl.Callback):
    """Keeps the weights of the best epoch by a validation metric, at the final sparsity.

    Of equal epochs it is the latest: a small validation split has many ties, and the earliest would
    be chosen from more epochs for a method that is at its sparsity sooner.
    """

    def __init__(self, context: Context, pruning: PruningCallback) -> None:
        self.metric, self.pruning = f"validation/{context.metric}", pruning
        self.sign = 1.0 if context.higher_is_better else -1.0
        self.value, self.epoch = -math.inf, 0
        self.state: State = {}
        self.masks = MaskSet()
        self.scores: dict[str, float] = {}  # on validation, of the best epoch
        self.last_scores: dict[str, float] = {}
        self.step = -1  # that they were taken at

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.step = trainer.global_step
        self.last_scores = {
            name.removeprefix("validation/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("validation/")
        }
        if not self.pruning.pruner.reached:
            return
        value = self.sign * float(trainer.callback_metrics[self.metric])
        if value >= self.value or not self.state:
            self.value, self.epoch = value, trainer.current_epoch + 1
            self.state = snapshot(pl_module)  # type: ignore[arg-type]
            self.masks, self.scores = self.pruning.masks, self.last_scores

    def state_dict(self) -> dict[str, Any]:
        best = {"value": self.value, "epoch": self.epoch, "state": self.state}
        scores = {"scores": self.scores, "last_scores": self.last_scores, "step": self.step}
        return {**best, **scores, "masks": dict(self.masks)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value, self.epoch = state_dict["value"], state_dict["epoch"]
        self.state, self.masks = state_dict["state"], MaskSet(state_dict["masks"])
        self.scores = state_dict.get("scores", {})  # a checkpoint of an earlier version has none
        self.last_scores = state_dict.get("last_scores", {})
        self.step = state_dict.get("step", -1)


def snapshot(module: TaskModule) -> State:
    """A copy of the plain model's state, on the CPU."""
    state: State = module.plain_state()
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def make_trainer(
    recipe: Recipe,
    device: Device,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
    progress: bool = False,
) -> pl.Trainer:
    """A new Trainer: one is never used twice (a second `fit` would train nothing)."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    trainer = pl.Trainer(
        max_epochs=recipe.max_epochs,
        max_steps=recipe.max_steps or -1,
        accelerator=device.accelerator,
        devices=device.devices,
        strategy="ddp" if device.devices > 1 else "auto",
        use_distributed_sampler=False,  # batches are shared out by their own sampler
        precision=recipe.precision,  # type: ignore[arg-type]
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.gradient_clip,
        deterministic=device.deterministic,
        callbacks=list(callbacks),
        logger=list(loggers),
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        inference_mode=False,
    )
    EpochLoop.take_place(trainer)
    return trainer


def fit(module: TaskModule, data: TaskData, pruning: PruningCallback, context: Context) -> Trained:
    """Trains by the module's recipe; the callback keeps removed weights at zero throughout. A
    recipe of no epochs leaves the weights as they are, but for what was removed.

    Raises: ValueError when a method at work did not finish, or a loss is not finite.
    """
    if not module.recipe.max_epochs:
        return _untrained(module, pruning)
    best, checkpoint = BestEpoch(context, pruning), context.checkpoint
    validation = Validation(module.recipe.validate_every)
    watching: list[pl.Callback] = [
        PruningCurves(pruning),
        best,
        StepCurves(pruning, context.every),
        validation,
    ]
    callbacks: list[pl.Callback] = [pruning, *watching, *context.callbacks]
    resume = None
    if checkpoint is not None:
        callbacks.append(checkpoint)
        resume = checkpoint.path if checkpoint.path.is_file() else None
    shown = context.progress and sys.stderr.isatty() and not interrupts.in_worker()
    if shown:
        callbacks.append(RunBar(pruning, context.title, context.metric))
    recipe = module.recipe
    if recipe.first_step:
        left = optimizer_steps(recipe, data.size("train"))[0] - recipe.first_step
        recipe = replace(recipe, max_steps=left)
    trainer = make_trainer(recipe, context.device, callbacks, context.loggers, shown)
    began = time.perf_counter()
    with warnings.catch_warnings():
        _filter_known_warnings()
        try:
            with interrupts.deferred() if checkpoint is not None else nullcontext():
                trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # what Lightning makes of it
                raise KeyboardInterrupt from None
            raise
    pruning.pruner.check_finished()
    _check_converged(module)
    return Trained(
        last=snapshot(module),
        last_masks=pruning.masks,
        last_epoch=trainer.current_epoch,
        best=best.state or snapshot(module),
        best_masks=best.masks or pruning.masks,
        best_epoch=best.epoch or trainer.current_epoch,
        examples=_examples(module.recipe, data.size("train"), trainer.global_step),
        seconds=time.perf_counter() - began + (checkpoint.seconds if checkpoint else 0.0),
        validation_seconds=validation.seconds,
        optimizer=implementation(trainer.optimizers[0]),
        last_validation=best.last_scores if best.step == trainer.global_step else {},
        best_validation=best.scores,
    )


def _untrained(module: TaskModule, pruning: PruningCallback) -> Trained:
    pruning.masking.start()
    pruning.pruner.check_finished()
    state, masks = snapshot(module), pruning.masks
    return Trained(state, masks, 0, state, masks, 0, examples=0, seconds=0.0)


def _check_converged(module: TaskModule) -> None:
    for name, value in module.model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"training diverged: {name} is not finite")


def _examples(recipe: Recipe, train_size: int, steps: int) -> int:
    """Examples that so many optimizer steps have looked at."""
    whole, rest = divmod(steps, optimizer_steps(recipe, train_size)[1])
    return whole * train_size + rest * recipe.batch_size * recipe.accumulate


def evaluate(
    module: TaskModule,
    data: TaskData,
    device: Device,
    state: State,
    answers: Answers | None = None,
    stage: Literal["test", "validation"] = "test",
) -> dict[str, float]:
    """The metrics of a state of the plain model on the scored examples, or on those held out,
    without their prefix; `answers` takes what is answered to each scored example.
    """
    module.model.load_state_dict(state, strict=True)
    trainer = make_trainer(module.recipe, Device(device.accelerator))
    with warnings.catch_warnings():
        _filter_known_warnings()
        module.answers = answers
        measure = trainer.test if stage == "test" else trainer.validate
        (scores,) = measure(module, datamodule=data, verbose=False)
        module.answers = None
    return {name.removeprefix(f"{stage}/"): float(value) for name, value in scores.items()}


def _filter_known_warnings() -> None:
    """Lightning's advice that does not hold here."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    # every process evaluates the whole set: what is logged of it is the same in all
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*optimizer.step.*")
