"""Masks over the steps of one optimizer, whoever's loop takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from seven_bench.pruning import MaskSet, Params
from seven_bench.pruning.pruner import Pruner, Settled
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.training.masking import WAYS, Masking
from seven_bench.training.masking.protocol import copied

UNDERNEATH = "dense/"  # before the names of what `Masking.state` gives, in a checkpoint


class PrunedSteps:
    """Keeps removed weights at exactly zero and lets a pruner remove more, step by step.

    A loop calls `start` once, and `before_step` when the gradients of a step are complete, unscaled
    and not yet clipped; the optimizer's own post-step hook does the rest. It fires for real steps
    alone, neither for accumulated batches nor for steps that a gradient scaler skips.

    Args:
        params: the prunable weights of the plain model.
        pruner: the method at work during training, or `Settled`: the masks stay as they are.
        biases: those that go with units, where units are what is removed.

    `gradient_norm` is that of all gradients of the step under way, where it was taken and they stay
    as they are until they are clipped.
    """

    def __init__(
        self, params: Params, pruner: Pruner | Settled, biases: CoupledBiases | None = None
    ) -> None:
        self.params, self.pruner, self.biases = params, pruner, biases
        self.masking: Masking = WAYS[pruner.masking](params, pruner)
        self.skipped_steps = 0
        self.gradient_norm: Tensor | None = None
        self.lent: list[Tensor] = []  # frozen weights whose gradient is asked for while scoring
        self._named: Params = {}
        self._unclipped: Params = {}  # this step's gradients, for a score that looks after it
        self._hook: Any = None

    @property
    def masks(self) -> MaskSet:
        return self.pruner.masks

    def ask_gradients(self) -> None:
        """Frozen weights that are to be scored: a gradient, but no place in the optimizer."""
        if self.pruner.needs_gradients:
            for parameter in self.params.values():
                parameter.requires_grad_(True)

    def start(self, optimizer: Optimizer, named: Params) -> None:
        """Training begins, or goes on after `load_state_dict`; everything is on its device.

        Args:
            named: all parameters that may have a gradient, by the names that errors call them.
        """
        self._hook = optimizer.register_step_post_hook(self._after_step)
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.lent = [p for p in self.params.values() if id(p) not in trained and p.requires_grad]
        self._named = named
        self.pruner.to(next(iter(self.params.values())).device)
        self.apply()

    def apply(self) -> None:
        """What was removed so far is zero from here on."""
        self.masking.start()
        self._hold_biases()

    def stop(self) -> None:
        """However training ends, nothing of it is left in optimizer or model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self._return_lent()
        self.masking.abandon_step()

    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, *, clipped: bool) -> str | None:
        """The gradients are there; `clipped` says whether they may change before the step.

        Returns: None, or the name of a parameter whose gradient is not finite: no step may follow.

        Raises: ValueError when a weight to be scored has no gradient.
        """
        looks = self.pruner.observes("before_step")
        if not looks:  # zeros first: one norm then serves the check and the clipping
            self.masking.before_step()
        odd = self._find_odd(optimizer, kept=not (looks or self.lent))
        if looks:
            if odd is None:
                self._show(self._grads(), optimizer)
            self.masking.before_step()
        if self.pruner.observes("after_step") and (clipped or self.lent):
            self._unclipped = copied(self._grads())
        for parameter in self.lent:  # seen: it has no part in clipping
            parameter.grad = None
        if odd is None and self.pruner.takes_step:
            for parameter in self._named.values():
                parameter.grad = None  # an optimizer without gradients moves nothing
        return odd

    def _find_odd(self, optimizer: Optimizer, kept: bool) -> str | None:
        """A parameter whose gradient is not finite. `kept`: gradients stay as they are until they
        are clipped.
        """
        grads = {n: p.grad for n, p in self._named.items() if p.grad is not None}
        groups = optimizer.param_groups  # in whose order clipping sums
        held = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        finite, norm = all_finite(held if kept else list(grads.values()))
        self.gradient_norm = norm if kept and finite else None
        if finite:
            return None
        return next((n for n, g in grads.items() if not bool(torch.isfinite(g).all())), "all")

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

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values alone."""
        state = {UNDERNEATH + name: value for name, value in self.masking.state().items()}
        return {**state, **self.pruner.state_dict(), "skipped_steps": self.skipped_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`; `start` follows."""
        state = dict(state_dict)
        self.skipped_steps = state.pop("skipped_steps")
        beneath = [key for key in state if key.startswith(UNDERNEATH)]
        self.masking.load({key.removeprefix(UNDERNEATH): state.pop(key) for key in beneath})
        self.pruner.load_state_dict(state)

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

    def _return_lent(self) -> None:
        for parameter in self.lent:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.lent = []


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
