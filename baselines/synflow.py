"""SynFlow, linearised. Tanaka et al. 2020, arXiv 2006.05467, eq. 3 and algorithm 1."""

from __future__ import annotations

from typing import ClassVar

import torch

from seven_bench.pruning import Linearisation, Observation, Params, Score, device


class SynflowLinearizedScore(Score):
    """|w| dR/d|w|, where R is the mean output of the network on ones, with weights |w|.

    The paper's R needs a network of linear layers and ReLU; LayerNorm and softmax break it. So the
    engine supplies the gradient of a linearised copy, in float64 because R outgrows float32.
    Scores are divided by the largest, which changes no order and brings them back to float32.

    Args:
        attention: `first_order` is this suite's: queries, keys and values all carry flow.
            `softmax` leaves attention as it is, as Transformer architecture search does (Zhou et
            al. 2022, arXiv 2203.12217); where all tokens are alike, queries and keys then score 0.
        biases: `zero`, as in eq. 3, which has none, or `absolute`, as in the authors' code, which
            takes the absolute value of every parameter (github ganguli-lab/Synaptic-Flow).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"linear_gradient"})
    state = ("flow",)

    def __init__(self, attention: str = "first_order", biases: str = "zero") -> None:
        self.linearisation = Linearisation(attention, biases)

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.flow: Params = {}

    def observe(self, seen: Observation) -> None:
        for name, gradient in seen.linear_gradient.items():
            flow = seen.params[name].detach().abs() * gradient
            self.flow[name] = self.flow[name] + flow if name in self.flow else flow

    def scores(self, params: Params, masks: Params) -> Params:
        largest = max(device.read([flow.max() for flow in self.flow.values()]))
        return {name: (flow / (largest or 1.0)).float() for name, flow in self.flow.items()}
