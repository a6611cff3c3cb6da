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
        batch_size: examples a batch, over all processes; the last one of an epoch may be smaller.
        seed: decides the order of every epoch.
        rank, world: this process and how many there are: each takes its share of every batch.

    `offset` batches are left out of the next pass, and of that one alone: a run that was
    interrupted in the middle of an epoch goes on where it stopped.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self.offset = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        first, self.offset = self.offset, 0
        for batch in self.batches()[first:]:
            # a process without a share computes on an example all the same: weight says 0
            yield batch[self.rank :: self.world] or batch[:1]

    def batches(self) -> list[list[int]]:
        """This epoch's batches, whole; the last may be smaller."""
        order = torch.randperm(self.size, generator=self._generator()).tolist()
        return [order[s : s + self.batch_size] for s in range(0, self.size, self.batch_size)]

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)

    def weight(self, index: int, accumulate: int = 1) -> float:
        """What the mean loss of this process's share of batch `index` counts, so that the gradient
        of an optimizer step is the mean over all of the step's examples.

        1 but where the shares of processes, or the batches of a step, differ in size; it allows
        for the division by `accumulate` and by the number of processes that training makes.
        """
        first = index - index % accumulate
        step = min(self.size, (first + accumulate) * self.batch_size) - first * self.batch_size
        batch = min(self.size, (index + 1) * self.batch_size) - index * self.batch_size
        share = len(range(self.rank, batch, self.world))
        return share * self.world * accumulate / step


class GroupedBatches(SeededBatches):
    """`SeededBatches` of examples of like length, so that little of a batch is padding.

    Each epoch is shuffled; within every `pool` batches of that order examples are sorted by length
    and cut into batches, and the batches are shuffled. Which examples meet is random, and the same
    for (seed, epoch) on any machine.
    """

    def __init__(
        self,
        lengths: torch.Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        pool: int = 64,
    ) -> None:
        super().__init__(len(lengths), batch_size, seed, rank, world)
        self.lengths, self.pool = lengths, pool

    def batches(self) -> list[list[int]]:
        generator = self._generator()
        order = torch.randperm(self.size, generator=generator)
        found: list[list[int]] = []
        for part in torch.split(order, self.pool * self.batch_size):
            by_length = part[torch.argsort(self.lengths[part], stable=True)]
            found += [batch.tolist() for batch in torch.split(by_length, self.batch_size)]
        whole = self.size // self.batch_size
        shuffled = torch.randperm(whole, generator=generator).tolist()
        return [*(found[index] for index in shuffled), *found[whole:]]


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


def hold_out(
    size: int, train_examples: int | None = None, split_seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of train and validation: a tenth, at most 5,000, is held out.

    Args:
        size: examples there are.
        train_examples: how many to train on (the first of the shuffled rest); null: all.
        split_seed: decides which are held out; it is not the run's seed.

    Raises: ConfigError when there are not that many.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(split_seed))
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


class TrainLoader(DataLoader[Any]):
    """A loader whose state is the place of the batch in hand, the one to be trained on next.

    Lightning saves it with a checkpoint and gives it back, after which the next pass begins there.
    """

    def __init__(self, dataset: Dataset[Any], batches: SeededBatches, workers: int = 0) -> None:
        super().__init__(dataset, sampler=batches, batch_size=None, num_workers=workers)
        self.batches = batches
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.taken = self.batches.offset
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.batches.epoch, "batch": max(0, self.taken - 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batches.set_epoch(state["epoch"])
        self.batches.offset = state["batch"]


def loader(dataset: Dataset[Any], batches: Sampler[list[int]], workers: int = 0) -> DataLoader[Any]:
    """A loader over whole batches: `dataset[list of indices]` is one batch, no collation."""
    return DataLoader(dataset, sampler=batches, batch_size=None, num_workers=workers)
