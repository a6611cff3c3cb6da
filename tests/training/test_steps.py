"""One optimizer step under masks: precision, accumulation, clipping, moments, frozen weights."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision

from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.snip import SnipScore
from seven_bench.pruning import Cubic, MaskSet, SevenScore, prunable_parameters
from seven_bench.pruning.pruner import MASKING, Method, Pruner, Settled
from seven_bench.testing import tiny
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Finetune, Recipe, freeze_others
from seven_bench.training.fit import fit
from seven_bench.training.masking import WAYS
from seven_bench.training.pruning_callback import PruningCallback
from tests.training.test_golden import COLUMNS, LR, MSE, NAME, ROWS, Line, LineModule

CPU = Context("accuracy", device=Device("cpu"))


def line(epochs=8, score=None, masking="hard", masks=None, **settings):
    """The one-layer problem with its callback, not yet trained."""
    reset_process(0, 1, True)
    recipe = Recipe(epochs, LR, 32, optimizer="sgd", momentum=0.0, **settings)
    module, data = LineModule(recipe), Line(seed=0, batch_size=32, files={"": Path()})
    data.setup()
    params = {NAME: module.model.layer.weight}
    pruner = Settled(masks or MaskSet.ones(params))
    if score is not None:
        schedule = Cubic(start="2it", steps="4it", warmup="2it")
        method = Method(score, schedule, 0.5, masking=masking)
        pruner = Pruner(method, schedule.plan(epochs, 1), params, torch.Generator())
    callback = PruningCallback(params, pruner)
    return module, data, callback


def halves(steps: int, callback, module, data, scale: float, device: str = "cpu") -> list:
    """Trains in 16-mixed with a gradient scaler; returns the weights after each step."""
    scaler = torch.amp.GradScaler(device, init_scale=scale, growth_interval=1000)
    history = []
    module.on_train_batch_end = lambda *_: history.append(callback.params[NAME].detach().clone())
    trainer = pl.Trainer(
        max_epochs=steps, accelerator=device, plugins=[MixedPrecision("16-mixed", device, scaler)],
        callbacks=[callback], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return history


@pytest.mark.filterwarnings("ignore")  # Lightning's advice on loaders
@pytest.mark.parametrize("masking", ["hard", "straight_through", "regrow", "rewire"])
def test_a_step_that_the_scaler_skips_changes_nothing(masking):
    """The first steps overflow in float16 and are skipped: score, masks and weights wait."""
    module, data, callback = line(12, MovementScore(), masking)
    start = callback.params[NAME].detach().clone()
    history = halves(12, callback, module, data, scale=2.0**20)
    skipped = callback.skipped_steps
    assert 2 <= skipped <= 6 and callback.pruner.step == 12 - skipped
    assert all(torch.equal(weight, start) for weight in history[:skipped])
    assert not torch.equal(history[skipped], start)
    callback.pruner.check_finished()
    final = callback.masks[NAME]
    assert int(history[-1][~final].count_nonzero()) == 0


@pytest.mark.filterwarnings("ignore")
def test_scores_are_taken_in_float32_on_unscaled_gradients():
    module, data, callback = line(8, SnipScore())
    halves(8, callback, module, data, scale=2.0**10)
    assert callback.skipped_steps == 0
    scored = callback.pruner.method.score.total[NAME]
    module, data, plain = line(8, SnipScore(), lr_schedule="constant", warmup=0.0)
    fit(module, data, plain, MSE)
    assert scored.dtype == torch.float32
    expected = plain.pruner.method.score.total[NAME]
    assert torch.allclose(scored, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore")
def test_a_fused_optimizer_with_scaled_gradients_is_refused():
    module, data, callback = line(2)
    weights = module.model.parameters
    module.configure_optimizers = lambda: torch.optim.SGD(weights(), lr=LR, fused=True)
    with pytest.raises(ValueError, match="fused optimizers see scaled gradients"):
        halves(2, callback, module, data, scale=1.0)


def scores_of(batch_size: int, accumulate: int) -> tuple[SevenScore, MaskSet]:
    """SEVEN's score after an epoch of 60 examples; dropout off."""
    reset_process(0, 1, True)
    recipe = Recipe(1, 0.01, batch_size, accumulate=accumulate, gradient_clip=1.0, warmup=0.0)
    module, data = tiny.TinyModule(tiny.start("vit"), recipe), tiny.tiny_data(0, batch_size)
    params = prunable_parameters(module.model)
    score, schedule = SevenScore(), Cubic(warmup="0it", steps="2it")
    method = Method(score, schedule, 0.5)
    pruner = Pruner(method, schedule.plan(2, 2), params, torch.Generator())
    callback = PruningCallback(params, pruner)
    fit(module, data, callback, CPU)
    return score, callback.masks


