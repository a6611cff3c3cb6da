"""Zeros that stay zero, and pruning during training, in a training loop of one's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params, Score
from seven_bench.pruning.masks import reachable_count
from seven_bench.pruning.pruner import Method, Pruner, Settled
from seven_bench.pruning.structure import CoupledBiases
from seven_bench.pruning.units import Structure
from seven_bench.python.methods import Wanted, compose, prunable_of
from seven_bench.running.scope import units_of
from seven_bench.running.scoring import scoring_generator
from seven_bench.training.pruned_steps import PrunedSteps
from seven_bench.training.pruning_callback import PruningCallback


class Keeper:
    """Hooks on an optimizer that keep removed weights at exactly zero, and run a method.

    Nothing need be called in the loop, but for two cases. Who clips gradients calls `before_step`
    first, so that neither removed weights count in the norm nor scores see what was clipped. Who
    uses a gradient scaler and a method calls `scaler.unscale_(optimizer)` and then `before_step`.

    `evaluating` is for methods that let weights grow back between updates (PLATON): inside, the
    model is the pruned one. `state_dict` and `load_state_dict` make a training resume bit for bit,
    loaded after model and optimizer.
    """

    def __init__(self, steps: PrunedSteps, optimizer: Optimizer, named: Params) -> None:
        self.steps, self.optimizer = steps, optimizer
        self._ready = False  # this step's gradients have been seen
        steps.ask_gradients()
        steps.start(optimizer, named)
        before: Any = self._before_step
        self._hooks = [
            optimizer.register_step_pre_hook(before),
            optimizer.register_step_post_hook(self._after_step),
        ]

    @property
    def masks(self) -> MaskSet:
        """The masks as they are now."""
        return self.steps.masks

    @property
    def pruner(self) -> Pruner | Settled:
        """The method at work."""
        return self.steps.pruner

    def before_step(self) -> None:
        """The step's gradients are complete, unscaled and not yet clipped."""
        self._see(clipped=True, scaled=True)

    def check_finished(self) -> None:
        """Raises ValueError when the method has not reached its sparsity, with both numbers."""
        self.pruner.check_finished()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, every removed weight is zero, whatever the method does between updates."""
        self.steps.masking.before_evaluation()
        try:
            yield
        finally:
            self.steps.masking.after_evaluation()

    def remove(self) -> None:
        """Takes the hooks off the optimizer; weights are no longer kept at zero."""
        for hook in self._hooks:
            hook.remove()
        self.steps.stop()

    def state_dict(self) -> dict[str, Any]:
        """Masks, scores and steps: tensors and plain values, that load with `weights_only`."""
        return self.steps.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there, once model and optimizer have loaded what was saved with it."""
        self.steps.load_state_dict(state_dict)
        self.steps.apply()

    def _see(self, *, clipped: bool, scaled: bool) -> None:
        odd = self.steps.before_step(self.optimizer, clipped=clipped)
        self._ready = odd is None
        if odd is None:
            return
        self.steps.masking.abandon_step()
        if not scaled:
            if _scaled_inside(self.optimizer):  # by the scaler's own check this step is none
                return
            raise ValueError(f"the gradient of {odd} is not finite")
        self.steps.skipped_steps += 1  # a scaler takes no such step; without one, see above

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure = (*args[1:], *kwargs.values(), None)[0]  # the first is the optimizer
        if closure is not None and not isinstance(self.pruner, Settled):
            raise ValueError(
                "a closure makes gradients inside the step, where no score can see them; in "
                "Lightning use the callback that keep_pruned makes without an optimizer"
            )
        if _scaled_inside(optimizer) and not isinstance(self.pruner, Settled):
            raise ValueError(
                "with a gradient scaler a fused optimizer finds out inside its step whether there "
                "is one, and no method can count it: make the optimizer with fused=False"
            )
        if closure is None and not self._ready:
            self._see(clipped=False, scaled=False)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._ready = False


def _scaled_inside(optimizer: Optimizer) -> bool:
    """Whether the step under way is a gradient scaler's, which leaves it to a fused optimizer to
    find out whether there is a step at all.
    """
    return getattr(optimizer, "found_inf", None) is not None


class Options(TypedDict, total=False):
    """How a method of `keep_pruned` prunes: `steps_per_epoch` is what "ep" in a schedule's times
    stands for (default: 1 step), the others are as for `prune`.
    """

    steps_per_epoch: int
    prunable: str | Wanted | None
    include: Collection[str]
    pattern: str | None
    distribution: str | None
    schedule: Mapping[str, Any] | None
    score: Mapping[str, Any] | None
    seed: int


@overload
def keep_pruned(
    model: nn.Module,
    optimizer: Optimizer,
    masks: Mapping[str, Tensor] | None = None,
    method: str | Score | None = None,
    sparsity: float = 0.9,
    steps: int | None = None,
    **options: Unpack[Options],
) -> Keeper: ...


