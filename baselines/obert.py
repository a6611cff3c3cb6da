"""oBERT, the Optimal BERT Surgeon. Kurtic et al. 2022, arXiv 2203.07259."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seven_bench.baselines.block_fisher import GATHERED, BlockFisher
from seven_bench.pruning import Observation, Params, Score


class ObertScore(Score):
    """The rise of the loss when a weight (or a pattern's unit) goes and the others of its block
    answer, w_q^2 / (2 [F^-1]_qq), and that answer: `BlockFisher` has formulas and memory.

    F is the empirical Fisher matrix of the gradients that were seen, one a batch; the defaults are
    the paper's. Where many weights of a block go together, the answer is the optimum for all of
    them; the released code adds up the answers to each (each unit) as if the others stayed.

    A head or a neuron lies across tensors, and so across blocks: its weights are scored one by one,
    as if the others of it stayed, and what stays of each block answers to all that goes of it.

    During training the gradients are those of the optimizer steps since the last update, dropout
    and all; the released code stops for 1,024 new ones, dropout off, at each.

    Args:
        block: weights in a block of F.
        damping: added to its diagonal.
        update: whether the weights that stay answer; without, a control.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    def __init__(self, block: int = 50, damping: float = 1e-7, update: bool = True) -> None:
        self.block, self.damping, self.update = block, damping, update
        self.memory = 4 * (block + GATHERED) + 5

    def reset(self, params: Params, generator: torch.Generator | None = None) -> None:
        self.fisher = BlockFisher(self.block, self.damping)

    def observe(self, seen: Observation) -> None:
        if isinstance(seen.pattern, str):  # else units lie across blocks: see above
            self.fisher.pattern = seen.pattern
        self.fisher.add(seen.grads)

    def scores(self, params: Params, masks: Params) -> Params:
        return {n: self.fisher.rises(n, p.detach(), masks[n]) for n, p in params.items()}

    def update_weights(self, params: Params, masks: Params, new_masks: Params) -> Params | None:
        if not self.update:
            return None
        return {
            name: self.fisher.answered(name, p.detach(), masks[name], new_masks[name])
            for name, p in params.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        return self.fisher.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.fisher.load_state_dict(state)
