"""SEVEN's score. Xiao et al. 2024, arXiv 2403.12688."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning.prunable import Params
from seven_bench.pruning.scores import Observation, Score, zeros

NOISE = {
    "damped": "c: a noisy gradient counts less",
    "none": "1: accumulated |w g|",
    "inverted": "1 / c: a noisy gradient counts more",
    "shuffled": "the c of another weight of the same tensor, in an order drawn once",
}


class SevenScore(Score):
    """Accumulated |w g|, each step damped by how noisy the weight's gradient has been.

        m_t = a1 m_{t-1} + (1 - a1) |g_t|        v_t = a2 v_{t-1} + (1 - a2) g_t^2
        mhat = m_t / (1 - a1^(t+1))              vhat = sqrt(v_t / (1 - a2^(t+1))) + 1e-9
        I_t = (I_{t-1} + |w g_t| mhat / vhat) * mask

    This is the accumulation of the authors' released code, which takes |g| in m: mhat / vhat then
    measures how even the gradient's *size* is (1 when constant, 0.80 for Gaussian noise), not its
    sign; with a1 != a2 it can pass 1. `signed` puts g in m, so that a gradient that changes sign
    counts as noise: the reading of the paper's words, "mean and variance of the gradient". At t = 0
    both are SNIP's score on one batch. State: 12 bytes a weight.

    Args:
        a1, a2: decay of the two moments, in [0, 1).
        signed: whether the first moment keeps the gradient's sign (the absolute value of mhat is
            taken in the score).
        noise: what becomes of c = mhat / vhat, of `NOISE`; for analysis.

    Raises:
        ValueError: a decay outside [0, 1), an unknown `noise`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    state: ClassVar[tuple[str, ...]] = ("first", "second", "importance", "order", "t")

    def __init__(
        self, a1: float = 0.8, a2: float = 0.9, signed: bool = False, noise: str = "damped"
    ) -> None:
        if noise not in NOISE:
            raise ValueError(f"score.noise={noise!r}: allowed are {', '.join(NOISE)}")
        for name, value in (("a1", a1), ("a2", a2)):
            if not 0 <= value < 1:
                raise ValueError(f"score.{name}={value!r}: allowed is a number in [0, 1)")
        self.a1, self.a2, self.signed, self.noise = a1, a2, signed, noise
        self.first: Params = {}
        self.second: Params = {}
        self.importance: Params = {}
        self.order: Params = {}
        self.t = 0

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.first, self.second, self.importance = zeros(params), zeros(params), zeros(params)
        self.t = 0
        if self.noise == "shuffled":  # one order for good: else the noise would average out
            self.order = {
                n: torch.randperm(p.numel(), generator=generator).to(p.device)
                for n, p in params.items()
            }

    @torch.no_grad()
    def observe(self, seen: Observation) -> None:
        unbias1 = 1 - self.a1 ** (self.t + 1)
        unbias2 = 1 - self.a2 ** (self.t + 1)
        for name, weight in seen.params.items():
            gradient = seen.grads[name].float()
            m, v, importance = self.first[name], self.second[name], self.importance[name]
            m.lerp_(gradient if self.signed else gradient.abs(), 1 - self.a1)
            v.mul_(self.a2).addcmul_(gradient, gradient, value=1 - self.a2)
            steadiness = (m.abs() if self.signed else m) / unbias1
            deviation = (v / unbias2).sqrt_().add_(1e-9)
            if self.noise == "inverted":
                steadiness = deviation.div_(steadiness.add_(1e-9))
            else:
                steadiness.div_(deviation)
            if self.noise == "shuffled":
                steadiness = steadiness.reshape(-1)[self.order[name]].view_as(steadiness)
            change = (gradient * weight).abs_()
            if self.noise == "none":
                importance.add_(change)
            else:
                importance.addcmul_(change, steadiness)
            importance.mul_(seen.masks[name])
        self.t += 1

    def scores(self, params: Params, masks: Params) -> Params:
        return self.importance
