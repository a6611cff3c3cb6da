"""Masks in Lightning's loop: pruning during training, and zeros that stay zero.

The hooks, and why these (Lightning 2.6): `on_before_optimizer_step` is where gradients are
complete, unscaled and not yet clipped; what follows a step hangs on the optimizer itself.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.pruner import Pruner, Settled
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.training.masking import Masking
from seven_bench.training.module import TaskModule
from seven_bench.training.pruned_steps import PrunedSteps


class PruningCallback(pl.Callback):
    """Keeps removed weights at exactly zero and lets a pruner remove more as training goes on.

    Args:
        params: the prunable weights of the module's plain model.
        pruner: the method at work during training, or `Settled`: the masks stay as they are.
        biases: those that go with units, where units are what is removed.
    """

    def __init__(
        self, params: Params, pruner: Pruner | Settled, biases: CoupledBiases | None = None
    ) -> None:
        self.steps = PrunedSteps(params, pruner, biases)

    @property
    def params(self) -> Params:
        return self.steps.params

    @property
    def pruner(self) -> Pruner | Settled:
        return self.steps.pruner

    @property
    def masking(self) -> Masking:
        return self.steps.masking

    @property
    def masks(self) -> MaskSet:
        return self.steps.masks

    @property
    def biases(self) -> CoupledBiases | None:
        return self.steps.biases

    @property
    def skipped_steps(self) -> int:
        """Steps that a gradient scaler skipped."""
        return self.steps.skipped_steps

    # -- before and after training ---------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.steps.ask_gradients()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_scaled_gradients(trainer)
        self.steps.start(trainer.optimizers[0], dict(pl_module.named_parameters()))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.steps.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.steps.stop()

    # -- one step --------------------------------------------------------------------------------

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        odd = self.steps.before_step(optimizer, clipped=bool(trainer.gradient_clip_val))
        if odd is not None:
            self._skip(trainer, odd)
        elif isinstance(pl_module, TaskModule):
            pl_module.gradient_norm = self.steps.gradient_norm

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        self.masking.abandon_step()  # one that the gradient scaler skipped

    # -- evaluation and files --------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.masking.before_evaluation()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.masking.after_evaluation()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.masking.growing:
            return
        names = {id(p): name for name, p in pl_module.named_parameters()}
        for name, parameter in self.params.items():
            key = names[id(parameter)]
            checkpoint["state_dict"][key] = checkpoint["state_dict"][key] * self.masks[name]

    def state_dict(self) -> dict[str, Any]:
        return self.steps.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps.load_state_dict(state_dict)

    # -- parts -----------------------------------------------------------------------------------

    def _skip(self, trainer: pl.Trainer, odd: str) -> None:
        """A gradient scaler skips a step that is not finite, and so do score and schedule; without
        a scaler it is an error.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self.steps.skipped_steps += 1
            return
        where = odd.removeprefix("model.")
        raise ValueError(f"the gradient of {where} is not finite at step {trainer.global_step}")

    def _refuse_scaled_gradients(self, trainer: pl.Trainer) -> None:
        fused = getattr(trainer.optimizers[0], "_step_supports_amp_scaling", False)
        if fused and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                "trainer.precision=16-mixed: fused optimizers see scaled gradients; use bf16-mixed"
            )
