"""Every method of conf/pruner x tiny ViT, BERT, CLIP x SGD with momentum, AdamW with weight decay.

Methods are found by their YAML files and known by nothing but what these declare.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from seven_bench.errors import ConfigError
from seven_bench.pruning import MaskSet, kept_count, prunable_parameters
from seven_bench.pruning.structure import structured_parameters
from seven_bench.pruning.units import Structure
from seven_bench.running.job import Below, Job
from seven_bench.running.prune_and_train import train_pruned
from seven_bench.running.rounds import level_below
from seven_bench.running.scoring import pattern_of
from seven_bench.settings.building import build
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import conf_dir
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import recipe_of
from seven_bench.training.fit import evaluate
from seven_bench.training.pruning_callback import PruningCallback
from tests.training import tiny

METHODS = sorted(
    path.stem
    for path in (conf_dir() / "pruner").glob("*.yaml")
    if "\nsmall:" not in path.read_text()  # models of their own: tests/training/test_small.py
)
OPTIMIZERS = {"sgd": 0.03, "adamw": 0.01}  # name: learning rate
EPOCHS, STEPS_AN_EPOCH = 3, 8
CPU = Device("cpu")
KILLED_AT = 11  # batches: in the middle of the second epoch, and of pruning
SHORT = (
    "start=init", "logger=none", "progress=false", "trainer.threads=1", "trainer.accelerator=cpu",
    f"trainer.max_epochs={EPOCHS}", f"trainer.batch_size={tiny.BATCH}", "trainer.warmup=0",
    "trainer.weight_decay=0.1",
)  # fmt: skip


class Killed(Exception):
    """The process ends here."""


@dataclass
class Done:
    """What a run leaves."""

    masks: MaskSet
    state: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    score: dict[str, torch.Tensor]
    metrics: dict[str, float]
    losses: list[float]


class WatchedModule(tiny.TinyModule):
    """Looks at the weights after every batch and at every evaluation; may be killed."""

    kill_at: int | None = None

    @property
    def pruning(self) -> PruningCallback:
        return next(c for c in self.trainer.callbacks if isinstance(c, PruningCallback))

    def on_train_batch_start(self, batch, batch_idx):
        if self.kill_at == self.trainer.current_epoch * STEPS_AN_EPOCH + batch_idx:
            raise Killed

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.kill_at == self.trainer.current_epoch * STEPS_AN_EPOCH + batch_idx + 1:
            next(c for c in self.trainer.callbacks if isinstance(c, Checkpoint)).every = 0
        callback = self.pruning
        if not callback.masking.growing:
            assert_zero(callback.params, callback.masks)
        if callback.pruner.masking == "hard":
            before = getattr(self, "before", callback.masks)
            assert not any(bool((callback.masks[n] & ~before[n]).any()) for n in before), "back"
            self.before = callback.masks

    def validation_step(self, batch, batch_idx):
        assert_zero(self.pruning.params, self.pruning.masks)
        super().validation_step(batch, batch_idx)


def assert_zero(params, masks):
    for name, mask in masks.items():
        assert int(params[name].detach()[~mask].count_nonzero()) == 0, f"{name} is not zero"


@cache
def composed(method: str, optimizer: str):
    """The method's config, made short where it says how long it takes."""
    given = [*SHORT, f"pruner={method}", f"trainer.optimizer={optimizer}"]
    given.append(f"trainer.lr={OPTIMIZERS[optimizer]}")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = checked(compose("config", given))
        pruner = config.pruner
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


def train(config, model, seed=0, sparsity=None, checkpoint=None, kill_at=None, device=CPU) -> Done:
    """One run without its folder; rounds below it are done first."""
    sparsity = target(config) if sparsity is None else sparsity
    config = config.changed(seed=seed, sparsity=sparsity)
    lower = level_below(config)
    below = None
    if lower is not None:
        found = train(lower, model, seed, lower.sparsity)
        below = Below(found.state, found.masks)
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
    losses = [*(found.losses if lower is not None else []), *module.losses]
    metrics = evaluate(module, data, device, trained.last)
    return Done(trained.last_masks, trained.last, trained.best, score, metrics, losses)


def target(config) -> float:
    return 0.3 if config.pruner.timing == "rounds" else 0.5


@cache
def reference(method: str, model: str, optimizer: str) -> Done:
    """Seed 0, uninterrupted."""
    return train(composed(method, optimizer), model)


@cache
def dense(model: str, optimizer: str) -> Done:
    return train(composed("dense", optimizer), model)


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture(params=tiny.MODELS)
def model(request):
    return request.param


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request):
    return request.param


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_count_zeros_names_and_loss(method, model, optimizer):
    config, done = composed(method, optimizer), reference(method, model, optimizer)
    total = done.masks.total
    wanted = kept_count(total, target(config))
    if config.pruner.timing == "none":
        assert done.masks.kept == total
    elif config.pruner.cut == "exact":
        assert done.masks.kept == wanted
    else:
        assert done.masks.kept < total  # thresholded by definition: what it reached is what it says
    plain = tiny.build(model, seed=9)
    plain.load_state_dict(done.state, strict=True)
    assert_zero(prunable_parameters(plain), done.masks)
    assert all(torch.isfinite(value).all() for value in done.state.values())
    untrained = reference("dense", model, optimizer).losses[0]  # a round may begin below it
    assert done.losses[-1] < max(untrained, done.losses[0])


def test_resumed_equals_uninterrupted(method, model, optimizer, tmp_path):
    config, whole = composed(method, optimizer), reference(method, model, optimizer)
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        train(config, model, checkpoint=Checkpoint(path, 1e9), kill_at=KILLED_AT)
    resumed = train(config, model, checkpoint=Checkpoint(path, 1e9))
    assert resumed.losses[-2:] == whole.losses[-2:]
    assert resumed.masks.hash() == whole.masks.hash()
    assert equal(resumed.state, whole.state) and equal(resumed.best, whole.best)
    assert equal(resumed.score, whole.score)
    assert resumed.metrics == whole.metrics


def test_sparsity_zero_is_dense(method, model, optimizer):
    unpruned, plain = train(composed(method, optimizer), model, sparsity=0.0), None
    plain = dense(model, optimizer)
    assert unpruned.masks.kept == unpruned.masks.total
    if same_training(method, optimizer):
        assert equal(unpruned.state, plain.state)


def same_training(method: str, optimizer: str) -> bool:
    return composed(method, optimizer).trainer == composed("dense", optimizer).trainer


def test_the_seed_decides(method, model):
    """Another seed gives other masks, unless nothing in the method is random or looks at data."""
    config, whole = composed(method, "adamw"), reference(method, model, "adamw")
    other = train(config, model, seed=1)
    fixed = config.pruner.timing == "none" or static(config)
    assert (other.masks.hash() == whole.masks.hash()) is fixed


def static(config) -> bool:
    pruner = config.pruner
    score = build(pruner.score) if pruner.timing == "before" else None
    if score is None or not score.needs <= {"weights", "linear_gradient"}:
        return False
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    score.reset({"weight": torch.ones(2, 2)}, generator)
    return torch.equal(generator.get_state(), state)


def test_methods_are_found_by_their_files():
    assert {"dense", "snip", "seven_pre", "seven_dyn", "platon", "movement", "lth"} <= {*METHODS}
    assert all((Path(conf_dir()) / "pruner" / f"{name}.yaml").is_file() for name in METHODS)
