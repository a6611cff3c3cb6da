"""Training on a GPU: exact counts, zeros that stay, skipped steps, resume and repetition."""

from __future__ import annotations

import pytest
import torch

from seven_bench.baselines.movement import MovementScore
from seven_bench.pruning import kept_count
from seven_bench.testing import tiny
from seven_bench.testing.every_method import (
    KILLED_AT,
    Killed,
    composed,
    equal,
    methods,
    target,
    train,
)
from seven_bench.training.checkpoint import Checkpoint
from seven_bench.training.context import Device
from seven_bench.training.finetune import Recipe, implementation, make_optimizer
from tests.training import test_steps

GPU = "gpu"  # made in a test, for it refuses to be where there is none


@pytest.mark.parametrize("method", methods())
def test_every_method_keeps_its_count_and_its_zeros(method):
    """The module looks at the zeros after every batch and at every evaluation."""
    config = composed(method, "adamw")
    done = train(config, "vit", device=Device(GPU))
    total = done.masks.total
    if config.pruner.timing == "none":
        assert done.masks.kept == total
    elif config.pruner.cut == "exact":
        assert done.masks.kept == kept_count(total, target(config))
    else:
        assert done.masks.kept < total
    assert all(torch.isfinite(value).all() for value in done.state.values())
    assert all(not bool(done.state[name][~mask.cpu()].any()) for name, mask in done.masks.items())
    assert done.losses[-1] < max(done.losses[0], 1.5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("method", "model"),
    [("seven_dyn", "vit"), ("seven_dyn", "bert"), ("seven_dyn", "clip"), ("movement", "vit")],
)
def test_zeros_stay_in_mixed_precision(method, optimizer, precision, model):
    config = composed(method, optimizer).changed(trainer__precision=precision)
    done = train(config, model, device=Device(GPU))
    assert done.masks.kept == kept_count(done.masks.total, target(config))
    assert all(value.dtype != torch.float16 for value in done.state.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("masking", ["hard", "straight_through", "regrow", "rewire"])
def test_a_step_that_the_scaler_skips_changes_nothing(masking):
    module, data, callback = test_steps.line(12, MovementScore(), masking)
    start = callback.params[test_steps.NAME].detach().clone()
    history = test_steps.halves(12, callback, module, data, scale=2.0**20, device="cuda")
    skipped = callback.skipped_steps
    assert 2 <= skipped <= 6 and callback.pruner.step == 12 - skipped
    assert all(torch.equal(weight.cpu(), start) for weight in history[:skipped])
    assert not torch.equal(history[skipped].cpu(), start)
    callback.pruner.check_finished()
    final = callback.masks[test_steps.NAME].to(history[-1].device)
    assert int(history[-1][~final].count_nonzero()) == 0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", ["seven_dyn", "platon", "movement", "snip", "rigl"])
def test_resumed_equals_uninterrupted_and_repeats(method, precision, tmp_path):
    """Bit for bit, under deterministic=true; two whole runs in one process too."""
    config = composed(method, "adamw").changed(trainer__precision=precision)
    whole, again = (train(config, "vit", device=Device(GPU)) for _ in range(2))
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        train(
            config, "vit", checkpoint=Checkpoint(path, 1e9), kill_at=KILLED_AT, device=Device(GPU)
        )
    resumed = train(config, "vit", checkpoint=Checkpoint(path, 1e9), device=Device(GPU))
    for other in (again, resumed):
        assert other.losses[-2:] == whole.losses[-2:]
        assert other.masks.hash() == whole.masks.hash()
        assert equal(other.state, whole.state) and equal(other.score, whole.score)
        assert other.metrics == whole.metrics


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_steps_are_those_of_the_cpu(name, precision):
    """Fused but under a scaler, where a fused optimizer would be shown scaled gradients."""
    recipe = Recipe(1, 0.01, 8, optimizer=name, weight_decay=0.1, precision=precision)
    gradients = torch.randn(3, 32, 16, generator=torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", "cuda", "cuda"):
        model = tiny.start("vit").to(device)
        optimizer = make_optimizer(model, recipe)
        assert implementation(optimizer) == ("plain" if precision == "16-mixed" else "fused")
        weight = model.get_parameter("blocks.0.mlp.fc1.weight")
        for gradient in gradients:
            weight.grad = gradient.to(device)
            optimizer.step()
        found.append(weight.detach().cpu())
    assert torch.equal(found[1], found[2])
    assert torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize(
    ("method", "model"), [("seven_dyn", "vit"), ("movement", "vit"), ("grasp", "bert")]
)
def test_compiled_training(method, model, precision, tmp_path):
    """Names, count and zeros as ever; repeated and resumed bit for bit; the plain steps' losses.
    GraSP's second derivatives are those of the plain model.
    """
    plain = composed(method, "adamw").changed(trainer__precision=precision)
    config = plain.changed(trainer__compile=True)
    gpu = Device(GPU)
    eager, whole = train(plain, model, device=gpu), train(config, model, device=gpu)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    again = train(config, model, device=gpu)
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        train(config, model, checkpoint=Checkpoint(path, 1e9), kill_at=KILLED_AT, device=gpu)
    resumed = train(config, model, checkpoint=Checkpoint(path, 1e9), device=gpu)
    for other in (again, resumed):
        assert other.losses[-2:] == whole.losses[-2:]
        assert other.masks.hash() == whole.masks.hash()
        assert equal(other.state, whole.state) and equal(other.score, whole.score)
    assert whole.state.keys() == eager.state.keys()
    assert whole.masks.kept == kept_count(whole.masks.total, target(config))
    assert all(not bool(whole.state[name][~mask.cpu()].any()) for name, mask in whole.masks.items())
    assert whole.losses[0] == pytest.approx(eager.losses[0], rel=0.02)
