"""SparseGPT. Frantar & Alistarh 2023, arXiv 2301.00774, algorithm 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seven_bench.pruning import Observation, Params, Score
from seven_bench.pruning.threshold import select_top
from seven_bench.pruning.units import form_of


@dataclass(frozen=True)
class Swept:
    """One layer: which weights go, what is left of the others, and a score per weight, float32."""

    goes: Tensor
    weights: Tensor
    scores: Tensor


class SparseGptScore(Score):
    """Layer by layer, w_ij^2 / U_jj^2 with U'U = H^-1 and H = X'X + damping: what the layer's
    output loses at best when w_ij goes and the columns to its right answer. They do, as column
    after column is passed; which weights go is decided for `columns` of them at a time, all rows
    together (of N:M group by group), after the answers to what went before.

    So the decision needs the sparsity, and every `columns` columns get it; the engine's counts are
    the same in every layer (`uniform`). Counts are exact, rounded over the columns passed so far,
    where the released code cuts at a threshold. Of patterns with larger units only the answer is
    sequential: their scores are those of the weights as they were. Inputs that are always 0 have
    the damping alone in H (the released code zeroes their weights, whatever the sparsity).

    The engine prunes block after block, so that a block's inputs are those that the pruned and
    updated blocks before it make. All in float64; memory: [d_in, d_in] float32 a layer, and two
    tensors more of each weight's shape.

    Args:
        columns: that are decided at once (N:M: a multiple of M), and answered to lazily.
        damping: what is added to H's diagonal, as a fraction of its mean.
        update: whether the weights that stay answer; without, a control that takes the mask alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"grams"})
    state = ("grams",)

    def __init__(self, columns: int = 128, damping: float = 0.01, update: bool = True) -> None:
        self.columns, self.damping, self.update = columns, damping, update

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.grams: Params = {}
        self.swept: dict[str, Swept] = {}

    def observe(self, seen: Observation) -> None:
        self.sparsity, self.pattern = seen.sparsity, seen.pattern
        for name, gram in seen.grams.items():
            self.grams[name] = self.grams[name] + gram if name in self.grams else gram.clone()
            self.swept.pop(name, None)

    def scores(self, params: Params, masks: Params) -> Params:
        for name in self.grams.keys() - self.swept.keys():
            self.swept[name] = self._sweep(name, params[name], masks[name])
        return {  # of layers whose inputs are not known yet, anything
            name: self.swept[name].scores if name in self.swept else p.detach().float().abs()
            for name, p in params.items()
        }

    def update_weights(self, params: Params, masks: Params, new_masks: Params) -> Params | None:
        if not self.update:
            return None
        for name, swept in self.swept.items():
            if not torch.equal(swept.goes, ~new_masks[name]):  # the engine decided otherwise
                self.swept[name] = self._sweep(name, params[name], masks[name], ~new_masks[name])
        return {
            name: self.swept[name].weights if name in self.swept else p.detach().float()
            for name, p in params.items()
        }

    def _sweep(
        self, name: str, weight: Tensor, living: Tensor, goes: Tensor | None = None
    ) -> Swept:
        """Decides and answers; where `goes` is given, answers to that."""
        w, alive = weight.detach().flatten(1).double(), living.flatten(1)
        upper, form = _factor(self.grams[name].double(), self.damping), form_of(self.pattern)
        scores = (w / upper.diagonal()).square()
        if goes is None and not form.single and form.group is None:
            goes = ~living  # scored as they are

        def decide(losses: Tensor, begin: int) -> Tensor:
            here = slice(begin, begin + losses.shape[1])
            if goes is not None:
                return goes.flatten(1)[:, here]
            losses = losses.where(alive[:, here], -1.0)
            if form.group is not None:
                stays = _best_of_each_row(losses, form.group[0])
            else:
                due = [round(self.sparsity * len(losses) * end) for end in (here.start, here.stop)]
                kept = losses.numel() - (due[1] - due[0])
                stays = select_top(name, losses, torch.ones_like(alive[:, here]), kept)
            stays &= alive[:, here]
            scores[:, here] = _told_apart(losses, stays)
            return ~stays

        at_once = self.columns if form.group is None or goes is not None else form.group[1]
        gone, left = sweep(w, upper, self.columns, decide, at_once)
        if name in self.swept:
            scores = self.swept[name].scores
        shaped = [tensor.view(weight.shape) for tensor in (gone, left.float(), scores.float())]
        return Swept(*shaped)


def sweep(
    weight: Tensor,
    upper: Tensor,
    columns: int,
    decide: Callable[[Tensor, int], Tensor],
    at_once: int,
) -> tuple[Tensor, Tensor]:
    """Passes the columns of a weight from left to right; what is right of one that goes answers.

    Args:
        weight: float64 [d_out, d_in].
        upper: the factor U of U'U = H^-1, float64 [d_in, d_in].
        columns: after so many, those to their right answer to all of them at once.
        decide: given the losses of some columns, float64 [d_out, n], and the first's index, what
            goes of them, bool.
        at_once: columns to decide on together.

    Returns: what goes, bool, and the weights with that at 0.
    """
    w, goes = weight.clone(), torch.zeros_like(weight, dtype=torch.bool)
    for begin in range(0, w.shape[1], columns):
        end = min(begin + columns, w.shape[1])
        part, gone, u = w[:, begin:end], goes[:, begin:end], upper[begin:end, begin:end]
        errors = torch.zeros_like(part)
        for j in range(end - begin):
            if j % at_once == 0:
                here = slice(j, j + at_once)
                gone[:, here] = decide((part[:, here] / u.diagonal()[here]).square(), begin + j)
            errors[:, j] = part[:, j].where(gone[:, j], 0.0) / u[j, j]
            part[:, j:] -= errors[:, j, None] * u[j, j:]
        w[:, end:] -= errors @ upper[begin:end, end:]
    return goes, w.masked_fill_(goes, 0.0)


def _factor(gram: Tensor, damping: float) -> Tensor:
    """U of U'U = (X'X + damping)^-1, upper triangular, float64 [d_in, d_in]."""
    hessian = gram.clone()
    hessian.diagonal().add_(damping * gram.diagonal().mean().clamp(min=1e-30))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def _best_of_each_row(losses: Tensor, n: int) -> Tensor:
    order = losses.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(losses, dtype=torch.bool).scatter_(1, order[:, :n], True)


def _told_apart(losses: Tensor, stays: Tensor) -> Tensor:
    """Losses as scores: above 1 where a weight stays, below 1 where it goes, and nearer to that the
    nearer it was to the decision, so that layers of several decisions have one order.
    """
    least = losses.where(stays, torch.inf).min() if bool(stays.any()) else losses.new_ones(())
    losses = losses.clamp(min=0.0)
    return stays + losses / (losses + least.clamp(min=1e-300))
