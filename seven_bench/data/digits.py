"""scikit-learn's 1,797 real 8x8 digits: nothing to download."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

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
    """Train 1,259, validation 179, test 359; stratified, fixed whatever the run's seed."""

    def load(self) -> Splits:
        with gzip.open(self.files["all"], "rt") as file:
            table = np.loadtxt(file, delimiter=",")
        images = torch.from_numpy(table[:, :-1]).float().view(-1, 1, 8, 8) / 8 - 1
        labels = torch.from_numpy(table[:, -1]).long()
        parts: dict[str, list[torch.Tensor]] = {"train": [], "validation": [], "test": []}
        generator = torch.Generator().manual_seed(0)
        for digit in range(10):
            members = (labels == digit).nonzero().reshape(-1)
            members = members[torch.randperm(len(members), generator=generator)]
            test, validation = round(0.2 * len(members)), round(0.1 * len(members))
            parts["test"].append(members[:test])
            parts["validation"].append(members[test : test + validation])
            parts["train"].append(members[test + validation :])
        return {
            name: Digits(pixel_values=images[i], labels=labels[i])
            for name, i in ((n, torch.cat(members)) for n, members in parts.items())
        }
