"""Methods that prune during training against plain float64 loops: one linear layer, full batches.

Both sides train y = W x by SGD on the same data; the loops below are the papers' equations with
nothing around them.
"""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanSquaredError, MetricCollection

from seven_bench.baselines.movement import MovementScore
from seven_bench.baselines.platon import PlatonScore
from seven_bench.baselines.rigl import RiglScore
from seven_bench.baselines.soft_movement import SoftMovementScore
from seven_bench.baselines.taylor import TaylorScore
from seven_bench.data.samplers import ArrayDataset
from seven_bench.data.task_data import TaskData
from seven_bench.pruning import Constant, Cubic, CubicReleased, MaskSet, SevenScore, kept_count
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.training.context import Context, Device
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import fit
from seven_bench.training.module import TaskModule
from seven_bench.training.pruning_callback import PruningCallback

ROWS, COLUMNS, LR, SPARSITY, SEED = 6, 8, 0.05, 0.75, 3
MSE = Context("mse", higher_is_better=False, device=Device("cpu"))
NAME = "blocks.0.mlp.fc1.weight"


class Line(TaskData):
    def load(self):
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(32, COLUMNS, generator=generator)
        wanted = torch.randn(ROWS, COLUMNS, generator=generator)
        splits = {"train": ArrayDataset(x=x, y=x @ wanted.T)}
        return {**splits, "validation": splits["train"], "test": splits["train"]}


