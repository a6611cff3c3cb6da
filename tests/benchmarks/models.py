"""The models that are measured, with random weights: no download, and speed does not care."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

TOKENS = 64


@dataclass(frozen=True)
class Shape:
    """A BERT: width, depth, heads, inner width, the batch it is trained with and its tokens."""

    width: int
    depth: int
    heads: int
    inner: int
    batch: int
    tokens: int = TOKENS

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
            1000, 30000, (batch, self.tokens), generator=torch.Generator().manual_seed(1)
        )
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        labels = torch.arange(len(inputs["input_ids"]), device=inputs["input_ids"].device) % 2
        loss: Tensor = model(**inputs, labels=labels).loss
        return loss


@dataclass(frozen=True)
class Pictures:
    """ViT-B/16 on pictures of 224 x 224, 1,000 classes."""

    batch: int

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return VisionTransformer()

    def inputs(self, batch: int | None = None) -> dict[str, Tensor]:
        size = (batch or self.batch, 3, 224, 224)
        return {"pictures": torch.randn(size, generator=torch.Generator().manual_seed(1))}

    def loss(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        pictures = inputs["pictures"]
        return F.cross_entropy(model(pictures), torch.arange(len(pictures), device=pictures.device))


SHAPES: dict[str, Shape] = {
    "MiniLM": Shape(384, 6, 12, 1536, batch=32),
    "BERT-base": Shape(768, 12, 12, 3072, batch=16),
}
ON_GPU: dict[str, Shape | Pictures] = {
    "BERT-base, batch 32, 128 tokens": Shape(768, 12, 12, 3072, batch=32, tokens=128),
    "ViT-B/16, batch 64": Pictures(batch=64),
}
