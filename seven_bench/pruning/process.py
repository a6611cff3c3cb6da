"""One method at work on one model: a score, a plan, and the masks they have led to so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seven_bench.pruning.distributions import kept_count
from seven_bench.pruning.masks import MaskSet, prune
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.schedules import Plan, Schedule
from seven_bench.pruning.scores import Observation, Score


@dataclass(frozen=True)
class Method:
    """A score and what is composed around it. `sparsity` is the final fraction removed.

    `rescore` starts the score anew after every update; `observe_at` says whether a method that
    prunes during training sees weights "before_step" or "after_step" of the optimizer; `cut` is
    that of `prune`.
    """

    score: Score
    schedule: Schedule
    sparsity: float
    distribution: str = "global"
    pattern: str = "unstructured"
    rescore: bool = False
    observe_at: str = "before_step"
    cut: str = "exact"


class Pruning:
    """Observes, and updates its masks when the plan says so. Masks only ever lose weights.

    Args:
        method: what to do.
        plan: the method's schedule over the steps there are.
        params: the prunable weights, by name; they are read, never written.
        generator: the score's only source of randomness.
    """

    def __init__(
        self, method: Method, plan: Plan, params: Params, generator: torch.Generator
    ) -> None:
        self.method, self.plan, self.generator = method, plan, generator
        self.masks = MaskSet.ones(params)
        self.step = 0
        self.method.score.reset(params, generator)

    def observe(self, params: Params, grads: Params) -> None:
        """Shows the score one step, unless the plan lets this one pass."""
        if self.plan.observes(self.step + 1):
            seen = Observation(params, grads, self.masks, self.step - self.plan.observe_from)
            self.method.score.observe(seen)

    def advance(self, params: Params) -> bool:
        """Counts a step as done. Returns whether the masks changed: `masks` is then a new set."""
        self.step += 1
        index = self.plan.update_at(self.step)
        if index is None:
            return False
        method = self.method
        sparsity = method.schedule.sparsity(index, self.plan.count, method.sparsity)
        scores = method.score.scores(params, self.masks)
        self.masks = prune(
            scores, self.masks, sparsity, method.distribution, method.pattern, method.cut
        )
        if method.rescore and index + 1 < self.plan.count:
            method.score.reset(params, self.generator)
        return True

    def check_finished(self) -> None:
        """Raises ValueError when the plan did not reach its end, the exact count was missed, or
        nothing was removed where something was to be.
        """
        wanted = kept_count(self.masks.total, self.method.sparsity)
        if self.step < self.plan.end:
            raise ValueError(f"pruning ended at step {self.step} of {self.plan.end}")
        if self.method.cut == "exact" and self.masks.kept != wanted:
            raise ValueError(f"{self.masks.kept} weights are kept, {wanted} were to be")
        if wanted < self.masks.total == self.masks.kept:
            raise ValueError(f"no weight was removed, {self.masks.total - wanted} were to be")

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors alone: score, packed masks, step and generator."""
        state = {f"score/{key}": value for key, value in self.method.score.state_dict().items()}
        state.update({f"mask/{name}": mask for name, mask in self.masks.items()})
        state["step"] = torch.tensor(self.step)
        state["generator"] = self.generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores `state_dict`. Raises KeyError or ValueError when it is another model's."""
        masks = {k.removeprefix("mask/"): t for k, t in state.items() if k.startswith("mask/")}
        loaded = MaskSet({name: t.to(self.masks[name].device) for name, t in masks.items()})
        loaded.check(self.masks)
        self.masks, self.step = loaded, int(state["step"])
        self.generator.set_state(state["generator"].cpu())
        score = {k.removeprefix("score/"): t for k, t in state.items() if k.startswith("score/")}
        self.method.score.load_state_dict(score)
