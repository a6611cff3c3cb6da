"""GraSP: gradient signal preservation. Wang et al. 2020, arXiv 2002.07376, eq. 8."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score, zeros


class GraspScore(Score):
    """w (H g), the largest kept, with g and H over all calibration examples.

    The paper's score is -w (H g), of which it removes the largest: the same set. An absolute value
    would be another method. The authors' code re-initialises the copy that it scores and takes g
    and H on batches of their own; here the start weights are scored and g is that of all examples.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"hessian_gradient"})
    state = ("total",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.total = zeros(params)

    def observe(self, seen: Observation) -> None:
        assert seen.hessian_gradient is not None
        for name, product in seen.hessian_gradient.items():
            self.total[name] += product

    def scores(self, params: Params, masks: Params) -> Params:
        return {name: p.detach() * self.total[name] for name, p in params.items()}
