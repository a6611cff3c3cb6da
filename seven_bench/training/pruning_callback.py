"""Masks in a training loop: pruning during training, and zeros that stay zero.

The hooks, and why these (Lightning 2.6): `on_before_optimizer_step` is where gradients are
complete, unscaled and not yet clipped; the optimizer's own post-step hook fires for real steps
alone, neither for accumulated batches nor for steps that a gradient scaler skips.

How a mask acts is one of `seven_bench.pruning.pruner.MASKING`. Between batches the model always
holds what it computes with; what the optimizer moves underneath (`straight_through`), or what has
grown back since the last update while the model is evaluated or saved (`regrow`), is in `dense`.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.pruner import Pruner
from seven_bench.pruning.threshold import flagged


class PruningCallback(pl.Callback):
    """Keeps removed weights at exactly zero and, given a `Pruner`, removes more as it goes.

    Args:
        params: the prunable weights of the module's plain model.
        masks: what has been removed before training (everything lives if nothing has).
        pruner: the method at work during training; None: the masks stay as they are.
    """

    def __init__(self, params: Params, masks: MaskSet, pruner: Pruner | None = None) -> None:
        self.params, self.pruner = params, pruner
        self.masking = "hard" if pruner is None else pruner.method.masking
        self.dense: Params = {}
        self.skipped_steps = 0
        self._masks = masks
        self._lent: list[Tensor] = []  # frozen weights whose gradient is asked for while scoring
        self._dense_inside = False

    @property
    def masks(self) -> MaskSet:
        return self._masks if self.pruner is None else self.pruner.masks

    @property
    def reached(self) -> bool:
        """Whether the final sparsity is reached: from here on an epoch may be the best one."""
        return self.pruner is None or self.pruner.reached

    @property
    def _growing(self) -> bool:
        """Whether removed weights may move right now."""
        return self.masking == "regrow" and self.pruner is not None and not self.pruner.settled

    # -- before and after training ---------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Frozen weights that are to be scored: a gradient, but no place in the optimizer."""
        if stage == "fit" and self._watches_gradients:
            for parameter in self.params.values():
                parameter.requires_grad_(True)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._refuse_scaled_gradients(trainer)
        optimizer = trainer.optimizers[0]
        self._hook = optimizer.register_step_post_hook(self._after_step)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._lent = [p for p in self.params.values() if id(p) not in trained and p.requires_grad]
        device = next(iter(self.params.values())).device
        if self.pruner is not None:
            self.pruner.to(device)
        self._masks = MaskSet({name: mask.to(device) for name, mask in self._masks.items()})
        self.dense = {name: value.to(device) for name, value in self.dense.items()}
        if self.masking == "straight_through" and not self.dense:
            self.dense = _copy(self.params)
        elif self.masking == "regrow" and self.dense:  # a checkpoint's
            self._put_back()
        if not self._growing:
            self.masks.apply_(self.params)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """However training ends, nothing of it is left in optimizer or model."""
        if hasattr(self, "_hook"):
            self._hook.remove()
        self._return_lent()
        self._show_masked()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    # -- one step --------------------------------------------------------------------------------

    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        finite = self._check_finite(trainer, pl_module)
        pruner = self.pruner
        if pruner is not None and finite and self._observes("before_step"):
            pruner.observe(self.dense or self.params, self._grads())
        if not self._observes("after_step"):
            for parameter in self._lent:  # seen: it has no part in clipping
                parameter.grad = None
        if not self._growing:
            with_grad = [name for name, p in self.params.items() if p.grad is not None]
            grads = [self.params[name].grad for name in with_grad]
            if grads:
                torch._foreach_mul_(grads, [self.masks[name] for name in with_grad])
        if self.masking == "straight_through":
            _fill(self.params, self.dense)
            self._dense_inside = True

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._dense_inside:
            _fill(self.dense, self.params)
        pruner, changed = self.pruner, False
        if pruner is not None:
            if self._observes("after_step"):
                pruner.observe(self.dense or self.params, self._grads())
            before = self.masks
            changed = pruner.advance(self.dense or self.params) is not None
            if changed and self.masking in ("hard", "rewire"):
                self._clear_moments(optimizer, before)
            if pruner.settled:
                self._return_lent()
        if changed or not self._growing:
            self.masks.apply_(self.params)
        self._dense_inside = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        self._show_masked()  # after a step that the gradient scaler skipped

    # -- evaluation and files --------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._growing:
            self.dense = _copy(self.params)
            self.masks.apply_(self.params)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.masking == "regrow" and self.dense:
            self._put_back()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self._growing:
            return
        names = {id(p): name for name, p in pl_module.named_parameters()}
        for name, parameter in self.params.items():
            key = names[id(parameter)]
            checkpoint["state_dict"][key] = checkpoint["state_dict"][key] * self.masks[name]

    def state_dict(self) -> dict[str, Any]:
        dense = _copy(self.params) if self._growing else self.dense
        state: dict[str, Any] = {f"dense/{name}": value for name, value in dense.items()}
        if self.pruner is None:
            return {**state, **{f"mask/{name}": mask for name, mask in self._masks.items()}}
        return {**state, **self.pruner.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self.skipped_steps = state.pop("skipped_steps", 0)
        dense = [key for key in state if key.startswith("dense/")]
        self.dense = {key.removeprefix("dense/"): state.pop(key).clone() for key in dense}
        if self.pruner is None:
            loaded = MaskSet({key.removeprefix("mask/"): mask for key, mask in state.items()})
            loaded.check(self._masks)
            self._masks = loaded
        else:
            self.pruner.load_state_dict(state)

    # -- parts -----------------------------------------------------------------------------------

    @property
    def _watches_gradients(self) -> bool:
        return self.pruner is not None and not self.pruner.method.score.needs <= {"weights"}

    def _observes(self, when: str) -> bool:
        """Whether the score is to see this step, at this time."""
        pruner = self.pruner
        if pruner is None or pruner.method.observe_at != when:
            return False
        return self._watches_gradients and pruner.plan.observes(pruner.step + 1)

    def _grads(self) -> Params:
        grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        if len(grads) < len(self.params):
            missing = next(name for name in self.params if name not in grads)
            raise ValueError(f"{missing} has no gradient: it cannot be pruned during training")
        return grads

    def _check_finite(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Whether this step will be taken. A gradient scaler skips one that is not finite, and so
        do score and schedule; without a scaler it is an error.
        """
        grads = {n: p.grad for n, p in pl_module.named_parameters() if p.grad is not None}
        norms = torch.stack(torch._foreach_norm(list(grads.values())))
        if bool(torch.isfinite(norms.sum())):
            return True
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            self.skipped_steps += 1
            return False
        odd = next((n for n, g in grads.items() if not bool(torch.isfinite(g).all())), "all")
        where = odd.removeprefix("model.")
        raise ValueError(f"the gradient of {where} is not finite at step {trainer.global_step}")

    def _clear_moments(self, optimizer: Optimizer, before: MaskSet) -> None:
        """Zeroes what the optimizer remembers of weights that an update has removed (or brought
        back). Those are few, and the moments of what was removed earlier are zero already.
        """
        for name, mask in self.masks.items():
            parameter = self.params[name]
            moved = mask ^ before[name]
            places = None if moved.is_cuda else flagged(moved)  # on a GPU: the host would wait
            for value in optimizer.state.get(parameter, {}).values():
                if not torch.is_tensor(value) or value.shape != parameter.shape:
                    continue
                if places is None:
                    value.masked_fill_(moved, 0)
                else:
                    value.view(-1).index_fill_(0, places, 0)

    def _put_back(self) -> None:
        _fill(self.params, self.dense)
        self.dense = {}

    def _show_masked(self) -> None:
        if self._dense_inside:
            self.masks.apply_(self.params)
            self._dense_inside = False

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


@torch.no_grad()
def _copy(params: Params) -> Params:
    return {name: value.detach().clone() for name, value in params.items()}


@torch.no_grad()
def _fill(target: Params, source: Params) -> None:
    torch._foreach_copy_(list(target.values()), [source[name] for name in target])
