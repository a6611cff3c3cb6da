"""SEVEN's score. Xiao et al. 2024, arXiv 2403.12688."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seven_bench.pruning.fused import Fused
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.scores import Observation, Score, zeros

TINY = 1e-35  # far below what float32 sees beside a moment that matters, and no denormal
NOISE = {  # what the noise term c becomes, the released one or the signed
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

    There are two noise terms c = mhat / vhat, and so two methods. The *released* one is that of
    the authors' code, which takes |g| in m: it measures how even the gradient's *size* is (1 when
    constant, 0.80 for Gaussian noise), not its sign; with a1 != a2 it can pass 1. The *signed* one
    has g in m, so that a gradient that changes sign counts as noise: the reading of the paper's
    words, "mean and variance of the gradient". At t = 0 both are SNIP's score on one batch. State:
    12 bytes a weight.

    Args:
        a1, a2: decay of the two moments, in [0, 1).
        signed: whether the noise term is the signed one (the absolute value of mhat is taken in the
            score), or the released one.
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
        self.fused = Fused(seven_update, state=3)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.first, self.second, self.importance = zeros(params), zeros(params), zeros(params)
        self.t = 0
        if self.noise == "shuffled":  # one order for good: else the noise would average out
            self.order = {
                n: torch.randperm(p.numel(), generator=generator).to(p.device)
                for n, p in params.items()
            }

    def observe(self, seen: Observation) -> None:
        if self.noise == "damped":
            self.fused(
                seen.params, seen.grads, seen.masks, self.first, self.second, self.importance,
                constants=(
                    self.a1, 1 - self.a1, 1 / (1 - self.a1 ** (self.t + 1)),
                    self.a2, 1 - self.a2, 1 / (1 - self.a2 ** (self.t + 1)),
                    self.signed,
                ),
            )  # fmt: skip
        else:
            self._observe_variant(seen)
        self.t += 1

    @torch.no_grad()
    def _observe_variant(self, seen: Observation) -> None:
        """The same with another noise term, operation by operation."""
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

    def scores(self, params: Params, masks: Params) -> Params:
        return self.importance


def seven_update(
    weight: Tensor, gradient: Tensor, mask: Tensor, first: Tensor, second: Tensor,
    importance: Tensor, keep1: float, take1: float, unbias1: float, keep2: float, take2: float,
    unbias2: float, signed: bool,
) -> None:  # fmt: skip
    """One step of `SevenScore`, in place on `first`, `second` and `importance`.

    The tensors are flat and of one length; `keep` is a decay, `take` one minus it, `unbias` the
    factor that makes the moment unbiased.
    """
    weight, gradient = weight.float(), gradient.float()
    # the moments of a gradient that stays 0 stop at TINY: below it, arithmetic is slow on many CPUs
    size = gradient if signed else gradient.abs()
    first.mul_(keep1).add_((size * take1).add_(TINY))
    second.mul_(keep2).add_((gradient * gradient).mul_(take2).add_(TINY))
    noise = (second * unbias2).rsqrt_().reciprocal_().add_(1e-9)
    steadiness = (first * unbias1).div_(noise)
    if signed:
        steadiness.abs_()
    importance.add_((weight * gradient).abs_().mul_(steadiness)).mul_(mask)
