"""Lightning's loop over an epoch, without what a step makes no use of.

Lightning asks every callback for every hook at every batch, wraps the step in closures and collects
metrics that nobody logs: a millisecond a step, a fifth of a step of a small model. Here the hooks
that somebody has are looked up once an epoch, and called in Lightning's order; its counters are
kept as it keeps them, so that a checkpoint of the one is a checkpoint of the other. What is rare
(the first batch after a restart, the last of an epoch) goes Lightning's own way, and so does all of
a run that is not plain: several processes, a gradient scaler, accumulated batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins import MixedPrecision, Precision
from pytorch_lightning.strategies import SingleDeviceStrategy

HOOKS = (
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end",
)  # fmt: skip
#: Of the module: one that has its own is trained Lightning's way.
LIGHTNINGS = ("on_train_batch_start", "optimizer_step", "lr_scheduler_step")
MOVES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


@dataclass(frozen=True)
class Step:
    """What a step of a plain run calls. `hooks`: of callbacks and then the module, by name, those
    that there are; `move` takes a batch to the device, `precision` is the forward pass' context.
    """

    module: Any
    optimizer: Any
    schedules: list[Any]
    hooks: dict[str, list[Callable[..., Any]]]
    move: Callable[[Any], Any] | None
    precision: Callable[[], AbstractContextManager[Any]]
    clip: tuple[Any, Any]

    def call(self, name: str, *args: Any) -> None:
        """Calls a hook of all who have it."""
        if hooks := self.hooks[name]:
            with self.named(name):
                for hook in hooks:
                    hook(*args)

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """What is logged within goes by this name."""
        values = vars(self.module)  # assigned past the module, which looks at what it is given
        before, values["_current_fx_name"] = values["_current_fx_name"], name
        yield
        values["_current_fx_name"] = before


class EpochLoop(_TrainingEpochLoop):
    """In the place of a trainer's own, before it is used."""

    step: Step | None = None  # of this epoch, if it is plain

    @classmethod
    def take_place(cls, trainer: pl.Trainer) -> None:
        """Gives it to a new trainer."""
        own = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = cls(trainer, own.min_steps, own.max_steps)

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self.step = step_of(self.trainer)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        step, trainer, progress = self.step, self.trainer, self.batch_progress
        if step is None or self.restarting:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        index = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        if step.move is not None:
            batch = step.move(batch)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        step.call("on_train_batch_start", batch, index)
        progress.increment_started()

        loss = self._forward_and_backward(step, batch, index)
        self._optimize(step)

        progress.increment_processed()
        for schedule in step.schedules:
            self.scheduler_progress.increment_ready()
            schedule.step()
            self.scheduler_progress.increment_completed()
        step.call("on_train_batch_end", {"loss": loss}, batch, index)
        if next(self._results.valid_items(), None) is not None:  # somebody logs at every step
            trainer._logger_connector.on_batch_end()
            progress.increment_completed()
            trainer._logger_connector.update_train_step_metrics()
        else:
            self._results.batch = self._results.batch_size = None
            progress.increment_completed()

    def _forward_and_backward(self, step: Step, batch: Any, index: int) -> Any:
        zeroed = self.automatic_optimization.optim_progress.optimizer.zero_grad
        with step.named("training_step"), step.precision():
            loss = step.module.training_step(batch, index)
        zeroed.increment_ready()
        step.call("on_before_zero_grad", step.optimizer)
        zeroed.increment_started()
        step.module.optimizer_zero_grad(self.trainer.current_epoch, index, step.optimizer)
        zeroed.increment_completed()
        step.call("on_before_backward", loss)
        step.module.backward(loss)
        step.call("on_after_backward")
        return loss.detach()

    def _optimize(self, step: Step) -> None:
        stepped = self.automatic_optimization.optim_progress.optimizer.step
        stepped.increment_ready()
        step.call("on_before_optimizer_step", step.optimizer)
        step.module.configure_gradient_clipping(step.optimizer, *step.clip)
        step.optimizer.step()
        stepped.increment_completed()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        trainer = self.trainer
        rare = self.batch_progress.is_last_batch or trainer.should_stop or trainer.received_sigterm
        if self.step is None or rare or self._skip_next_val:
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1


def step_of(trainer: pl.Trainer) -> Step | None:
    """A step of this training; None where only Lightning's own way is right."""
    module, configs = trainer.lightning_module, trainer.lr_scheduler_configs
    precision = trainer.precision_plugin
    mixed = type(precision) is MixedPrecision and precision.scaler is None
    plain = (
        type(trainer.strategy) is SingleDeviceStrategy
        and (mixed or type(precision) is Precision)
        and trainer.accumulate_grad_batches == 1
        and trainer.val_check_interval == trainer.limit_train_batches == 1.0
        and all(config.interval == "step" and not config.reduce_on_plateau for config in configs)
        and not any(_has(module, pl.LightningModule, name) for name in LIGHTNINGS)
    )
    if not plain:
        return None
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    hooks: dict[str, list[Callable[..., Any]]] = {}
    for name in HOOKS:
        having = [callback for callback in callbacks if _has(callback, pl.Callback, name)]
        hooks[name] = [partial(getattr(callback, name), trainer, module) for callback in having]
        if _has(module, pl.LightningModule, name):
            hooks[name].append(getattr(module, name))
    return Step(
        module=module,
        optimizer=trainer.optimizers[0],
        schedules=[config.scheduler for config in configs],
        hooks=hooks,
        move=_mover(trainer),
        precision=precision.train_step_context if mixed else nullcontext,
        clip=(trainer.gradient_clip_val, trainer.gradient_clip_algorithm),
    )


def _mover(trainer: pl.Trainer) -> Callable[[Any], Any] | None:
    """What takes a batch to the device; None where it is there and nobody looks on."""
    module, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
    asked = any(
        _has(module, pl.LightningModule, name) or _has(data, pl.LightningDataModule, name)
        for name in MOVES
    )
    if trainer.strategy.root_device.type == "cpu" and not asked:
        return None

    def move(batch: Any) -> Any:
        return trainer.strategy.batch_to_device(module._on_before_batch_transfer(batch))

    return move


def _has(one: Any, base: type, name: str) -> bool:
    """Whether something has a hook of its own, of its class or of itself."""
    hook = getattr(one, name, None)
    return getattr(hook, "__func__", hook) is not getattr(base, name)
