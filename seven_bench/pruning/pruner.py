"""One method at work on one model: a score, a plan, and the masks they have led to so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seven_bench.pruning.contract import check_tensors, unchanged
from seven_bench.pruning.masks import MaskSet, prune, reachable_count
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.schedules import Plan, Schedule
from seven_bench.pruning.scores import Observation, Score
from seven_bench.pruning.units import Structure

BEGIN = {
    "dense": "everything lives until the first update",
    "random": "weights drawn at random are removed before the first step, as many as will be",
}
MASKING = {
    "hard": "removed weights are zero after every step and never come back",
    "rewire": "removed weights are zero after every step; an update may bring some back, from zero",
    "regrow": "removed weights are set to zero at an update and grow on from there until the next",
    "straight_through": "the weights underneath stay; the model computes with weight x mask",
}


@dataclass(frozen=True)
class Method:
    """A score and what is composed around it. `sparsity` is the final fraction removed.

    `rescore` starts the score anew after every update; `observe_at` says whether a method that
    prunes during training sees weights "before_step" or "after_step" of the optimizer; `cut` is
    that of `prune`; `masking`, of `MASKING`, is how a mask acts during training; `begin`, of
    `BEGIN`, is what lives at the start; `takes_step` says that an update during training takes the
    place of the optimizer's step; `name` stands in errors (the score's class where it is empty).
    """

    score: Score
    schedule: Schedule
    sparsity: float
    distribution: str = "global"
    pattern: str | Structure = "unstructured"
    rescore: bool = False
    observe_at: str = "before_step"
    cut: str = "exact"
    masking: str = "hard"
    begin: str = "dense"
    takes_step: bool = False
    name: str = ""

    def __str__(self) -> str:
        return self.name or type(self.score).__name__


@dataclass(frozen=True)
class Update:
    """What one update makes of the masks `before` it.

    `weights` are those that the score puts in the place of what it was shown, before the new masks
    act; None where it changes masks alone, as most do.
    """

    before: MaskSet
    masks: MaskSet
    weights: Params | None = None


class Pruner:
    """Observes, and updates its masks when the plan says so. Under `hard` masking masks only ever
    lose weights; under the others every weight competes at each update.

    Args:
        method: what to do.
        plan: the method's schedule over the steps there are.
        params: the prunable weights, by name; they are read, never written.
        generator: the score's only source of randomness.
        masks: what an earlier round has removed already (None: what the method begins with).
        on_update: called with every update, to compare it between processes.
    """

    def __init__(
        self,
        method: Method,
        plan: Plan,
        params: Params,
        generator: torch.Generator,
        masks: MaskSet | None = None,
        on_update: Callable[[Update], None] | None = None,
    ) -> None:
        self.method, self.plan, self.generator = method, plan, generator
        self.masks = self._first_masks(params) if masks is None else masks
        self.on_update = on_update
        self.step = 0
        self.method.score.reset(params, generator)

    def _first_masks(self, params: Params) -> MaskSet:
        method, everything = self.method, MaskSet.ones(params)
        if method.begin == "dense":
            return everything
        scores = {
            name: torch.rand(p.shape, generator=self.generator).to(p.device)
            for name, p in params.items()
        }
        sparsity = method.schedule.sparsity(0, self.plan.count, method.sparsity)
        return prune(scores, everything, sparsity, method.distribution, method.pattern)

    @property
    def takes_step(self) -> bool:
        """Whether the step at hand is to be an update and nothing else (never where nothing is to
        be removed).
        """
        due = self.method.takes_step and self.method.sparsity > 0
        return due and self.plan.update_at(self.step + 1) is not None

    @property
    def masking(self) -> str:
        return self.method.masking

    @property
    def needs_gradients(self) -> bool:
        """Whether the score looks at more than the weights."""
        return not self.method.score.needs <= {"weights"}

    @property
    def reached(self) -> bool:
        """Whether the final sparsity is reached; `settled` once the masks move no more."""
        return self.step >= self.plan.reached

    @property
    def settled(self) -> bool:
        return self.step >= self.plan.end

    def observes(self, when: str) -> bool:
        """Whether the score is to see the step under way, "before_step" or "after_step"."""
        due = self.method.observe_at == when and self.plan.observes(self.step + 1)
        return due and self.needs_gradients

    def observe(
        self,
        params: Params,
        grads: Params | None = None,
        supplied: Mapping[str, Params] | None = None,
        learning_rate: float | None = None,
        lr_factor: float = 1.0,
    ) -> None:
        """Shows the score one step, unless the plan lets this one pass.

        The arguments are fields of `Observation`.
        """
        if self.plan.observes(self.step + 1):
            step = self.step - self.plan.observe_from
            done = self.plan.progress(self.step + 1)
            seen = Observation(
                params,
                grads or {},
                self.masks,
                step,
                progress=done,
                sparsity=self.method.sparsity,
                pattern=self.method.pattern,
                supplied=supplied or {},
                learning_rate=learning_rate,
                lr_factor=lr_factor,
            )
            with unchanged(str(self.method), params, seen.grads, self.masks):
                self.method.score.observe(seen)

    def advance(self, params: Params) -> Update | None:
        """Counts a step as done. Returns the update that follows it, if one does: `masks` is then
        a new set, and whoever holds the weights has to put its `weights` in their place.
        """
        self.step += 1
        index = self.plan.update_at(self.step)
        if index is None:
            return None
        update = self.proposed(params, index)
        self.masks = update.masks
        if self.method.rescore and self.step < self.plan.reached:
            self.method.score.reset(params, self.generator)
        if self.on_update is not None:
            self.on_update(update)
        return update

    def proposed(self, params: Params, index: int = -1) -> Update:
        """What update `index` (-1: the last) would make of the scores as they are.

        Raises: ValueError naming the method, when it breaks `seven_bench.pruning.contract`.
        """
        method, count = self.method, self.plan.count
        sparsity = method.schedule.sparsity(index % count, count, method.sparsity)
        competing = self.masks if method.masking == "hard" else MaskSet.ones(params)
        if method.cut == "exact" and competing.kept < reachable_count(
            competing, sparsity, method.pattern
        ):  # of what an earlier round has removed a schedule from dense is behind at first
            return Update(self.masks, self.masks)
        with unchanged(str(method), params, self.masks, sampled=True):
            scores = method.score.scores(params, self.masks)
            check_tensors(str(method), "scores", scores, params)
            scores = {name: scores[name] for name in params}  # ties go by the parameters' order
            try:
                masks = prune(
                    scores, competing, sparsity, method.distribution, method.pattern, method.cut,
                    params, method.schedule.density(index % count, count, method.sparsity),
                )  # fmt: skip
            except ValueError as error:
                raise ValueError(f"{method}: {error}") from error
            weights = method.score.update_weights(params, self.masks, masks)
        return Update(self.masks, masks, None if weights is None else self._taken(weights, params))

    def _taken(self, weights: Params, params: Params) -> Params:
        """Copies of the weights that a score puts in the place of `params`, once they are sound."""
        name = str(self.method)
        check_tensors(name, "weights", weights, params)
        for parameter, weight in weights.items():
            if weight.dtype != torch.float32:
                kind = str(weight.dtype).removeprefix("torch.")
                raise ValueError(f"{name}: its weights of {parameter} are {kind}, not float32")
        finite = torch.stack([torch.isfinite(weight).all() for weight in weights.values()])
        for parameter, sound in zip(weights, finite.tolist(), strict=True):  # the host waits once
            if not sound:
                raise ValueError(f"{name}: its weights of {parameter} are not finite")
        return {parameter: weights[parameter].detach().clone() for parameter in params}

    def check_finished(self) -> None:
        """Raises ValueError when the plan did not reach its end, the exact count was missed, or
        nothing was removed where something was to be.
        """
        due = reachable_count(self.masks, self.method.sparsity, self.method.pattern)
        if not self.reached:
            raise ValueError(f"pruning ended at step {self.step} of {self.plan.reached}")
        if self.method.cut == "exact" and self.masks.kept != due:
            raise ValueError(f"{self.masks.kept} weights are kept, {due} were to be")
        if due < self.masks.total == self.masks.kept:
            raise ValueError(f"no weight was removed, {self.masks.total - due} were to be")

    def to(self, device: torch.device) -> None:
        """Moves masks and the score's state to where the parameters are."""
        self.masks = self.masks.to(device)
        state = self.method.score.state_dict()
        self.method.score.load_state_dict({key: value.to(device) for key, value in state.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors alone: score, masks, step and generator."""
        state = {f"score/{key}": value for key, value in self.method.score.state_dict().items()}
        state.update(_mask_state(self.masks))
        state["step"] = torch.tensor(self.step)
        state["generator"] = self.generator.get_state()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores `state_dict`. Raises KeyError or ValueError when it is another model's."""
        device = next(iter(self.masks.values())).device
        self.masks, self.step = _masks_of(state, self.masks), int(state["step"])
        self.generator.set_state(state["generator"].cpu())
        score = {k.removeprefix("score/"): t for k, t in state.items() if k.startswith("score/")}
        self.method.score.load_state_dict(score)
        self.to(device)


class Settled:
    """What a `Pruner` is to a training loop in which nothing more is removed."""

    masking = "hard"
    needs_gradients = takes_step = False
    reached = settled = True

    def __init__(self, masks: MaskSet) -> None:
        self.masks = masks

    def observes(self, when: str) -> bool:
        return False

    def observe(
        self, params: Params, grads: Params, *, learning_rate: float, lr_factor: float
    ) -> None:
        """Nobody looks."""

    def advance(self, params: Params) -> Update | None:
        return None

    def check_finished(self) -> None:
        """It always is."""

    def to(self, device: torch.device) -> None:
        self.masks = self.masks.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        return _mask_state(self.masks)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.masks = _masks_of(state, self.masks)


def _mask_state(masks: MaskSet) -> dict[str, Tensor]:
    return {f"mask/{name}": mask for name, mask in masks.items()}


def _masks_of(state: dict[str, Tensor], like: MaskSet) -> MaskSet:
    """The masks in a checkpoint. Raises ValueError when they are another model's."""
    masks = {k.removeprefix("mask/"): t for k, t in state.items() if k.startswith("mask/")}
    loaded = MaskSet(masks)
    loaded.check(like)
    return loaded
