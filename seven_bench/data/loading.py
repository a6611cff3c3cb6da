"""Batches in an order that a seed decides, and that can be taken up in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class SeededBatches(Sampler[list[int]]):
    """Batches of indices, shuffled anew each epoch by (seed, epoch), the same on any machine.

    Args:
        size: number of examples.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        seed: decides the order of every epoch.

    `offset` batches are left out of the next pass, and of that one alone: a run that was
    interrupted in the middle of an epoch goes on where it stopped.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = 0
        self.offset = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator).tolist()
        first, self.offset = self.offset, 0
        for start in range(first * self.batch_size, self.size, self.batch_size):
            yield order[start : start + self.batch_size]


class InOrder(Sampler[list[int]]):
    """Batches of indices in the data's own order, for evaluation."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.size, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.size)))


class ArrayDataset(Dataset[dict[str, Any]]):
    """Tensors in memory; indexing with a list of indices gives a batch at once."""

    def __init__(self, **columns: torch.Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        return {name: column[indices] for name, column in self.columns.items()}


def loader(dataset: Dataset[Any], batches: Sampler[list[int]], workers: int = 0) -> DataLoader[Any]:
    """A loader over whole batches: `dataset[list of indices]` is one batch, no collation."""
    return DataLoader(dataset, sampler=batches, batch_size=None, num_workers=workers)
