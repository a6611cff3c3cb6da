"""Sentinels: how noisy the gradients are of the weights that a mask keeps.

SEVEN's claim (Xiao et al. 2024, arXiv 2403.12688) is that weights of high sensitivity differ in the
noise of their gradients, and that the steady ones, the sentinels, are those to keep. Over batches
of examples that nothing was scored on, a weight w has, with g its gradient of one batch:

    s = |w| E|g|                 sensitivity
    GSNR = (E g)^2 / Var g       gradient signal-to-noise ratio; it grows with the batch's size
    c = E|g| / sqrt(E g^2)       evenness of the gradient's size, the released code's measure

Among weights of like s, sentinels are those with a GSNR above the median, temporary sentinels the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seven_bench.pruning import Params
from seven_bench.pruning.calibration import scoring
from seven_bench.pruning.suppliers import gradients

DECILES = 10


class Moments:
    """Running moments of each weight's gradient: 12 bytes a weight in float32, 24 in float64.

    `mean` is E g, `size` E|g| and `spread` the sum of squared deviations from the mean, updated as
    Welford does: the difference of two large sums would lose what float32 has of a small variance.
    """

    def __init__(self, params: Params, dtype: torch.dtype = torch.float32) -> None:
        self.count = 0
        self.mean, self.size, self.spread = (
            {
                name: torch.zeros_like(p, dtype=dtype, requires_grad=False)
                for name, p in params.items()
            }
            for _ in range(3)
        )

    @torch.no_grad()
    def add(self, grads: Params) -> None:
        """Takes in the gradients of one batch, of the parameters' shapes."""
        self.count += 1
        for name, mean in self.mean.items():
            gradient = grads[name].to(mean.dtype)
            step = gradient - mean
            mean.add_(step, alpha=1 / self.count)
            self.spread[name].addcmul_(step, gradient - mean)
            self.size[name].lerp_(gradient.abs(), 1 / self.count)


@dataclass(frozen=True)
class Weights:
    """What was measured of n weights: sensitivity, GSNR and c, each [n], on the CPU.

    A gradient that is always 0 has GSNR 0 and c 0; another that is constant has GSNR infinity.
    """

    sensitivity: Tensor
    gsnr: Tensor
    evenness: Tensor

    @property
    def count(self) -> int:
        return self.sensitivity.numel()


