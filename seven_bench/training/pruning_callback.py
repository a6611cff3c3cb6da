"""Masks in a training loop: pruning during training, and zeros that stay zero.

The hooks, and why these (Lightning 2.6): `on_before_optimizer_step` is where gradients are
complete, unscaled and not yet clipped; the optimizer's own post-step hook fires for real steps
alone, neither for accumulated batches nor for steps that a gradient scaler skips.
"""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.process import Pruning

log = logging.getLogger(__name__)


class PruningCallback(pl.Callback):
    """Keeps removed weights at exactly zero and, given a `Pruning`, removes more as it goes.

    Args:
        params: the prunable weights of the module's plain model.
        masks: what has been removed before training (everything lives if nothing has).
        pruning: the method at work during training; None: the masks stay as they are.
    """

    def __init__(self, params: Params, masks: MaskSet, pruning: Pruning | None = None) -> None:
        self.params, self.pruning = params, pruning
        self._masks = masks
        self.skipped_steps = 0
        self.seconds = 0.0

    @property
    def masks(self) -> MaskSet:
        return self._masks if self.pruning is None else self.pruning.masks

    @property
    def finished(self) -> bool:
        """Whether the masks are final."""
        return self.pruning is None or self.pruning.step >= self.pruning.plan.end

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_scaled_gradients(trainer)
        self._hook = trainer.optimizers[0].register_step_post_hook(self._after_step)
        self.masks.apply_(self.params)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hook.remove()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "_hook"):
            self._hook.remove()

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        grads = self._grads()
        if self.pruning is not None and self.pruning.plan.observes(self.pruning.step + 1):
            norm = torch.stack(torch._foreach_norm(list(grads.values()))).sum()
            if bool(torch.isfinite(norm)):
                if self.pruning.method.observe_at == "before_step":
                    self.pruning.observe(self.params, grads)
            elif trainer.precision_plugin.precision == "16-mixed":
                self.skipped_steps += 1  # the scaler skips this step, and so do score and schedule
            else:
                raise ValueError(f"the gradient of step {trainer.global_step} is not finite")
        self.masks.apply_(grads)

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        pruning = self.pruning
        if pruning is not None:
            if pruning.method.observe_at == "after_step":
                pruning.observe(self.params, self._grads())
            if pruning.advance(self.params):
                self._clear_moments(optimizer)
        self.masks.apply_(self.params)

    def _grads(self) -> Params:
        grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        if len(grads) < len(self.params):
            missing = next(name for name in self.params if name not in grads)
            raise ValueError(f"{missing} has no gradient: it cannot be pruned during training")
        return grads

    def _clear_moments(self, optimizer: Optimizer) -> None:
        """Zeroes what the optimizer remembers of removed weights."""
        for name, mask in self.masks.items():
            parameter = self.params[name]
            for value in optimizer.state.get(parameter, {}).values():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    value.mul_(mask)

    def _refuse_scaled_gradients(self, trainer: pl.Trainer) -> None:
        fused = getattr(trainer.optimizers[0], "_step_supports_amp_scaling", False)
        if fused and trainer.precision_plugin.precision == "16-mixed":
            raise ValueError(
                "trainer.precision=16-mixed: fused optimizers see scaled gradients; use bf16-mixed"
            )

    def state_dict(self) -> dict[str, Any]:
        if self.pruning is None:
            return {f"mask/{name}": mask for name, mask in self._masks.items()}
        return dict(self.pruning.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.pruning is None:
            masks = {k.removeprefix("mask/"): t for k, t in state_dict.items()}
            loaded = MaskSet({n: t.to(self._masks[n].device) for n, t in masks.items()})
            loaded.check(self._masks)
            self._masks = loaded
        else:
            self.pruning.load_state_dict(state_dict)