class OneLayer(nn.Module):
    """A linear layer where a ViT has its first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        mlp = nn.ModuleDict({"fc1": nn.Linear(COLUMNS, ROWS, bias=False)})
        self.blocks = nn.ModuleList([nn.ModuleDict({"mlp": mlp})])

    @property
    def layer(self):
        return self.blocks[0]["mlp"]["fc1"]

    def forward(self, x):
        return self.layer(x)


class LineModule(TaskModule):
    def __init__(self, recipe, linear=False):
        metrics = MetricCollection({"mse": MeanSquaredError()})
        super().__init__(OneLayer(), recipe, metrics)
        self.linear = linear  # whether the learning rate falls to 0, or stays

    def logits(self, model, batch):
        return model(batch["x"])

    def objective(self, logits, batch):
        return (logits - batch["y"]).square().sum(1).mean() / 2

    def predictions(self, logits, batch):
        return logits, batch["y"]

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(
            self.model.parameters(), lr=self.recipe.lr, momentum=self.recipe.momentum
        )
        if not self.linear:
            return optimizer
        fall = LambdaLR(optimizer, lambda step: 1 - step / self.recipe.max_epochs)
        return [optimizer], [{"scheduler": fall, "interval": "step"}]


def trained(
    score,
    schedule,
    steps,
    masking,
    momentum=0.0,
    sparsity=SPARSITY,
    linear=False,
    clip=None,
    **more,
):
    """The weight and mask after every step, as training under the callback has them."""
    reset_process(0, 1, True)
    recipe = Recipe(steps, LR, 32, optimizer="sgd", momentum=momentum, gradient_clip=clip)
    module, data = LineModule(recipe, linear), Line(seed=0, batch_size=32, files={"": Path()})
    data.setup()
    params = {NAME: module.model.layer.weight}
    method = Method(score, schedule, sparsity, masking=masking, **more)
    pruner = Pruner(method, schedule.plan(steps, 1), params, torch.Generator().manual_seed(SEED))
    callback = PruningCallback(params, pruner)
    history = []
    module.on_train_batch_end = lambda *_: history.append(
        (params[NAME].detach().double().clone(), callback.masks[NAME].clone())
    )
    fit(module, data, callback, MSE)
    return history, callback


def problem():
    """Start weight and the gradient of the loss, in float64."""
    w = OneLayer().layer.weight.detach().double()
    train = Line(seed=0, batch_size=32, files={"": Path()}).load()["train"].columns
    x, y = train["x"].double(), train["y"].double()
    return w, lambda weight: (x @ weight.T - y).T @ x / len(x)


def top(score: torch.Tensor, sparsity: float) -> torch.Tensor:
    keep = kept_count(score.numel(), sparsity)
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[score.reshape(-1).argsort(descending=True)[:keep]] = True
    return mask.view_as(score)


def same(history, expected) -> None:
    assert len(history) == len(expected)
    for step, ((weight, mask), (w, m)) in enumerate(zip(history, expected, strict=True)):
        assert torch.equal(mask, m), f"masks part at step {step + 1}"
        assert torch.allclose(weight, w, atol=2e-5), f"weights part at step {step + 1}"


def test_platon_with_regrowth():
    """arXiv 2206.12562, eq. 5 to 8, window 2; updates every 4 steps, then after every step."""
    steps, every, ramp, b1, b2 = 40, 4, 6, 0.5, 0.5
    w, gradient = problem()
    local = sensitivity = uncertainty = torch.zeros_like(w)
    mask, expected, back = torch.ones_like(w, dtype=torch.bool), [], 0
    for t in range(1, steps + 1):
        g = gradient(w)
        local = local + (w * g).abs() / 2
        if t % 2 == 0:
            sensitivity = b1 * sensitivity + (1 - b1) * local
            uncertainty = b2 * uncertainty + (1 - b2) * (local - sensitivity).abs()
            local = torch.zeros_like(w)
        w = w - LR * g
        if t % every == 0 or t > ramp * every:
            i = min(t // every, ramp)
            sparsity = SPARSITY * (1 - (1 - i / ramp) ** 3)
            before, mask = mask, top(sensitivity * uncertainty, sparsity)
            back += int((mask & ~before).sum())
            w = w * mask
        expected.append((w, mask))
    assert back > 0, "the example is to bring weights back"
    schedule = Cubic(start="0it", steps=f"{ramp * every}it", every=every, hold=True)
    history, _ = trained(PlatonScore(b1, b2, window=2), schedule, steps, "regrow")
    same(history, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_movement_sees_straight_through_the_mask(optimizer):
    """arXiv 2005.07683: S takes steps of its own along w dL/d(w m), plain ones in the paper, Adam's
    in the code; the weights underneath take dL/d(w m) m. Both rates follow one schedule.
    """
    steps, momentum, rate = 16, 0.9, 1e-2
    w, gradient = problem()
    score, velocity = torch.zeros_like(w), torch.zeros_like(w)
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    mask, expected, back = torch.ones_like(w, dtype=torch.bool), [], 0
    for t in range(1, steps + 1):
        factor = 1 - (t - 1) / steps
        g = gradient(w * mask)
        slope = w * g
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        if optimizer == "sgd":
            score = score - rate * factor * slope
        else:
            unbiased = (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
            score = score - rate * factor * unbiased * first / (second.sqrt() + 1e-8)
        velocity = momentum * velocity + g * mask
        w = w - LR * factor * velocity
        before, mask = mask, top(score, SPARSITY * (1 - (1 - min(t, 8) / 8) ** 3))
        back += int((mask & ~before).sum())
        expected.append((w * mask, mask))
    assert back > 0, "the example is to bring weights back"
    schedule = Cubic(start="0it", steps="8it", hold=True)
    history, callback = trained(
        MovementScore(rate, optimizer), schedule, steps, "straight_through", momentum, linear=True
    )
    same(history, expected)
    found = callback.pruner.method.score.movement[NAME].double()
    assert torch.allclose(found, score, rtol=1e-3, atol=1e-6)
    assert torch.allclose(callback.masking.weights[NAME].double(), w, atol=2e-5)
    assert int(callback.masking.weights[NAME][~mask].count_nonzero()) > 0


def test_movement_keeps_what_moves_away_from_zero():
    """By hand: w = (1, 1), gradients (-2, 3) twice at a rate of 1, then at half of it."""
    from seven_bench.pruning import Observation

    params = {"w": torch.tensor([1.0, 1.0])}
    score, masks = MovementScore(lr=1.0, optimizer="sgd"), MaskSet.ones(params)
    score.reset(params)
    for step, factor in enumerate((1.0, 1.0, 0.5)):
        gradient = {"w": torch.tensor([-2.0, 3.0])}
        score.observe(Observation(params, gradient, masks, step, lr_factor=factor))
    assert score.scores(params, masks)["w"].tolist() == [5.0, -7.5]
    with pytest.raises(ValueError, match=r"score.optimizer='lion': allowed are adam, sgd"):
        MovementScore(optimizer="lion")


def test_rigl_exchanges_weights_that_start_from_zero():
    """arXiv 1911.11134, algorithm 1, from random masks: every few steps, instead of a step, drop
    the least |w| and grow the largest |g| of all that are not kept.
    """
    steps, every, end, alpha, momentum = 24, 4, 18, 0.5, 0.9
    w, gradient = problem()
    drawn = torch.rand(w.shape, generator=torch.Generator().manual_seed(SEED))
    mask, velocity = top(drawn, SPARSITY), torch.zeros_like(w)
    w, expected, exchanged = w * mask, [], 0
    for t in range(1, steps + 1):
        g = gradient(w)
        if t % every == 0 and t < end:
            living = int(mask.sum())
            share = alpha / 2 * (1 + math.cos(math.pi * t / end))
            dropped = int(share * living)
            held = torch.zeros_like(mask).view(-1)
            held[(w.abs() * mask).view(-1).argsort(descending=True)[: living - dropped]] = True
            grown = g.abs().view(-1).where(~held, torch.tensor(-1.0).double())
            held[grown.argsort(descending=True)[:dropped]] = True
            new = held.view_as(mask) & ~mask
            exchanged += int(new.sum())
            mask, velocity = held.view_as(mask), velocity.where(~new, 0.0)
            w = w * mask
        else:
            velocity = momentum * velocity + g * mask
            w = (w - LR * velocity) * mask
        expected.append((w, mask))
    assert exchanged > 1
    schedule = Constant(start="0it", steps=f"{end}it", every=every)
    more = {"begin": "random", "takes_step": True}
    history, _ = trained(RiglScore(alpha), schedule, steps, "rewire", momentum, **more)
    same(history, expected)


def test_soft_movement_against_adam():
    """Its scores are those that torch's Adam finds for L + penalty * unit * sum(sigmoid(S))."""
    steps, penalty = 12, 2.0
    w, gradient = problem()
    level = torch.zeros_like(w, requires_grad=True)
    adam = torch.optim.Adam([level], lr=0.3)
    mask, expected = torch.ones_like(w, dtype=torch.bool), []
    for _ in range(steps):
        g = gradient(w * mask)
        unit = (w * g).abs().mean()
        adam.zero_grad()
        ((w * g * level).sum() + penalty * unit * level.sigmoid().sum()).backward()
        adam.step()
        w = w - LR * g * mask
        mask = level.detach().sigmoid() > 0.1
        expected.append((w * mask, mask))
    assert 0 < int(mask.sum()) < mask.numel()
    schedule = Cubic(start="0it", steps="8it", hold=True)
    score = SoftMovementScore(penalty)
    history, _ = trained(score, schedule, steps, "straight_through", cut="above_zero")
    assert torch.allclose(score.level[NAME].double(), level.detach(), atol=1e-3)
    same(history, expected)


