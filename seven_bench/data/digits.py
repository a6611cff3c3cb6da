"""scikit-learn's 1,797 real 8x8 digits: nothing to download."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seven_bench.data.augment import Change
from seven_bench.data.samplers import ArrayDataset
from seven_bench.data.task_data import Splits, TaskData


class Digits(ArrayDataset):
    """Pictures of one channel, float32 [n, 1, 8, 8] from -1, which is paper, to 1."""

    def changed(self, indices: Sequence[int], change: Change) -> dict[str, Any]:
        """A batch of which each picture is changed."""
        batch = self[indices]
        pictures = [Image.fromarray(pixels[0].numpy()) for pixels in batch["pixel_values"]]
        changed = [
            change(index, picture, picture.width, paper=-1)
            for index, picture in zip(indices, pictures, strict=True)
        ]
        values = np.stack([np.asarray(picture) for picture in changed])[:, None]
        return {**batch, "pixel_values": torch.from_numpy(values)}


class DigitsData(TaskData):
    """Train 1,259, validation 179, test 359; stratified. The test set is fixed; `split_seed` says
    which of the rest is held out.
    """

    def load(self) -> Splits:
        images, labels = self._read()
        chosen = self._choose(labels)
        return {
            name: Digits(pixel_values=images[i], labels=labels[i])
            for name, i in ((name, self.some(indices)) for name, indices in chosen.items())
        }

    def _read(self) -> tuple[Tensor, Tensor]:
        """Pixels, float32 [n, 1, 8, 8] from -1 to 1, and labels, int64 [n]."""
        with gzip.open(self.files["all"], "rt") as file:
            table = np.loadtxt(file, delimiter=",")
        images = torch.from_numpy(table[:, :-1]).float().view(-1, 1, 8, 8) / 8 - 1
        return images, torch.from_numpy(table[:, -1]).long()

    def _choose(self, labels: Tensor) -> dict[str, Tensor]:
        """The indices of each split."""
        parts: dict[str, list[Tensor]] = {"train": [], "validation": [], "test": []}
        drawn = torch.Generator().manual_seed(self.split_seed)
        for members in _shuffled_classes(labels):
            test, validation = round(0.2 * len(members)), round(0.1 * len(members))
            rest = members[test:]
            if self.split_seed:
                rest = rest[torch.randperm(len(rest), generator=drawn)]
            parts["test"].append(members[:test])
            parts["validation"].append(rest[:validation])
            parts["train"].append(rest[validation:])
        return {name: torch.cat(members) for name, members in parts.items()}


class DigitsFolds(DigitsData):
    """Digits in `folds` stratified parts, which are disjoint: part `split_seed` is scored, an
    eighth of the others is validation. Over all folds every image is scored once.
    """

    @property
    def folds(self) -> int:
        return int(self.options["folds"])

    def _choose(self, labels: Tensor) -> dict[str, Tensor]:
        order = torch.cat(_shuffled_classes(labels))
        fold = torch.arange(len(order)) % self.folds  # goes on from class to class
        rest = order[fold != self.split_seed]
        held_out = torch.arange(len(rest)) % 8 == 0
        return {
            "train": rest[~held_out],
            "validation": rest[held_out],
            "test": order[fold == self.split_seed],
        }


def _shuffled_classes(labels: Tensor) -> list[Tensor]:
    """The indices of each class, shuffled, the same always."""
    generator = torch.Generator().manual_seed(0)
    classes = [(labels == digit).nonzero().reshape(-1) for digit in range(10)]
    return [members[torch.randperm(len(members), generator=generator)] for members in classes]
