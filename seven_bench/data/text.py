"""What tasks on text share: a tokenizer, and batches of like length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from seven_bench.data.samplers import GroupedBatches, InOrder, LongestFirst, SeededBatches
from seven_bench.data.task_data import TaskData
from seven_bench.data.tokenizers import tokenizer_for
from seven_bench.ranks import rank, world


class TextData(TaskData):
    """Base of the tasks on text.

    Options: `tokenizer` (what `weights.locate` takes, or "data"), `vocabulary` (size of one made
    from the data), `max_length` in tokens, `group_by_length`.
    """

    def make_tokenizer(self, texts: Iterable[str]) -> Any:
        """The model's tokenizer; `texts` are read only where it is made from them."""
        options = self.options
        return tokenizer_for(options["tokenizer"], texts, options["vocabulary"])

    def train_batches(self) -> SeededBatches:
        if not self.options.get("group_by_length", True):
            return super().train_batches()
        lengths = self.splits["train"].lengths  # type: ignore[attr-defined]
        return GroupedBatches(lengths, self.batch_size, self.seed, rank(), world())

    def eval_batches(self, split: str) -> InOrder:
        lengths = self.splits[split].lengths  # type: ignore[attr-defined]
        return LongestFirst(lengths, self.eval_batch_size)

    def example_batch(self, size: int) -> dict[str, Any]:
        """As of any task, every text as long as the longest allowed: its tokens over again."""
        texts = self.splits["train"]
        found = texts.padded([index % len(texts) for index in range(size)])  # type: ignore
        places = torch.arange(self.options["max_length"]) % found["input_ids"].shape[1]
        batch = {name: value[:, places] for name, value in found.items()}
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
