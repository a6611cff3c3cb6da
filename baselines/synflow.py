"""SynFlow, linearised. Tanaka et al. 2020, arXiv 2006.05467, eq. 3 and algorithm 1."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Observation, Params, Score


class SynflowLinearizedScore(Score):
    """|w| dR/d|w|, where R is the mean output of the network on ones, with weights |w|.

    The paper's R needs a network of linear layers and ReLU; LayerNorm and softmax break it. So the
    engine supplies the gradient of a linearised copy, in float64 because R outgrows float32.
    Scores are divided by the largest, which changes no order and brings them back to float32.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"linear_gradient"})
    state = ("flow",)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.flow: Params = {}

    def observe(self, seen: Observation) -> None:
        assert seen.linear_gradient is not None
        for name, gradient in seen.linear_gradient.items():
            flow = seen.params[name].detach().abs() * gradient
            self.flow[name] = self.flow[name] + flow if name in self.flow else flow

    def scores(self, params: Params, masks: Params) -> Params:
        largest = max(float(flow.max()) for flow in self.flow.values())
        return {name: (flow / (largest or 1.0)).float() for name, flow in self.flow.items()}
