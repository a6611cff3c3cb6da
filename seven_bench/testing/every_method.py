"""What every method keeps: exact counts, zeros, names, resumption, repetition, on tiny models.

Methods are known by nothing but what their YAML files declare. A check raises AssertionError with
what does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, Params, kept_count, prunable_parameters
from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.structure import structured_parameters
from seven_bench.pruning.units import Structure
from seven_bench.running.job import Below, Job
from seven_bench.running.prune_and_train import train_pruned
from seven_bench.running.rounds import level_below
from seven_bench.running.scope import pattern_of
from seven_bench.settings.building import build
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import choice, conf_dir, conf_sources, names_of
from seven_bench.settings.model import Settings
from seven_bench.settings.validity import takes_masks
from seven_bench.testing import tiny
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of
from seven_bench.training.fit import evaluate
from seven_bench.training.pruning_callback import PruningCallback

OPTIMIZERS = {"sgd": 0.03, "adamw": 0.01}  # name: learning rate
EPOCHS, STEPS_AN_EPOCH = 3, 8
CPU = Device("cpu")
KILLED_AT = 11  # batches: in the middle of the second epoch, and of pruning
SHORT = (
    "start=init", "logger=none", "progress=false", "trainer.threads=1", "trainer.accelerator=cpu",
    f"trainer.max_epochs={EPOCHS}", f"trainer.batch_size={tiny.BATCH}", "trainer.warmup=0",
    "trainer.weight_decay=0.1",
)  # fmt: skip
State = dict[str, Tensor]


class Killed(Exception):
    """The process ends here."""


def hold(condition: bool, words: str) -> None:
    """Raises AssertionError with words where a condition does not hold, also under `python -O`."""
    if not condition:
        raise AssertionError(words)


@dataclass
class Done:
    """What a run leaves."""

    masks: MaskSet
    state: State
    best: State
    score: State
    metrics: dict[str, float]
    losses: list[float]


class WatchedModule(tiny.TinyModule):
    """Looks at the weights after every batch and at every evaluation; may be killed."""

    kill_at: int | None = None
    before: MaskSet | None = None

    @property
    def pruning(self) -> PruningCallback:
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        return next(c for c in callbacks if isinstance(c, PruningCallback))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.kill_at == self.trainer.current_epoch * STEPS_AN_EPOCH + batch_idx:
            raise Killed

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.kill_at == self.trainer.current_epoch * STEPS_AN_EPOCH + batch_idx + 1:
            callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
            next(c for c in callbacks if isinstance(c, Checkpoint)).every = 0
        callback = self.pruning
        if not callback.masking.growing:
            assert_zero(callback.params, callback.masks)
        if callback.pruner.masking == "hard":
            now, before = callback.masks, self.before or callback.masks
            back = [name for name in before if bool((now[name] & ~before[name]).any())]
            hold(not back, f"{back}: removed weights came back")
            self.before = now

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert_zero(self.pruning.params, self.pruning.masks)
        super().validation_step(batch, batch_idx)


def methods() -> list[str]:
    """The methods that there are, by their files; small dense models are no methods of pruning."""
    return [name for name in names_of("pruner") if "small" not in choice(f"pruner/{name}")]


def assert_zero(params: Params, masks: MaskSet) -> None:
    """Raises AssertionError where a removed weight is not zero."""
    for name, mask in masks.items():
        hold(int(params[name].detach()[~mask].count_nonzero()) == 0, f"{name} is not zero")


def given_masks(method: str, model: str = "vit", sparsity: float = 0.5) -> list[str]:
    """What is typed beside the name of a method that takes its masks from elsewhere."""
    needs = choice(f"pruner/{method}").get("needs", ())
    if not any(NEEDS[need].given for need in needs):
        return []
    return [f"pruner.masks={tiny.masks_file(model, sparsity)}"]


@cache
def composed(method: str, optimizer: str) -> Settings:
    """The method's config, made short where it says how long it takes."""
    folders = [f"file://{source.folder}" for source in conf_sources()[1:]]
    given = [*SHORT, f"pruner={method}", f"trainer.optimizer={optimizer}"]
    given.append(f"trainer.lr={OPTIMIZERS[optimizer]}")
    given += given_masks(method)
    if folders:
        given.append(f"hydra.searchpath=[{','.join(folders)}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        pruner = checked(compose("config", given)).pruner
        if pruner.schedule is not None and pruner.schedule.arguments.get("every", 1) > 2:
            given.append("pruner.schedule.every=2")
        if pruner.calibration is not None:
            batches = pruner.calibration.examples // pruner.calibration.batch_size
            for examples in (6, batches):  # few if the schedule allows
                less = [
                    f"pruner.calibration.examples={examples}",
                    "pruner.calibration.batch_size=1",
                ]
                try:
                    checked(compose("config", [*given, *less]))
                except ConfigError:
                    continue
                given += less
                break
        return checked(compose("config", given))


def train(
    config: Settings,
    model: str,
    *,
    seed: int = 0,
    sparsity: float | None = None,
    checkpoint: Checkpoint | None = None,
    kill_at: int | None = None,
    device: Device = CPU,
) -> Done:
    """One run without its folder; rounds below it are done first."""
    sparsity = target(config) if sparsity is None else sparsity
    config = config.changed(seed=seed, sparsity=sparsity)
    if takes_masks(config.pruner):
        config = config.changed(pruner__masks=str(tiny.masks_file(model, sparsity)))
    lower = level_below(config)
    below, before = None, []
    if lower is not None:
        found = train(lower, model, seed=seed, sparsity=lower.sparsity)
        below, before = Below(found.state, found.masks), found.losses
    recipe = recipe_of(config)
    module, data = WatchedModule(tiny.start(model), recipe), tiny.tiny_data(seed, recipe.batch_size)
    reset_process(seed, 1, True)
    module.kill_at = kill_at
    params = prunable_parameters(module.model)
    if isinstance(units := pattern_of(config, module.model), Structure):
        params = structured_parameters(module.model, units)
    context = Context("accuracy", device=device, checkpoint=checkpoint)
    trained, _ = train_pruned(Job(config, module, params, data, context, below=below))
    score = module.pruning.pruner.state_dict()
    metrics = evaluate(module, data, device, trained.last)
    losses = [*before, *module.losses]
    return Done(trained.last_masks, trained.last, trained.best, score, metrics, losses)


def target(config: Settings) -> float:
    """The sparsity that a method is asked for."""
    return 0.3 if config.pruner.timing == "rounds" else 0.5


@cache
def reference(method: str, model: str, optimizer: str) -> Done:
    """Seed 0, uninterrupted."""
    return train(composed(method, optimizer), model)


def equal(one: State, other: State) -> bool:
    """Whether two sets of tensors are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def check_count(method: str, model: str, optimizer: str, _: Path) -> None:
    """The count is exact, zeros are zero, names are the plain model's, and training learns."""
    config, done = composed(method, optimizer), reference(method, model, optimizer)
    total, kept = done.masks.total, done.masks.kept
    wanted = total if config.pruner.timing == "none" else kept_count(total, target(config))
    if config.pruner.timing == "none" or config.pruner.cut == "exact":
        hold(kept == wanted, f"{kept} of {total} weights are kept, not {wanted}")
    else:  # thresholded by definition: what it reached is what it says
        hold(kept < total, "nothing was removed")
    plain = tiny.build(model, seed=9)
    plain.load_state_dict(done.state, strict=True)
    assert_zero(prunable_parameters(plain), done.masks)
    odd = [name for name, value in done.state.items() if not bool(torch.isfinite(value).all())]
    hold(not odd, f"{odd}: not finite")
    untrained = reference("dense", model, optimizer).losses[0]  # a round may begin below it
    first, last = max(untrained, done.losses[0]), done.losses[-1]
    hold(last < first, f"the loss went from {first} to {last}")


def check_resumed(method: str, model: str, optimizer: str, folder: Path) -> None:
    """Killed in the middle of an epoch and taken up again, a run ends as one that was not, bit for
    bit: weights, masks, the score's state, losses, metrics.
    """
    config, whole = composed(method, optimizer), reference(method, model, optimizer)
    path = folder / "last.ckpt"
    with suppress(Killed):
        train(config, model, checkpoint=Checkpoint(path, 1e9), kill_at=KILLED_AT)
        hold(False, "it was not killed")
    resumed = train(config, model, checkpoint=Checkpoint(path, 1e9))
    hold(resumed.losses[-2:] == whole.losses[-2:], "resumed, its losses are others")
    hold(resumed.masks.hash() == whole.masks.hash(), "resumed, its masks are others")
    hold(equal(resumed.state, whole.state), "resumed, its weights are others")
    hold(equal(resumed.best, whole.best), "resumed, its best weights are others")
    hold(equal(resumed.score, whole.score), "resumed, its score's state is another")
    hold(resumed.metrics == whole.metrics, "resumed, its metrics are others")


def check_zero_sparsity(method: str, model: str, optimizer: str, _: Path) -> None:
    """At sparsity 0 it is the dense run."""
    unpruned = train(composed(method, optimizer), model, sparsity=0.0)
    hold(unpruned.masks.kept == unpruned.masks.total, "at sparsity 0 weights are removed")
    same = composed(method, optimizer).trainer == composed("dense", optimizer).trainer
    plain = reference("dense", model, optimizer)
    hold(not same or equal(unpruned.state, plain.state), "at sparsity 0 it is not the dense run")


def check_seed(method: str, model: str, optimizer: str, _: Path) -> None:
    """Another seed gives other masks, unless nothing in the method is random or looks at data."""
    config, whole = composed(method, optimizer), reference(method, model, optimizer)
    other = train(config, model, seed=1)
    fixed = config.pruner.timing == "none" or _static(config)
    same = other.masks.hash() == whole.masks.hash()
    hold(same is fixed, f"masks of another seed are {'the same' if same else 'others'}")


def _static(config: Settings) -> bool:
    pruner = config.pruner
    score = build(pruner.score) if pruner.timing == "before" and pruner.score else None
    if score is None or not score.needs <= {"weights", "linear_gradient", "given_masks"}:
        return False
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    score.reset({"weight": torch.ones(2, 2)}, generator)
    return torch.equal(generator.get_state(), state)


Check = Callable[[str, str, str, Path], None]
CHECKS: dict[str, Check] = {
    "exact count, zeros, names, loss": check_count,
    "resumed as uninterrupted": check_resumed,
    "sparsity 0 is dense": check_zero_sparsity,
    "the seed decides": check_seed,
}