def seven_released(steps, clip, seen_clipped=False):
    """SEVENdyn as its authors' code runs it, arXiv 2403.12688, but for the clipping, which that has
    not: the weights after the step with the gradient before clipping, counts truncated.
    """
    a1, a2, keep = 0.8, 0.9, 1 - SPARSITY
    w, gradient = problem()
    m = v = score = torch.zeros_like(w)
    mask, expected = torch.ones_like(w, dtype=torch.bool), []
    for t in range(steps):
        g = gradient(w) * mask
        clipped = g * min(1.0, clip / (float(g.norm()) + 1e-6))
        w = w - LR * clipped
        if t < steps - 1:
            g = clipped if seen_clipped else g
            m, v = a1 * m + (1 - a1) * g.abs(), a2 * v + (1 - a2) * g**2
            noise = (v / (1 - a2 ** (t + 1))).sqrt() + 1e-9
            score = (score + (w * g).abs() * m / (1 - a1 ** (t + 1)) / noise) * mask
            count = int((keep + (1 - keep) * (1 - (t + 1) / steps) ** 3) * w.numel())
            mask = score >= score.reshape(-1).topk(count).values[-1]
        w = w * mask
        expected.append((w, mask))
    return expected


def test_a_score_after_the_step_sees_gradients_as_they_were_before_clipping():
    steps, clip = 58, 2.0
    expected, other = seven_released(steps, clip), seven_released(steps, clip, seen_clipped=True)
    apart = [not torch.equal(mask, m) for (_, mask), (_, m) in zip(expected, other, strict=True)]
    assert sum(apart) == 5, "the example is to part the two"
    schedule = CubicReleased(start="0it", steps=f"{steps}it")
    habits = {"cut": "threshold", "observe_at": "after_step"}
    history, _ = trained(SevenScore(), schedule, steps, "hard", clip=clip, **habits)
    same(history, expected)
    unclipped, _ = trained(SevenScore(), schedule, steps, "hard", **habits)
    same(unclipped, seven_released(steps, math.inf))


def test_taylor_accumulates_what_lives():
    """By hand: |w g| = (2, 3) and (4, 1), the second weight removed after the first step."""
    from seven_bench.pruning import Observation

    params = {"w": torch.tensor([2.0, 1.0])}
    score, masks = TaylorScore(), MaskSet.ones(params)
    score.reset(params)
    score.observe(Observation(params, {"w": torch.tensor([1.0, -3.0])}, masks, 0))
    assert score.scores(params, masks)["w"].tolist() == [2.0, 3.0]
    masks = MaskSet({"w": torch.tensor([True, False])})
    score.observe(Observation(params, {"w": torch.tensor([-2.0, 1.0])}, masks, 1))
    assert score.scores(params, masks)["w"].tolist() == [6.0, 0.0]


@pytest.mark.parametrize("masking", ["hard", "rewire", "regrow", "straight_through"])
def test_at_sparsity_zero_every_masking_is_plain_sgd(masking):
    w, gradient = problem()
    for _ in range(6):
        w = w - LR * gradient(w)
    history, _ = trained(TaylorScore(), Cubic(steps="4it", warmup="0it"), 6, masking, sparsity=0.0)
    assert torch.allclose(history[-1][0], w, atol=1e-5) and bool(history[-1][1].all())