def measure_moments(
    model: nn.Module,
    params: Params,
    loss: Callable[[Any], Tensor],
    batches: Iterable[Any],
    *,
    dropout: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Moments:
    """One pass over `batches`: the moments of every gradient at weights that never move.

    Args:
        model: the plain model; its modes are restored.
        params: the weights to be measured.
        loss: the mean loss of a batch under `model`.
        batches: of one size, for GSNR grows with it.
        dropout: whether dropout stays on, as in training; off, as in scoring, is the default.

    Raises: ValueError on fewer than two batches, a loss that is not finite, or a weight without
        part in it.
    """
    moments = Moments(params, dtype)
    with scoring(model, params):
        model.train(dropout)
        for batch in batches:
            moments.add(gradients(loss(batch), params))
    if moments.count < 2:
        raise ValueError(f"{moments.count} batches: noise needs two at least")
    return moments


def noise_floor(batches: Sequence[Sequence[int]]) -> float:
    """The GSNR that gradients without any signal show on average, over these batches.

    With each example's gradient drawn by itself from a normal distribution around 0, the numerator
    (E g)^2 is one square and the denominator Var g a sum of squares with nu degrees of freedom, so
    that the mean of their ratio is the ratio of their means times nu / (nu - 2). For n batches that
    share no example it is 1 / (n - 3), exactly. Batches that draw on the same examples over again
    vary together: means and nu (Satterthwaite 1946, doi 10.2307/3002019) are those of the examples
    that each pair of batches has in common.

    Args:
        batches: the examples of each batch, as whole numbers.

    Raises: ValueError where the mean is not finite, as for three batches or fewer.
    """
    examples = sorted({example for batch in batches for example in batch})
    place = {example: index for index, example in enumerate(examples)}
    share = torch.zeros(len(batches), len(examples), dtype=torch.float64)
    for row, batch in enumerate(batches):
        share[row, [place[example] for example in batch]] = 1 / len(batch)
    together = share @ share.T  # covariance of the batches' means, in variances of one example
    around = together - together.mean(0)  # that of the batches around their mean
    spread, squares = float(around.trace()), float((around * around.T).sum())
    freedom = spread**2 / squares if spread > 1e-9 else 0.0
    if freedom < 2 + 1e-9:
        raise ValueError(
            f"{len(batches)} batches from {len(examples)} examples: a noise floor needs four "
            "batches that differ"
        )
    return float(together.mean()) / (spread / len(batches)) * freedom / (freedom - 2)


@torch.no_grad()
def measure_weights(params: Params, moments: Moments, names: Iterable[str]) -> Weights:
    """Sensitivity, GSNR and c of the weights `names`, flat and one after the other."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for name in names:
        mean, size = moments.mean[name], moments.size[name]
        signal, noise = mean.square(), moments.spread[name] / moments.count
        gsnr = torch.where(signal > 0, signal / noise, 0.0)  # no signal is none, whatever the noise
        power = (noise + signal).sqrt()
        evenness = torch.where(power > 0, size / power, 0.0)
        sensitivity = params[name].detach().abs().to(size.dtype) * size
        parts.append((sensitivity, gsnr, evenness))
    flat = [
        torch.cat([part.reshape(-1).cpu() for part in kind]) for kind in zip(*parts, strict=True)
    ]
    return Weights(*flat)


@dataclass(frozen=True)
class Ranked:
    """Weights with their places by sensitivity, highest first, [n]; ties in their own order."""

    weights: Weights
    order: Tensor

    @classmethod
    def of(cls, weights: Weights) -> Ranked:
        return cls(weights, weights.sensitivity.argsort(descending=True, stable=True))


def summarise_mask(ranked: Ranked, kept: Tensor) -> dict[str, Any]:
    """What a mask keeps of sentinels and temporary sentinels.

    Args:
        ranked: the weights, from `Ranked.of`.
        kept: bool [n], True where a weight lives, in the weights' order.

    Returns: `weights` and `kept`, counts; `deciles`, of sensitivity, the highest first, and `cut`,
        the places around the count kept (half as many on either side as there are to the nearer
        end): each with its count, its lowest and highest sensitivity, and how many `sentinels` and
        `temporary` there are and are kept, by its own median; `gsnr` and `c` of what is kept,
        removed, of all, and of as many weights by sensitivity alone.

    Raises: ValueError when the mask is of another size.
    """
    n = ranked.weights.count
    if kept.shape != (n,):
        raise ValueError(f"a mask of {kept.numel()} weights for {n}")
    living = int(kept.count_nonzero())
    edges = [round(place * n / DECILES) for place in range(DECILES + 1)]
    half = min(living, n - living) // 2
    top = torch.zeros(n, dtype=torch.bool)
    top[ranked.order[:living]] = True
    everything = torch.ones(n, dtype=torch.bool)
    sets = {"kept": kept, "removed": ~kept, "all": everything, "by_sensitivity": top}
    return {
        "weights": n,
        "kept": living,
        "deciles": [_count_sentinels(ranked, kept, edges[i], edges[i + 1]) for i in range(DECILES)],
        "cut": _count_sentinels(ranked, kept, living - half, living + half),
        "gsnr": {name: _average(ranked.weights.gsnr[chosen]) for name, chosen in sets.items()},
        "c": {name: _average(ranked.weights.evenness[chosen]) for name, chosen in sets.items()},
    }


def _count_sentinels(ranked: Ranked, kept: Tensor, first: int, last: int) -> dict[str, Any]:
    """Counts among the places first to last - 1 by sensitivity."""
    places = ranked.order[first:last]
    if not len(places):
        return {"weights": 0, "low": None, "high": None} | dict.fromkeys(_COUNTS, 0)
    gsnr, alive = ranked.weights.gsnr[places], kept[places]
    steady = gsnr > gsnr.median()  # the lower one of two in the middle: halves are halves
    sensitivity = ranked.weights.sensitivity
    return {
        "weights": len(places),
        "low": float(sensitivity[places[-1]]),
        "high": float(sensitivity[places[0]]),
        "sentinels": int(steady.count_nonzero()),
        "sentinels_kept": int((steady & alive).count_nonzero()),
        "temporary": int((~steady).count_nonzero()),
        "temporary_kept": int((~steady & alive).count_nonzero()),
    }


_COUNTS = ("sentinels", "sentinels_kept", "temporary", "temporary_kept")


def _average(values: Tensor) -> dict[str, float | None]:
    """Mean and median; a mean over finite values, an infinite median is null."""
    finite = values[values.isfinite()].double()
    middle = float(values.median()) if len(values) else float("nan")
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "median": middle if abs(middle) < float("inf") else None,
    }
