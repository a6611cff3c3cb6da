"""What every task's data offers: three splits, a training order that resumes, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from seven_bench.data.loading import InOrder, SeededBatches, TrainLoader, loader
from seven_bench.ranks import rank, world

Splits = dict[str, Dataset[Any]]


class TaskData(pl.LightningDataModule):
    """Base of a task's data. A task gives `load`.

    Args:
        seed: decides the order of training batches.
        batch_size: training examples a batch.
        eval_batch_size: examples a batch in validation and test.
        files: local files by split; empty: the hub's.
        hub: the data set's name on the hub.
        workers: loader processes.
        options: the task's own settings.
    """

    def __init__(
        self,
        *,
        seed: int,
        batch_size: int,
        eval_batch_size: int = 256,
        files: dict[str, Path],
        hub: str | None = None,
        workers: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed, self.batch_size, self.eval_batch_size = seed, batch_size, eval_batch_size
        self.files, self.hub, self.workers, self.options = files, hub, workers, options

    def load(self) -> Splits:
        """The splits `train`, `validation` and `test`; `dataset[indices]` is a whole batch."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if not hasattr(self, "splits"):
            self.splits = self.load()

    def size(self, split: str) -> int:
        return len(self.splits[split])  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        return TrainLoader(self.splits["train"], self.train_batches(), self.workers)

    def train_batches(self) -> SeededBatches:
        """The order of training batches; it depends on the seed and the epoch alone."""
        return SeededBatches(self.size("train"), self.batch_size, self.seed, rank(), world())

    def weight(self, batch_index: int, accumulate: int) -> float:
        """What a training batch's mean loss counts in its optimizer step; see `SeededBatches`."""
        return self.train_batches().weight(batch_index, accumulate)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader[Any]:
        return loader(self.splits[split], InOrder(self.size(split), self.eval_batch_size))

    def calibration_batches(self, count: int, batch_size: int, seed: int) -> Iterator[Any]:
        """`count` full batches of training examples in an order of their own, passing over the
        data again where it runs out.
        """
        size = self.size("train")
        batches = SeededBatches(size, min(batch_size, size), seed, rank(), world())
        while count:
            for index, indices in enumerate(batches):
                if (index + 1) * batches.batch_size <= size:
                    yield self.splits["train"][indices]
                    count -= 1
                if not count:
                    return
            batches.set_epoch(batches.epoch + 1)

    def calibration_weight(self, batch_size: int) -> float:
        """What this process's share of a calibration batch counts in the mean over processes."""
        size = self.size("train")
        return SeededBatches(size, min(batch_size, size), 0, rank(), world()).weight(0)

    def majority(self) -> float | None:
        """The main metric of always answering the training set's most frequent class, on test."""
        columns = getattr(self.splits["train"], "columns", {})
        if "labels" not in columns:
            return None
        most = torch.mode(columns["labels"]).values
        return float((self.splits["test"].columns["labels"] == most).float().mean())  # type: ignore[attr-defined]
