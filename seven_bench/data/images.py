"""Image classification from Parquet files or the hub: CIFAR and its like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seven_bench.data.loading import ArrayDataset
from seven_bench.data.task_data import Splits, TaskData
from seven_bench.errors import ConfigError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training pixels


class ImageData(TaskData):
    """Small images held in memory; a fixed tenth of train is validation.

    Options: `image_column`, `label_column`.
    """

    def load(self) -> Splits:
        rows = load_rows(self.files, self.hub, ("train", "test"))
        images, labels = self._tensors(rows["train"])
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(labels), generator=generator)
        held_out = order[: len(order) // 10]
        train = order[len(order) // 10 :]
        test_images, test_labels = self._tensors(rows["test"])
        return {
            "train": ArrayDataset(pixel_values=images[train], labels=labels[train]),
            "validation": ArrayDataset(pixel_values=images[held_out], labels=labels[held_out]),
            "test": ArrayDataset(pixel_values=test_images, labels=test_labels),
        }

    def _tensors(self, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = np.stack(
            [np.asarray(i.convert("RGB")) for i in rows[self.options["image_column"]]]
        )
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        labels = torch.tensor(rows[self.options["label_column"]], dtype=torch.int64)
        return images.sub_(mean).div_(std).contiguous(), labels


def load_rows(files: dict[str, Path], hub: str | None, splits: tuple[str, ...]) -> Any:
    """Splits as `datasets` rows, from local Parquet files or, without any, from the hub.

    Raises: ConfigError when there are no local files and the hub cannot be reached.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        if files:
            paths = {split: str(files[split]) for split in splits}
            return datasets.load_dataset("parquet", data_files=paths)
        return datasets.load_dataset(hub)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no data for {hub}: the hub cannot be reached; give data_root=FOLDER with its Parquet "
            f"files, or connect to the network ({type(error).__name__})"
        ) from error
