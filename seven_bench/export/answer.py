"""A task's logits as a plain function of tensors, for what exports graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seven_bench.training.module import Batch, TaskModule


class Answer(nn.Module):
    """The task's logits as a function of the batch's tensors, one after another."""

    def __init__(self, module: TaskModule, batch: Batch, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = module.model, names
        self._rest = (module.logits, batch)  # in a tuple: the task module is no part of this one

    def forward(self, *tensors: Tensor) -> Tensor:
        logits, batch = self._rest
        return logits(self.model, {**batch, **dict(zip(self.names, tensors, strict=True))})


def input_names(batch: Batch) -> list[str]:
    """The tensors of a batch that the graph takes; CLIP's prompts are constants of the graph."""
    known = ("pixel_values", "input_ids", "attention_mask", "token_type_ids")
    return [name for name in known if torch.is_tensor(batch.get(name))]
