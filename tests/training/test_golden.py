"""Methods that prune during training against plain float64 loops: one linear layer, full batches.

Both sides train y = W x by SGD on the same data; the loops below are the papers' equations with
nothing around them.
"""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics import MeanSquaredError, MetricCollection

from baselines.movement import MovementScore
from baselines.platon import PlatonScore
from baselines.rigl import RiglScore
from baselines.soft_movement import SoftMovementScore
from baselines.taylor import TaylorScore
from seven_bench.data.samplers import ArrayDataset
from seven_bench.data.task_data import TaskData
from seven_bench.pruning import Constant, Cubic, MaskSet, kept_count
from seven_bench.pruning.pruner import Method, Pruner
from seven_bench.training.environment import reset_process
from seven_bench.training.finetune import Recipe
from seven_bench.training.fit import Machine, fit
from seven_bench.training.module import TaskModule
from seven_bench.training.pruning_callback import PruningCallback

ROWS, COLUMNS, LR, SPARSITY = 6, 8, 0.05, 0.75
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
    def __init__(self, recipe):
        metrics = MetricCollection({"mse": MeanSquaredError()})
        super().__init__(OneLayer(), recipe, metrics)

    def logits(self, model, batch):
        return model(batch["x"])

    def objective(self, logits, batch):
        return (logits - batch["y"]).square().sum(1).mean() / 2

    def predictions(self, logits, batch):
        return logits, batch["y"]

    def configure_optimizers(self):
        r = self.recipe
        return torch.optim.SGD(self.model.parameters(), lr=LR, momentum=r.momentum)


def trained(score, schedule, steps, masking, momentum=0.0, sparsity=SPARSITY, cut="exact"):
    """The weight and mask after every step, as training under the callback has them."""
    reset_process(0, 1, True)
    recipe = Recipe(steps, LR, 32, optimizer="sgd", momentum=momentum)
    module, data = LineModule(recipe), Line(seed=0, batch_size=32, files={"": Path()})
    data.setup()
    params = {NAME: module.model.layer.weight}
    method = Method(score, schedule, sparsity, masking=masking, cut=cut)
    pruner = Pruner(method, schedule.plan(steps, 1), params, torch.Generator())
    callback = PruningCallback(params, MaskSet.ones(params), pruner)
    history = []
    module.on_train_batch_end = lambda *_: history.append(
        (params[NAME].detach().double().clone(), callback.masks[NAME].clone())
    )
    metric = {"name": "mse", "higher_is_better": False}
    fit(module, data, callback, Machine("cpu"), metric)
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


def test_movement_sees_straight_through_the_mask():
    """arXiv 2005.07683: S -= w dL/d(w m); the weights underneath take dL/d(w m) m."""
    steps, momentum = 16, 0.9
    w, gradient = problem()
    score, velocity = torch.zeros_like(w), torch.zeros_like(w)
    mask, expected, back = torch.ones_like(w, dtype=torch.bool), [], 0
    for t in range(1, steps + 1):
        g = gradient(w * mask)
        score = score - w * g
        velocity = momentum * velocity + g * mask
        w = w - LR * velocity
        before, mask = mask, top(score, SPARSITY * (1 - (1 - min(t, 8) / 8) ** 3))
        back += int((mask & ~before).sum())
        expected.append((w * mask, mask))
    assert back > 0, "the example is to bring weights back"
    schedule = Cubic(start="0it", steps="8it", hold=True)
    history, callback = trained(MovementScore(), schedule, steps, "straight_through", momentum)
    same(history, expected)
    assert torch.allclose(callback.dense[NAME].double(), w, atol=2e-5)
    assert int(callback.dense[NAME][~mask].count_nonzero()) > 0


def test_movement_keeps_what_moves_away_from_zero():
    """By hand: w = (1, 1), gradients (-2, 3) twice: S = (4, -6); the growing weight stays."""
    from seven_bench.pruning import Observation

    params = {"w": torch.tensor([1.0, 1.0])}
    score, masks = MovementScore(), MaskSet.ones(params)
    score.reset(params)
    for step in range(2):
        score.observe(Observation(params, {"w": torch.tensor([-2.0, 3.0])}, masks, step))
    assert score.scores(params, masks)["w"].tolist() == [4.0, -6.0]


def test_rigl_exchanges_weights_that_start_from_zero():
    """arXiv 1911.11134, algorithm 1: drop the least |w|, grow the largest |g| of the others."""
    steps, every, alpha = 20, 4, 0.5
    w, gradient = problem()
    mask, expected, exchanged = torch.ones_like(w, dtype=torch.bool), [], 0
    for t in range(1, steps + 1):
        g = gradient(w)
        w = w - LR * g * mask
        if t % every == 0 and t <= 16:
            if t == every:
                mask = top(w.abs(), SPARSITY)
            else:
                living = int(mask.sum())
                share = alpha / 2 * (1 + torch.cos(torch.tensor(torch.pi * t / 16)).item())
                kept = living - round(share * living)
                held = torch.zeros_like(mask).view(-1)
                held[(w.abs() * mask).view(-1).argsort(descending=True)[:kept]] = True
                grown = g.abs().view(-1).where(~held, torch.tensor(-1.0).double())
                held[grown.argsort(descending=True)[: living - kept]] = True
                exchanged += int((held.view_as(mask) & ~mask).sum())
                mask = held.view_as(mask)
        w = w * mask
        expected.append((w, mask))
    assert exchanged > 0
    schedule = Constant(start="0it", steps="16it", every=every)
    history, _ = trained(RiglScore(alpha), schedule, steps, "rewire")
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
