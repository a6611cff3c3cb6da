"""The published ways, written plainly from their formulas: what ours are measured against."""

from __future__ import annotations

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class PlainPruner:
    """Score, concatenate, sort, threshold, rebuild the masks, multiply: once an optimizer step.

    `method` is "seven" (arXiv 2403.12688, the released accumulation), "platon" (2206.12562, eq. 5
    to 8, without a window) or "movement" (2005.07683, section 4).
    """

    def __init__(self, method: str, weights: Tensors) -> None:
        self.method = method
        names = {"seven": 3, "platon": 2, "movement": 1}[method]
        self.state = [{n: torch.zeros_like(w) for n, w in weights.items()} for _ in range(names)]
        self.mask = {n: torch.ones_like(w) for n, w in weights.items()}
        self.t = 0

    @torch.no_grad()
    def step(self, weights: Tensors, grads: Tensors, kept: int) -> None:
        score = {name: self._score(name, w, grads[name]) for name, w in weights.items()}
        self.t += 1
        flat = torch.cat([s.flatten() for s in score.values()])
        threshold = torch.sort(flat, descending=True).values[kept - 1]
        for name, weight in weights.items():
            self.mask[name] = (score[name] >= threshold).float()
            weight.data = weight.data * self.mask[name]

    def _score(self, name: str, w: Tensor, g: Tensor) -> Tensor:
        if self.method == "movement":
            (s,) = self.state
            s[name] = s[name] - w * g
            return s[name]
        if self.method == "platon":
            mean, doubt = self.state
            now = (w * g).abs()
            mean[name] = 0.85 * mean[name] + 0.15 * now
            doubt[name] = 0.95 * doubt[name] + 0.05 * (now - mean[name]).abs()
            return mean[name] * doubt[name]
        m, v, i = self.state
        m[name] = 0.8 * m[name] + 0.2 * g.abs()
        v[name] = 0.9 * v[name] + 0.1 * g**2
        mhat = m[name] / (1 - 0.8 ** (self.t + 1))
        vhat = torch.sqrt(v[name] / (1 - 0.9 ** (self.t + 1))) + 1e-9
        i[name] = (i[name] + (w * g * mhat / vhat).abs()) * self.mask[name]
        return i[name]
