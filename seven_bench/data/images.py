"""Image classification: CIFAR and its like in memory, ImageNet decoded as it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from seven_bench.data.augment import Change
from seven_bench.data.rows import load_rows, read_labels
from seven_bench.data.task_data import Splits, TaskData
from seven_bench.errors import ConfigError
from seven_bench.settings.node import shown
from seven_bench.settings.sources import SYNSETS, image_folders, parquet_files

#: What PIL raises of what is no image, and `datasets` of what it cannot open.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


#: The shorter side over that of the centre which is cut out of it.
AROUND = 8 / 7


def decoded(image: Any) -> Image.Image:
    """A picture, or that at a path, in colours. Raises one of UNREADABLE where there is none."""
    opened = Image.open(image) if isinstance(image, str | Path) else image
    if not isinstance(opened, Image.Image):
        raise ValueError(f"{shown(opened)} is not an image")
    return opened.convert("RGB")


def unreadable(place: object, row: int, column: str, error: Exception) -> ConfigError:
    """That a row has no image, and why."""
    known = isinstance(error, UnidentifiedImageError)  # names an object in memory
    reason = "what is there is no image, or of no known kind" if known else error
    return ConfigError(f"{place}: row {row} has no {column}: {reason}")


class Normalize:
    """Pixels 0 to 255, uint8 [b, 3, h, w], to what the model takes: float32 [b, 3, size, size]."""

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size = size
        self.mean = torch.tensor(mean).view(3, 1, 1)
        self.std = torch.tensor(std).view(3, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        images = pixels.float().div_(255)
        if images.shape[-2:] != (self.size, self.size):
            shape = (self.size, self.size)
            images = F.interpolate(images, shape, mode="bicubic", antialias=True).clamp_(0, 1)
        return images.sub_(self.mean).div_(self.std)


class Pixels(Dataset[dict[str, Any]]):
    """Images of one size held in memory as uint8 [n, 3, h, w]; normalised batch by batch."""

    def __init__(self, pixels: Tensor, labels: Tensor, normalize: Normalize) -> None:
        self.pixels, self.normalize = pixels, normalize
        self.columns = {"labels": labels}

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        return self._batch(indices, self.pixels[torch.as_tensor(indices)])

    def changed(self, indices: Sequence[int], change: Change) -> dict[str, Any]:
        """A batch of which each picture is changed."""
        pictures = (Image.fromarray(self.pixels[i].permute(1, 2, 0).numpy()) for i in indices)
        side = self.pixels.shape[-1]
        found = [_as_pixels(change(i, p, side)) for i, p in zip(indices, pictures, strict=True)]
        return self._batch(indices, torch.stack(found))

    def _batch(self, indices: Sequence[int], pixels: Tensor) -> dict[str, Any]:
        labels = self.columns["labels"][torch.as_tensor(indices)]
        return {"pixel_values": self.normalize(pixels), "labels": labels}


class Lazy(Dataset[dict[str, Any]]):
    """Images decoded when they are read: the shorter side to 8/7 of the size, then the centre.

    Args:
        images: indexable; gives a PIL image or the path of one.
        labels: [images].
        chosen: the indices this split is made of.
        normalize: its size is that of the centre.
        place: what messages call the images' file.
    """

    def __init__(
        self,
        images: Sequence[Any],
        labels: Tensor,
        chosen: Tensor,
        normalize: Normalize,
        place: str,
    ) -> None:
        self.images, self.chosen, self.normalize = images, chosen.tolist(), normalize
        self.place = place
        self.columns = {"labels": labels[chosen]}

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        return self._batch(indices, [self._centre(self._picture(self.chosen[i])) for i in indices])

    def changed(self, indices: Sequence[int], change: Change) -> dict[str, Any]:
        """A batch of which each picture is changed; what is not cut otherwise is its centre."""
        size = self.normalize.size
        found = [change(i, self._picture(self.chosen[i]), size, cut=self._centre) for i in indices]
        return self._batch(indices, found)

    def _batch(self, indices: Sequence[int], pictures: Sequence[Image.Image]) -> dict[str, Any]:
        return {
            "pixel_values": self.normalize(torch.stack([*map(_as_pixels, pictures)])),
            "labels": self.columns["labels"][torch.as_tensor(indices)],
        }

    def pixels(self, row: int) -> Tensor:
        """The centre of an image, uint8 [3, size, size].

        Raises: ConfigError, with the file and the row, where there is none.
        """
        return _as_pixels(self._centre(self._picture(row)))

    def _picture(self, row: int) -> Image.Image:
        try:
            return decoded(self.images[row])
        except UNREADABLE as error:
            paths = isinstance(self.images, list)  # of a folder the file is named, not its number
            place = self.images[row] if paths else self.place
            raise unreadable(place, 0 if paths else row, "image", error) from error

    def _centre(self, picture: Image.Image) -> Image.Image:
        size = self.normalize.size
        scale = size * AROUND / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        return picture.crop((left, top, left + size, top + size))


def _as_pixels(picture: Image.Image) -> Tensor:
    """A picture as uint8 [3, h, w]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class ImageData(TaskData):
    """A tenth of train, at most 5,000 images, is validation; `scored` is the split scored once.

    Options: `image_column`, `label_column`, `scored` (a split of the hub's), `lazy` (decode images
    as they are read), `train_examples`, and `image`: the `size`, `mean` and `std` of the model.
    """

    def load(self) -> Splits:
        image = self.options["image"]
        self.normalize = Normalize(image["size"], image["mean"], image["std"])
        if self.options.get("lazy"):
            return self._load_lazily()
        rows = self._rows()
        pixels, labels = self._tensors(rows["train"], "train")
        train, held_out = self.hold_out(len(labels))
        scored, scored_labels = self._tensors(rows[self.scored], self.scored)
        return {
            "train": Pixels(pixels[train], labels[train], self.normalize),
            "validation": Pixels(pixels[held_out], labels[held_out], self.normalize),
            "test": Pixels(scored, scored_labels, self.normalize),
        }

    @property
    def around(self) -> float:
        """The shorter side of an image over what the model sees of it."""
        return AROUND if self.options.get("lazy") else 1.0

    @property
    def scored(self) -> str:
        return str(self.options.get("scored", "test"))

    def _rows(self) -> Any:
        rows = self.shortened(load_rows(self.files, self.hub, ("train", self.scored)))
        feature = rows["train"].features.get(self.options["label_column"])
        self.class_names = list(getattr(feature, "names", None) or [])
        return rows

    def _tensors(self, rows: Any, split: str) -> tuple[Tensor, Tensor]:
        labels = read_labels(rows, self.options["label_column"], self.place(split))
        images = [np.asarray(image) for image in self._pictures(rows, split)]
        if not images:
            raise ConfigError(f"{self.place(split)}: it has no rows")
        if len({image.shape for image in images}) != 1:
            raise ConfigError("images differ in size: this task's data needs `task.data.lazy=true`")
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return pixels, torch.tensor(labels, dtype=torch.int64)

    def _pictures(self, rows: Any, split: str) -> Iterator[Image.Image]:
        """Each image decoded. Raises ConfigError, with the row, where one is none."""
        column, row = self.options["image_column"], 0
        if column not in rows.column_names:
            place, known = self.place(split), ", ".join(rows.column_names)
            raise ConfigError(f"{place}: no column {column}; it has {known}")
        try:
            for image in rows[column]:
                yield decoded(image)
                row += 1
        except UNREADABLE as error:
            raise unreadable(self.place(split), row, column, error) from error

    def _load_lazily(self) -> Splits:
        if self.files and not parquet_files(self.files["train"]):
            whole = {split: _image_folder(path) for split, path in self.files.items()}
            parts = {s: (self.some(files), self.some(ls)) for s, (files, ls) in whole.items()}
            self.class_names = _synset_names(self.files["train"])
        else:
            rows = self._rows()
            parts = {
                split: (
                    part[self.options["image_column"]],
                    read_labels(part, self.options["label_column"], self.place(split)),
                )
                for split, part in rows.items()
            }
        images, train_labels = parts["train"]
        labels = torch.tensor(train_labels)
        train, held_out = self.hold_out(len(labels))
        scored, scored_labels = parts[self.scored]
        everything, answers = torch.arange(len(scored)), torch.tensor(scored_labels)
        place = self.place("train")
        return {
            "train": Lazy(images, labels, train, self.normalize, place),
            "validation": Lazy(images, labels, held_out, self.normalize, place),
            "test": Lazy(scored, answers, everything, self.normalize, self.place(self.scored)),
        }


def _image_folder(root: Path) -> tuple[list[Path], list[int]]:
    """Paths and labels of `root/<class>/<image>`; classes are numbered by the alphabet.

    Raises: ConfigError when there is none.
    """
    folders = image_folders(root)
    found = [(file, label) for label, (_, files) in enumerate(folders) for file in files]
    if not found:
        raise ConfigError(f"{root} holds neither Parquet files nor a folder of images a class")
    return [file for file, _ in found], [label for _, label in found]


def _synset_names(root: Path) -> list[str]:
    """Class names from ImageNet's own list beside `root`, else the folders' names."""
    folders = [folder.name for folder, _ in image_folders(root)]
    listed = root.parent / SYNSETS
    if not listed.is_file():
        return folders
    lines = (line.split(" ", 1) for line in listed.read_text().splitlines() if " " in line)
    names = dict(lines)
    return [names.get(folder, folder) for folder in folders]
