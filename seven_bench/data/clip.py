"""Images with the prompts of all classes: what CLIP tells classes apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from seven_bench.data.augment import Change
from seven_bench.data.images import ImageData
from seven_bench.data.task_data import Splits
from seven_bench.data.tokenizers import tokenizer_for
from seven_bench.errors import ConfigError

CORRECTED = {"cra": "crab"}  # a class of CIFAR-100, as it is spelt on the hub


class Prompted(Dataset[dict[str, Any]]):
    """Batches of `images` with, under `prompts`, the tokens of the class prompts: `input_ids` and
    `attention_mask`, int64 [classes, tokens], the same in every batch.
    """

    def __init__(self, images: Any, prompts: dict[str, Tensor]) -> None:
        self.images, self.prompts = images, prompts
        self.columns = images.columns

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        return {**self.images[indices], "prompts": self.prompts}

    def changed(self, indices: Sequence[int], change: Change) -> dict[str, Any]:
        """A batch of which each picture is changed."""
        return {**self.images.changed(indices, change), "prompts": self.prompts}


class ClipData(ImageData):
    """Options besides those of images: `prompt`, with `{}` for the class, `tokenizer` and
    `vocabulary` as of text, `classes`; `pad_to` where every prompt is that many tokens long, and
    padding is looked at as any other token (SigLIP was trained so).
    """

    def load(self) -> Splits:
        splits = super().load()
        if len(self.class_names) != self.options["classes"]:
            raise ConfigError(
                f"{len(self.class_names)} class names in the data, {self.options['classes']} wanted"
            )
        prompts = [self.options["prompt"].format(_readable(name)) for name in self.class_names]
        self.tokenizer = tokenizer_for(
            self.options["tokenizer"], prompts, self.options["vocabulary"]
        )
        form: dict[str, Any] = {"padding": True, "max_length": 77}
        names = ["input_ids", "attention_mask"]
        if (pad_to := self.options.get("pad_to")) is not None:
            form, names = {"padding": "max_length", "max_length": pad_to}, ["input_ids"]
        tokens = self.tokenizer(prompts, truncation=True, **form).convert_to_tensors("pt")
        chosen = {name: tokens[name] for name in names}
        return {name: Prompted(split, chosen) for name, split in splits.items()}


def _readable(name: str) -> str:
    """A class name as a reader would write it: of ImageNet's synonyms the first."""
    first = name.split(",")[0].replace("_", " ")
    return CORRECTED.get(first, first)
