"""What every task's data offers: three splits, a training order that resumes, calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from seven_bench.data.augment import Augment, Augmented
from seven_bench.data.samplers import InOrder, SeededBatches, TrainLoader, hold_out, loader
from seven_bench.errors import ConfigError
from seven_bench.ranks import rank, world

Splits = dict[str, Dataset[Any]]
S = TypeVar("S", bound=Any)  # a sequence
# What runs of this process have loaded, by its content, the last used at the end. Nobody writes to
# splits.
_LOADED: dict[str, dict[str, Any]] = {}
KEPT = 512 << 20  # bytes of it; the last is kept whatever its size
LEAST = 2  # examples that can be learned from: with one there is nothing to tell apart


class TaskData(pl.LightningDataModule):
    """Base of a task's data. A task gives `load`.

    Args:
        seed: decides the order of training batches.
        split_seed: decides which examples are held out for validation; the fold, of data in folds.
        batch_size: training examples a batch.
        eval_batch_size: examples a batch in validation and test.
        files: local files by split; empty: the hub's.
        hub: the data set's name on the hub; `hub_config`: its configuration there.
        workers: loader processes.
        options: the task's own settings.
    """

    def __init__(
        self,
        *,
        seed: int,
        split_seed: int = 0,
        batch_size: int,
        eval_batch_size: int = 256,
        files: dict[str, Path],
        hub: str | None = None,
        hub_config: str | None = None,
        workers: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed, self.batch_size, self.eval_batch_size = seed, batch_size, eval_batch_size
        self.files, self.hub, self.hub_config = files, hub, hub_config
        self.workers, self.options, self.split_seed = workers, options, split_seed
        self.classes: int | None = None  # labels are below it, where it is known
        self.most: int | None = None  # examples of a split, where it is only to be seen to work
        self.augment: Augment | None = None  # of training batches, and of no others
        self.content: str | None = None  # what `load` gives depends on this, where it is known

    def load(self) -> Splits:
        """The splits `train`, `validation` and `test`; `dataset[indices]` is a whole batch."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "splits"):
            return
        if self.content is not None and self.content in _LOADED:
            _LOADED[self.content] = left = _LOADED.pop(self.content)
            vars(self).update(left)
            return
        before = {*vars(self)}
        splits = self.load()
        self._check_sizes(splits)
        if self.classes is not None:
            self._check_classes(splits, self.classes)
        self.splits = splits
        if self.content is not None:  # splits, and what `load` has left: a tokenizer, names
            left = {name: value for name, value in vars(self).items() if name not in before}
            _LOADED[self.content] = left
            _drop_oldest()

    def hold_out(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of train and validation among `size` examples; see `samplers.hold_out`."""
        return hold_out(size, self.options.get("train_examples"), self.split_seed)

    def shortened(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Rows of `datasets` by split: some of them where `most` says so, else all."""
        return {
            split: part if self.most is None else part.select(self.some(range(len(part))))
            for split, part in rows.items()
        }

    def some(self, values: S) -> S:
        """A sequence, or, where `most` says so, as many of it, from its beginning to its end."""
        if self.most is not None:
            values = values[:: -(-len(values) // self.most)]
        return values

    def place(self, split: str) -> str:
        """What a message calls a split by the hub's name: its file, or its name on the hub."""
        if (file := self.files.get(split)) is not None:
            return str(file)
        return "/".join(filter(None, (self.hub, self.hub_config, split)))

    def _check_sizes(self, splits: Splits) -> None:
        sizes = {name: len(split) for name, split in splits.items()}  # type: ignore[arg-type]
        if min(sizes.values()) < 1 or sizes["train"] < LEAST:
            places = ", ".join(map(str, self.files.values())) or self.hub
            told = ", ".join(f"{size} of {name}" for name, size in sizes.items())
            raise ConfigError(
                f"{places}: too few rows, {told}: allowed are {LEAST} or more of train and 1 of "
                "the others (validation is a tenth of the training set, where it is not given)"
            )

    def _check_classes(self, splits: Splits, classes: int) -> None:
        for name, split in splits.items():
            labels = getattr(split, "columns", {}).get("labels")
            if labels is None or labels.is_floating_point() or not len(labels):
                continue
            if (highest := int(labels.max())) >= classes:
                places = ", ".join(map(str, self.files.values())) or self.hub
                raise ConfigError(
                    f"{places}: a label of {name} is {highest}: allowed are 0 to {classes - 1} "
                    f"(task.classes={classes})"
                )

    def size(self, split: str) -> int:
        return len(self.splits[split])  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        train, batches = self.splits["train"], self.train_batches()
        if self.augment is not None:
            train = Augmented(train, self.augment, batches)
        return TrainLoader(train, batches, self.workers)

    def weight(self, batch_index: int, accumulate: int) -> float:
        """What a training batch's mean loss counts in its optimizer step; see `SeededBatches`."""
        return self.train_batches().weight(batch_index, accumulate)

    def train_batches(self) -> SeededBatches:
        """The order of training batches; it depends on the seed and the epoch alone."""
        return SeededBatches(self.size("train"), self.batch_size, self.seed, rank(), world())

    def eval_batches(self, split: str) -> InOrder:
        """The order of an evaluation's batches."""
        return InOrder(self.size(split), self.eval_batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._in_order("test")

    def _in_order(self, split: str) -> DataLoader[Any]:
        return loader(self.splits[split], self.eval_batches(split), self.workers)

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

    def example_batch(self, size: int) -> dict[str, Any]:
        """A batch to measure a model with: examples that are scored, again where they run out."""
        split = self.splits["test"]
        batch: dict[str, Any] = split[[index % self.size("test") for index in range(size)]]
        return batch

    @property
    def folds(self) -> int:
        """How many disjoint test sets splits have between them; 1 where all score the same."""
        return 1

    def scored_examples(self) -> int:
        """Examples that the main metric is taken over."""
        return self.size("test")

    def majority(self, metric: str = "accuracy") -> float | None:
        """A metric of always answering the training set's most frequent class, on test.

        None where there are no classes, or the metric says nothing of it.
        """
        labels = getattr(self.splits["train"], "columns", {}).get("labels")
        if labels is None or labels.is_floating_point():
            return None
        most = torch.mode(labels).values
        share = float((self._scored_labels() == most).double().mean())
        match metric:
            case "accuracy":
                return share
            case "f1":  # of class 1: recall is 1, or nothing is found
                return 2 * share / (1 + share) if int(most) == 1 else 0.0
            case "matthews":
                return 0.0
            case _:
                return None

    def _scored_labels(self) -> torch.Tensor:
        labels: torch.Tensor = self.splits["test"].columns["labels"]  # type: ignore[attr-defined]
        return labels


def _drop_oldest() -> None:
    sizes = {content: size_of(left, set()) for content, left in _LOADED.items()}
    while len(_LOADED) > 1 and sum(sizes.values()) > KEPT:
        oldest = next(iter(_LOADED))
        del _LOADED[oldest], sizes[oldest]


def size_of(value: Any, seen: set[int]) -> int:
    """About how many bytes tensors, texts and rows take, in whatever holds them; each counts once.

    Args:
        seen: ids of what was counted before.
    """
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(size_of(item, seen) for item in value.values())
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], int | float | Path):
            return 36 * len(value)
        return sum(8 + size_of(item, seen) for item in value)
    if hasattr(value, "nbytes"):  # a table of pyarrow's
        return int(value.nbytes)
    if hasattr(value, "features"):  # rows of `datasets`
        return int(value.data.nbytes)
    return size_of(vars(value), seen) if isinstance(value, Dataset) else 0