def test_four_batches_of_eight_score_as_one_of_thirty_two():
    """The second step has 28 examples: three batches of eight and one of four."""
    whole, masks = scores_of(32, 1)
    parts, others = scores_of(8, 4)
    differing = sum(int((masks[name] ^ others[name]).count_nonzero()) for name in masks)
    assert differing <= 0.001 * masks.total
    for name, value in whole.second.items():
        assert torch.allclose(value, parts.second[name], rtol=1e-3, atol=1e-9)


def test_gradients_of_removed_weights_do_not_count_in_clipping():
    """By hand: the norm that is clipped is that of what lives."""
    living = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    living[0, :3] = True
    module, data, callback = line(1, masks=MaskSet({NAME: living}), gradient_clip=0.1)
    train = data.splits["train"].columns
    weight = callback.params[NAME].detach().double() * living
    x, y = train["x"].double(), train["y"].double()
    gradient = ((x @ weight.T - y).T @ x / len(x)) * living
    assert gradient.norm() > 0.1
    fit(module, data, callback, MSE)
    expected = weight - LR * 0.1 * gradient / gradient.norm()
    assert torch.allclose(callback.params[NAME].detach().double(), expected, atol=1e-6)


def test_every_way_of_masking_has_its_words():
    assert WAYS.keys() == MASKING.keys()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_moments_of_removed_weights_are_zero(optimizer):
    reset_process(0, 1, True)
    recipe = Recipe(2, 0.01, 8, optimizer=optimizer)
    module, data = tiny.TinyModule(tiny.start("vit"), recipe), tiny.tiny_data(0)
    params = prunable_parameters(module.model)
    schedule = Cubic(steps="10it", warmup="0it")
    pruner = Pruner(
        Method(SevenScore(), schedule, 0.5), schedule.plan(16, 8), params, torch.Generator()
    )
    callback = PruningCallback(params, pruner)
    fit(module, data, callback, CPU)
    state = module.trainer.optimizers[0].state
    checked = 0
    for name, mask in callback.masks.items():
        for value in state[params[name]].values():
            if torch.is_tensor(value) and value.shape == mask.shape:
                assert int(value[~mask].count_nonzero()) == 0
                checked += 1
    assert checked == len(params) * (1 if optimizer == "sgd" else 2)


def test_a_frozen_weight_is_scored_and_removed_but_not_trained():
    reset_process(0, 1, True)
    recipe = Recipe(3, 0.05, 8, gradient_clip=1.0)
    module, data = tiny.TinyModule(tiny.start("vit"), recipe), tiny.tiny_data(0)
    params = prunable_parameters(module.model)
    module.finetune = Finetune("bitfit")
    freeze_others(module.model, module.finetune, params.values())
    frozen = list(params)
    before = {name: params[name].detach().clone() for name in params}
    schedule = Cubic(steps="12it", warmup="0it")
    pruner = Pruner(
        Method(SevenScore(), schedule, 0.5), schedule.plan(24, 8), params, torch.Generator()
    )
    callback = PruningCallback(params, pruner)
    wanted = []
    module.on_train_batch_end = lambda *_: wanted.append(params[frozen[0]].requires_grad)
    fit(module, data, callback, CPU)
    assert callback.masks.kept == callback.masks.total - callback.masks.total // 2
    assert any(not bool(callback.masks[name].all()) for name in frozen)
    for name, value in before.items():
        assert torch.equal(params[name].detach(), value * callback.masks[name])
    assert wanted == [True] * 11 + [False] * 13  # its gradient is asked for while scoring alone
    assert all(params[name].grad is None for name in frozen)


@pytest.mark.parametrize("method", [None, "seven"])
def test_a_gradient_that_is_not_finite_is_a_clear_error(method):
    module, data, callback = line(8, SevenScore() if method else None)
    data.splits["train"].columns["x"][3, 5] = float("inf")
    data.splits["train"].columns["y"][:, 0] = 0
    with pytest.raises(ValueError, match=rf"gradient of {NAME} is not finite at step 0"):
        fit(module, data, callback, MSE)
