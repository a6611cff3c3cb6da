"""The loop over an epoch does what Lightning's own does, in its order, and counts as it does."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from seven_bench.pruning import Cubic, MaskSet, SevenScore, prunable_parameters
from seven_bench.pruning.pruner import Method, Pruner, Settled
from seven_bench.testing import tiny
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.epoch_loop import HOOKS, EpochLoop
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import fit
from seven_bench.training.loggers import CurvesLogger
from seven_bench.training.pruning_callback import PruningCallback

FURTHER = ("on_validation_start", "on_validation_end", "on_train_epoch_start", "on_train_epoch_end")


class Witness(pl.Callback):
    """Notes every hook with the counters that there are, and logs a figure at every step."""

    def __init__(self, logs):
        self.seen, self.loops, self.logs = [], None, logs

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.note("on_train_batch_end", trainer, outputs["loss"], batch_idx)
        if self.logs:
            module.log("step/loss", outputs["loss"], on_step=True, on_epoch=True)

    def on_train_end(self, trainer, module):
        self.loops = trainer.fit_loop.state_dict()

    def note(self, name, trainer, *args):
        loop, module = trainer.fit_loop.epoch_loop, trainer.lightning_module
        plain = [a for a in args if isinstance(a, int)]
        plain += [float(a.detach()) for a in args if torch.is_tensor(a) and a.ndim == 0]
        state = (trainer.global_step, loop.total_batch_idx, loop._batches_that_stepped)
        graded = sum(p.grad is not None for p in module.parameters())
        self.seen.append((name, module._current_fx_name, *state, graded, plain))


def hook(name):
    return lambda self, trainer, module, *args: self.note(name, trainer, *args)


for each in (*HOOKS, *FURTHER):
    if each != "on_train_batch_end":
        setattr(Witness, each, hook(each))


class Further(tiny.TinyModule):
    """A module with hooks of its own, the last to be asked."""

    def on_after_backward(self):
        self.backwards = getattr(self, "backwards", 0) + 1
        self.log("step/backwards", float(self.backwards))


def trained(tmp_path, monkeypatch, own, logs, module=Further, **settings):
    """By our loop, or by Lightning's own: the witness, the loops it went through, the result."""
    went = []
    monkeypatch.setattr(EpochLoop, "advance", spied(EpochLoop.advance, went, "ours"))
    monkeypatch.setattr(_TrainingEpochLoop, "advance", spied(ADVANCE, went, "own"))
    if own:
        monkeypatch.setattr(EpochLoop, "take_place", lambda trainer: None)
    recipe = Recipe(3, 0.01, 32, gradient_clip=0.5, **settings)
    built, data = module(tiny.start("bert"), recipe), tiny.tiny_data(0, 32)
    reset_process(0, 1, True)
    params = prunable_parameters(built.model)
    schedule = Cubic(start="1it", steps="2it", warmup="0it")
    steps = -(-data.size("train") // 32)
    pruner = Pruner(
        Method(SevenScore(), schedule, 0.5), schedule.plan(3 * steps, steps), params,
        torch.Generator(),
    )  # fmt: skip
    witness, curves = Witness(logs), CurvesLogger(tmp_path)
    context = Context("accuracy", device=Device("cpu"), loggers=[curves], callbacks=[witness])
    done = fit(built, data, PruningCallback(params, pruner), context)
    monkeypatch.undo()
    return witness, went, done, curves.rows


ADVANCE = _TrainingEpochLoop.advance


def spied(method, went, name):
    def advance(self, fetcher):
        went.append(name)
        method(self, fetcher)

    return advance


@pytest.mark.parametrize("logs", [False, True], ids=["no_step_logs", "step_logs"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_is_lightnings_in_all_that_can_be_seen(tmp_path, monkeypatch, logs, precision):
    module = Further if logs else tiny.TinyModule
    ours, went, done, curves = trained(
        tmp_path, monkeypatch, False, logs, module, precision=precision
    )
    own, theirs, expected, rows = trained(
        tmp_path, monkeypatch, True, logs, module, precision=precision
    )
    assert set(went) == {"ours"} and set(theirs) == {"own"} and len(went) == len(theirs) > 5
    assert ours.seen == own.seen and {name for name, *_ in own.seen} == {*HOOKS, *FURTHER}
    assert ours.loops == own.loops
    assert curves == rows and ("step/loss_epoch" in curves[max(curves)]) == logs
    assert done.last_masks.hash() == expected.last_masks.hash()
    assert all(torch.equal(done.last[name], value) for name, value in expected.last.items())


class Stepping(tiny.TinyModule):
    """Has a way of its own to call the optimizer."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)


@pytest.mark.parametrize(
    ("module", "settings"), [(tiny.TinyModule, {"accumulate": 2}), (Stepping, {})]
)
def test_what_is_not_plain_goes_lightnings_way(module, settings):
    recipe = Recipe(1, 0.01, 32, **settings)
    built, data = module(tiny.start("vit"), recipe), tiny.tiny_data(0, 32)
    params = prunable_parameters(built.model)
    steps = []

    class Looking(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            steps.append(trainer.fit_loop.epoch_loop.step)

    callback = PruningCallback(params, Settled(MaskSet.ones(params)))
    fit(built, data, callback, Context("accuracy", device=Device("cpu"), callbacks=[Looking()]))
    assert steps == [None]
