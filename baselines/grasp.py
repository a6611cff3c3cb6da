"""GraSP: gradient signal preservation. Wang et al. 2020, arXiv 2002.07376, eq. 8."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class GraspScore(Score):
    """w (H g), the largest kept, with g the gradient over all calibration examples and H g summed
    over the batches.

    Eq. 8 scores -w (H g) and removes the largest: the same set. An absolute value would be another
    method. The authors' code (github alecwangcq/GraSP) re-initialises the copy that it scores,
    divides logits by 200 and gathers g over all of its batches before H g; here the start's weights
    are scored and the temperature is the calibration's. A gradient of the mean loss for a sum over
    batches is a common factor, which changes no order.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"hessian_gradient"})
    state = ("total",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.total = zeros(params)

    def observe(self, seen: Observation) -> None:
        for name, product in seen.hessian_gradient.items():
            self.total[name] += product

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: p.detach() * self.total[name] for name, p in params.items()}
