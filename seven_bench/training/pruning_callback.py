"""Masks in a training loop: pruning during training, and zeros that stay zero.

The hooks, and why these (Lightning 2.6): `on_before_optimizer_step` is where gradients are
complete, unscaled and not yet clipped; the optimizer's own post-step hook fires for real steps
alone, neither for accumulated batches nor for steps that a gradient scaler skips.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.pruner import Pruner, Settled
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.training.masking import WAYS, Masking
from seven_bench.training.masking.protocol import copied

UNDERNEATH = "dense/"  # before the names of what `Masking.state` gives, in a checkpoint


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
        self.params, self.pruner, self.biases = params, pruner, biases
        self.masking: Masking = WAYS[pruner.masking](params, pruner)
        self.skipped_steps = 0
        self._lent: list[Tensor] = []  # frozen weights whose gradient is asked for while scoring
        self._unclipped: Params = {}  # this step's gradients, for a score that looks after it

    @property
    def masks(self) -> MaskSet:
        return self.pruner.masks

    # -- before and after training ---------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Frozen weights that are to be scored: a gradient, but no place in the optimizer."""
        if stage == "fit" and self.pruner.needs_gradients:
            for parameter in self.params.values():
                parameter.requires_grad_(True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_scaled_gradients(trainer)
        optimizer = trainer.optimizers[0]
        self._hook = optimizer.register_step_post_hook(self._after_step)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._lent = [p for p in self.params.values() if id(p) not in trained and p.requires_grad]
        self._named = dict(pl_module.named_parameters())
        self.pruner.to(next(iter(self.params.values())).device)
        self.masking.start()
        self._hold_biases()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """However training ends, nothing of it is left in optimizer or model."""
        if hasattr(self, "_hook"):
            self._hook.remove()
        self._return_lent()
        self.masking.abandon_step()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    # -- one step --------------------------------------------------------------------------------

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        looks = self.pruner.observes("before_step")
        if not looks:  # zeros first: one norm then serves the check and the clipping
            self.masking.before_step()
        finite = self._check_finite(trainer, pl_module, kept=not (looks or self._lent))
        if looks:
            if finite:
                self._show(self._grads(), optimizer)
            self.masking.before_step()
        if self.pruner.observes("after_step") and (trainer.gradient_clip_val or self._lent):
            self._unclipped = copied(self._grads())
        for parameter in self._lent:  # seen: it has no part in clipping
            parameter.grad = None
        if finite and self.pruner.takes_step:
            pl_module.zero_grad(set_to_none=True)  # an optimizer without gradients moves nothing

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.masking.after_step()
        if self.pruner.observes("after_step"):
            self._show(self._unclipped or self._grads(), optimizer)
            self._unclipped = {}
        update = self.pruner.advance(self.masking.weights)
        if self.pruner.settled:
            self._return_lent()
        self.masking.end_step(update, optimizer)
        self._hold_biases()

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
        state = {UNDERNEATH + name: value for name, value in self.masking.state().items()}
        return {**state, **self.pruner.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.skipped_steps = state.pop("skipped_steps")
        beneath = [key for key in state if key.startswith(UNDERNEATH)]
        self.masking.load({key.removeprefix(UNDERNEATH): state.pop(key) for key in beneath})
        self.pruner.load_state_dict(state)

    # -- parts -----------------------------------------------------------------------------------

    def _hold_biases(self) -> None:
        if self.biases is not None:
            self.biases.apply_(self.masks)

    def _show(self, grads: Params, optimizer: Optimizer) -> None:
        """Shows the score this step, with its learning rate and the factor of its schedule."""
        group = optimizer.param_groups[0]
        rate, highest = group["lr"], group.get("initial_lr", group["lr"])
        factor = rate / highest if highest else 1.0
        weights = self.masking.weights
        self.pruner.observe(weights, grads, learning_rate=rate, lr_factor=factor)

    def _grads(self) -> Params:
        grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        if len(grads) < len(self.params):
            missing = next(name for name in self.params if name not in grads)
            raise ValueError(f"{missing} has no gradient: it cannot be pruned during training")
        return grads

    def _check_finite(self, trainer: pl.Trainer, pl_module: pl.LightningModule, kept: bool) -> bool:
        """Whether this step will be taken. A gradient scaler skips one that is not finite, and so
        do score and schedule; without a scaler it is an error. `kept`: the gradients stay as they
        are until they are clipped.
        """
        grads = {n: p.grad for n, p in self._named.items() if p.grad is not None}
        groups = trainer.optimizers[0].param_groups  # in whose order clipping sums
        held = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        finite, norm = all_finite(held if kept else list(grads.values()))
        if finite:
            pl_module.gradient_norm = norm if kept else None  # type: ignore[assignment]
            return True
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self.skipped_steps += 1
            return False
        odd = next((n for n, g in grads.items() if not bool(torch.isfinite(g).all())), "all")
        where = odd.removeprefix("model.")
        raise ValueError(f"the gradient of {where} is not finite at step {trainer.global_step}")

    def _return_lent(self) -> None:
        for parameter in self._lent:
            parameter.requires_grad_(False)
            parameter.grad = None
        self._lent = []

    def _refuse_scaled_gradients(self, trainer: pl.Trainer) -> None:
        fused = getattr(trainer.optimizers[0], "_step_supports_amp_scaling", False)
        if fused and getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                "trainer.precision=16-mixed: fused optimizers see scaled gradients; use bf16-mixed"
            )


def all_finite(tensors: list[Tensor]) -> tuple[bool, Tensor | None]:
    """Whether no value is infinite or no number, and the norm of all of them where it was taken.
    The host waits once.
    """
    if tensors and all(tensor.is_cuda for tensor in tensors):
        # what torch's gradient scaler does: one pass for all, which multiplies them by 1
        odd = torch.zeros((), device=tensors[0].device)
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, odd, torch.ones_like(odd))
        return not bool(odd), None
    norms = torch.stack(torch._foreach_norm(tensors))
    norm = torch.linalg.vector_norm(norms)
    return bool(torch.isfinite(norm)) or bool(torch.isfinite(norms.sum())), norm