@overload
def keep_pruned(
    model: nn.Module,
    optimizer: None = None,
    masks: Mapping[str, Tensor] | None = None,
    method: str | Score | None = None,
    sparsity: float = 0.9,
    steps: int | None = None,
    **options: Unpack[Options],
) -> PruningCallback: ...


def keep_pruned(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    masks: Mapping[str, Tensor] | None = None,
    method: str | Score | None = None,
    sparsity: float = 0.9,
    steps: int | None = None,
    **options: Unpack[Options],
) -> Keeper | PruningCallback:
    """Keeps removed weights at zero in training, and removes more by a method that prunes during
    it.

    Args:
        model: the module that is trained, on its device.
        optimizer: of a plain loop; None: the result is a callback for Lightning's Trainer.
        masks: what has been removed already, as `prune` gives it; a method goes on from there once
            its schedule is beyond it.
        method: a choice of `pruner=` that prunes during training, or a score of one's own; None:
            nothing more is removed.
        sparsity: what the method comes to.
        steps: optimizer steps that there will be; a schedule's fractions are of these.
        **options: how the method prunes, see `Options`.

    Returns: hooks on the optimizer (`Keeper`), or a callback of Lightning's.

    Raises: ConfigError when the arguments do not go together, or the schedule does not fit into
        the steps.
    """
    made: Pruner | Settled
    if method is not None:
        params, made = _at_work(model, masks, method, sparsity, steps, options)
        pattern: str | Structure = made.method.pattern
    elif masks is not None:
        kept = MaskSet(dict(masks))
        params = _params(model, kept)
        made = Settled(kept.to(next(iter(params.values())).device))
        pattern = units_of(options.get("pattern") or "unstructured", model)
    else:
        raise ConfigError("masks and method are missing: one says what is to be zero")
    biases = CoupledBiases(model, pattern) if isinstance(pattern, Structure) else None
    if optimizer is None:
        return PruningCallback(params, made, biases)
    return Keeper(PrunedSteps(params, made, biases), optimizer, _named(model, optimizer))


def _at_work(
    model: nn.Module,
    masks: Mapping[str, Tensor] | None,
    method: str | Score,
    sparsity: float,
    steps: int | None,
    options: Options,
) -> tuple[Params, Pruner]:
    """A method laid over the steps of a training."""
    composed = compose(
        model, method, "during", sparsity, {key: options.get(key) for key in ("score", "schedule")},
        pattern=options.get("pattern"), distribution=options.get("distribution"),
    )  # fmt: skip
    rules = composed.method
    if steps is None:
        raise ConfigError(f"steps is missing: method={rules} has to know how many there will be")
    include = options.get("include", ())
    params = prunable_of(model, composed, options.get("prunable"), include)
    try:
        plan = rules.schedule.plan(steps, options.get("steps_per_epoch", 1))
    except ValueError as error:
        raise ConfigError(f"method={rules}: {error}") from error
    begun = None if masks is None else _begun(masks, params, rules)
    generator = scoring_generator(options.get("seed", 0))
    return params, Pruner(rules, plan, params, generator, begun)


def _begun(masks: Mapping[str, Tensor], params: Params, rules: Method) -> MaskSet:
    """Masks that a method goes on from. Raises ConfigError where it could not."""
    begun = MaskSet(dict(masks))
    try:
        begun.check(params)
    except ValueError as error:
        raise ConfigError(f"masks: {error}; method={rules} is to prune the same weights") from error
    if rules.masking != "hard":
        raise ConfigError(
            f"masks: under method={rules} weights may grow back, so it begins with none removed"
        )
    if begun.kept < (due := reachable_count(begun, rules.sparsity, rules.pattern)):
        raise ConfigError(
            f"masks: {begun.kept} weights are left, fewer than the {due} that "
            f"sparsity={rules.sparsity} keeps"
        )
    return begun


def _params(model: nn.Module, masks: MaskSet) -> Params:
    """The weights that masks are of. Raises ConfigError when the model has no such ones."""
    named = dict(model.named_parameters())
    if odd := [name for name in masks if name not in named]:
        raise ConfigError(f"masks: {type(model).__name__} has no weight {odd[0]}")
    params: Params = {name: named[name] for name in masks}
    try:
        masks.check(params)
    except ValueError as error:
        raise ConfigError(f"masks: {error}") from error
    return params


def _named(model: nn.Module, optimizer: Optimizer) -> Params:
    """All that may have a gradient, by name: what a gradient scaler looks at too."""
    named: Params = dict(model.named_parameters())
    known = {id(parameter) for parameter in named.values()}
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    others: list[torch.Tensor] = [p for p in trained if id(p) not in known]
    return {**named, **{f"parameter {i} of another module": p for i, p in enumerate(others)}}
