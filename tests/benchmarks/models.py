"""The models that are measured, with random weights: no download, and speed does not care."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

TOKENS = 64


@dataclass(frozen=True)
class Shape:
    """A BERT: width, depth, heads, inner width, and the batch it is trained with."""

    width: int
    depth: int
    heads: int
    inner: int
    batch: int

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=self.width, num_hidden_layers=self.depth, num_attention_heads=self.heads,
            intermediate_size=self.inner, num_labels=2,
        )  # fmt: skip
        return BertForSequenceClassification(config)

    def inputs(self, batch: int | None = None) -> dict[str, Tensor]:
        batch = batch or self.batch
        ids = torch.randint(
            1000, 30000, (batch, TOKENS), generator=torch.Generator().manual_seed(1)
        )
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


SHAPES = {
    "MiniLM": Shape(384, 6, 12, 1536, batch=32),
    "BERT-base": Shape(768, 12, 12, 3072, batch=16),
}
