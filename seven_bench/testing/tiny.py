"""Tiny random models of the three families, and an easy problem for each: nothing to download."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

from seven_bench.data.samplers import ArrayDataset
from seven_bench.data.task_data import Splits, TaskData
from seven_bench.pruning import MaskSet, Params, prunable_parameters
from seven_bench.pruning.masks import prune
from seven_bench.store.tensors import write_tensors
from seven_bench.training.finetune import Recipe
from seven_bench.training.module import Batch, TaskModule

CLASSES, TRAIN, BATCH = 4, 60, 8  # the last batch of an epoch is half full
MODELS = ("vit", "bert", "clip")
WIDE: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def build(name: str, seed: int = 0) -> nn.Module:
    """A plain model with random weights."""
    torch.manual_seed(seed)
    match name:
        case "vit":
            model = VisionTransformer(
                img_size=8, patch_size=4, in_chans=1, num_classes=CLASSES, embed_dim=16, depth=2,
                num_heads=2, mlp_ratio=2,
            )  # fmt: skip
            with torch.no_grad():  # timm's 0.02 is meant for a width of hundreds
                for weight in model.parameters():
                    if weight.ndim == 2:
                        weight.mul_(10)
            return model
        case "bert":
            return BertForSequenceClassification(
                BertConfig(  # type: ignore[call-arg]
                    vocab_size=20,
                    num_hidden_layers=2,
                    max_position_embeddings=8,
                    num_labels=CLASSES,
                    initializer_range=0.1,
                    **WIDE,
                )
            )
        case _:
            text = CLIPTextConfig(
                vocab_size=20, num_hidden_layers=1, max_position_embeddings=8, projection_dim=16,
                eos_token_id=19, bos_token_id=18, pad_token_id=17, **WIDE,
            )  # fmt: skip
            vision = CLIPVisionConfig(
                num_hidden_layers=1, image_size=8, patch_size=4, num_channels=1, projection_dim=16,
                **WIDE,
            )  # fmt: skip
            return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))


@cache
def _start(name: str) -> nn.Module:
    return build(name)


def start(name: str) -> nn.Module:
    """The same random weights every time."""
    return copy.deepcopy(_start(name))


FILES = tempfile.TemporaryDirectory(prefix="seven_bench_tiny_")  # goes with the process


@cache
def masks_file(name: str, sparsity: float) -> Path:
    """A file of random masks over a tiny model's prunable weights, for a method that takes some."""
    return write_masks_at(sparsity, prunable_parameters(start(name)), f"{name}-{sparsity:g}")


def write_masks_at(sparsity: float, params: Params, stem: str) -> Path:
    """A file of random masks of exactly a sparsity, 0 and 1 by the weights' names."""
    generator = torch.Generator().manual_seed(2)
    scores = {name: torch.rand(p.shape, generator=generator) for name, p in params.items()}
    masks = prune(scores, MaskSet.ones(scores), sparsity)
    numbers = {name: mask.to(torch.uint8) for name, mask in masks.items()}
    return write_tensors(numbers, Path(FILES.name, f"{stem}.safetensors"))


class TinyData(TaskData):
    """Each class has a picture and a sentence of its own; examples are those with noise."""

    def load(self) -> Splits:
        return {**_splits()}


@cache
def _splits() -> dict[str, ArrayDataset]:
    generator = torch.Generator().manual_seed(5)
    pictures = torch.randn(CLASSES, 1, 8, 8, generator=generator)
    sentences = torch.randint(0, 17, (CLASSES, 6), generator=generator)
    splits = {}
    for split, size in (("train", TRAIN), ("validation", 16), ("test", 16)):
        labels = torch.arange(size) % CLASSES
        noise = torch.randn(size, 1, 8, 8, generator=generator)
        tokens = sentences[labels].clone()
        tokens[torch.arange(size), torch.randint(1, 5, (size,), generator=generator)] = 17
        tokens[:, -1] = 19
        splits[split] = ArrayDataset(
            pixel_values=3 * pictures[labels] + 0.3 * noise, input_ids=tokens, labels=labels
        )
    return splits


class TinyModule(TaskModule):
    """Cross-entropy; for CLIP, of a picture among the four sentences."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        metrics = MetricCollection({"accuracy": MulticlassAccuracy(CLASSES, average="micro")})
        super().__init__(model, recipe, metrics)
        self.losses: list[float] = []

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        answer: Tensor
        if isinstance(model, VisionTransformer):
            answer = model(batch["pixel_values"])
        elif isinstance(model, BertForSequenceClassification):
            answer = model(input_ids=batch["input_ids"]).logits
        else:
            words = _splits()["test"].columns["input_ids"][:CLASSES].to(self.device)
            pixels = batch["pixel_values"]
            answer = model(input_ids=words, pixel_values=pixels).logits_per_image
        return answer

    def objective(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(logits, batch["labels"])

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.losses.append(float(self.loss_sum) / self.loss_count)


def tiny_data(seed: int, batch_size: int = BATCH) -> TinyData:
    """The problem's data, ready to be used."""
    data = TinyData(seed=seed, batch_size=batch_size, files={"": Path()})
    data.setup()
    return data
