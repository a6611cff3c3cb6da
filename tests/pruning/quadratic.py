"""A model whose gradient and Hessian are written down: loss = w'Hw / 2 - b'w, a batch is (H, b)."""

from __future__ import annotations

import torch
from torch import nn

from seven_bench.pruning.calibration import prune_before
from seven_bench.pruning.pruner import Method, Pruner


class Quadratic(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([weights]))  # [1, n]

    def loss(self, batch):
        hessian, b = (torch.tensor(part) for part in batch)
        w = self.w[0]
        return w @ hessian @ w / 2 - b @ w


def prune_quadratic(weights, batches, score, schedule, keep, **method):
    """The kept indices after each update, and the scores at the end."""
    model = Quadratic(weights)
    params = {"w": model.w}
    plan = schedule.plan(len(batches), len(batches))
    kept = []
    whole = Method(score, schedule, 1 - keep / len(weights), **method)
    pruner = Pruner(
        whole,
        plan,
        params,
        torch.Generator().manual_seed(0),
        on_update=lambda made: kept.append(made.masks["w"][0].nonzero().flatten().tolist()),
    )
    prune_before(pruner, model, params, model.loss, batches)
    assert bool((model.w[0][~pruner.masks["w"][0]] == 0).all()), "removed weights are not zero"
    return kept, score
