"""Batches in an order that a seed decides, and that can be taken up in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from seven_bench.errors import ConfigError

MOST_HELD_OUT = 5_000  # validation examples


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


class GroupedBatches(SeededBatches):
    """`SeededBatches` of examples of like length, so that little of a batch is padding.

    Each epoch is shuffled; within every `pool` batches of that order examples are sorted by length
    and cut into batches, and the batches are shuffled. Which examples meet is random, and the same
    for (seed, epoch) on any machine.
    """

    def __init__(self, lengths: torch.Tensor, batch_size: int, seed: int, pool: int = 64) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths, self.pool = lengths, pool

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.size, generator=generator)
        batches: list[list[int]] = []
        for part in order.split(self.pool * self.batch_size):
            by_length = part[torch.argsort(self.lengths[part], stable=True)]
            batches += [batch.tolist() for batch in by_length.split(self.batch_size)]
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        first, self.offset = self.offset, 0
        for index in shuffled[first:]:
            yield batches[index]


class InOrder(Sampler[list[int]]):
    """Batches of indices in the data's own order, for evaluation."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.size, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.size)))


class LongestFirst(InOrder):
    """Batches for evaluation from the longest example to the shortest."""

    def __init__(self, lengths: torch.Tensor, batch_size: int) -> None:
        super().__init__(len(lengths), batch_size)
        self.order = torch.argsort(lengths, descending=True, stable=True).tolist()

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield [self.order[position] for position in batch]


def hold_out(size: int, train_examples: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of train and validation: a tenth, at most 5,000, is held out; the same for any seed.

    Args:
        size: examples there are.
        train_examples: how many to train on (the first of the shuffled rest); null: all.

    Raises: ConfigError when there are not that many.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    held_out = min(size // 10, MOST_HELD_OUT)
    rest = order[held_out:]
    if train_examples is not None and not 0 < train_examples <= len(rest):
        raise ConfigError(
            f"task.train_examples={train_examples}: allowed are 1 to {len(rest)} (a tenth of the "
            "training set, at most 5,000, is held out for validation)"
        )
    return rest[:train_examples], order[:held_out]


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
