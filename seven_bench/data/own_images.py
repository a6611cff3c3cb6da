"""Images of one's own: a folder a class, or the rows of Parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from seven_bench.data.by_content import divided, tell_copies
from seven_bench.data.images import AROUND, UNREADABLE, Lazy, Normalize, Pixels
from seven_bench.data.task_data import Splits, TaskData
from seven_bench.errors import ConfigError
from seven_bench.settings.digests import content_digests
from seven_bench.settings.own_data import image_bytes, read_classes
from seven_bench.settings.sources import image_files, is_table
from seven_bench.settings.tables import read_table

IN_MEMORY = 1 << 30  # bytes of pixels; what is more is decoded as it is read


class Files(Sequence[Image.Image]):
    """Images as they are stored, opened when asked for; `places` are what messages call them.

    Raises: ConfigError where one cannot be read.
    """

    def __init__(self, stored: list[Path | bytes | None], places: list[str]) -> None:
        self.stored, self.places = stored, places

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> Any:
        stored = self.stored[index]
        try:
            if stored is None:
                raise OSError("there is none")
            with Image.open(BytesIO(stored) if isinstance(stored, bytes) else stored) as opened:
                return in_colours(opened)
        except UNREADABLE as error:
            raise ConfigError(f"{self.places[index]}: no image that can be read") from error


def in_colours(stored: Image.Image) -> Image.Image:
    """A picture as one sees it: turned as its camera says, on white where it is transparent, and of
    16 bits the upper eight (Pillow would cut at 255, which is white all over).
    """
    picture = stored
    with suppress(Exception):  # of a head that is damaged; pixels that are fail again below
        picture = ImageOps.exif_transpose(stored)
    if picture.mode.startswith("I;16"):
        sixteen = np.asarray(picture)
        picture = Image.fromarray((sixteen >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        colours = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    return picture.convert("RGB")


class OwnImages(TaskData):
    """Options: `labels` (names of the classes, in order), `image` (the `size`, `mean` and `std` of
    the model), `train_examples`; of Parquet `image_column` and `label_column`.

    Images of a folder stand in the order of their content: what they are called decides nothing.
    Each is decoded once when the data are set up, so that one that cannot be read is named before
    training.
    """

    around = AROUND

    def load(self) -> Splits:
        image = self.options["image"]
        self.normalize = Normalize(image["size"], image["mean"], image["std"])
        parts: Splits = {}
        every: dict[str, list[bytes]] = {}
        for split, path in self.files.items():
            images, labels, keys = self._table(path) if is_table(path) else self._folder(path)
            rows, every[split] = {split: list(range(len(images)))}, keys
            if split == "train":
                given = [name for name in self.files if name != "train"]
                seed, most = self.split_seed, self.options["train_examples"]
                rows = divided(keys, given, seed, most)
            for name, chosen in rows.items():
                some = torch.tensor(self.some(chosen))
                parts[name] = self._dataset(images, torch.tensor(labels), some)
        tell_copies(every)
        return parts

    def _table(self, path: Path) -> tuple[Files, list[int], list[bytes]]:
        image, label = self.options["image_column"], self.options["label_column"]
        table = read_table(path, (image, label))
        stored = [image_bytes(value) for value in table.column(image, "data.image")]
        labels = read_classes(table, label, self.options["labels"])
        keys = [hashlib.sha256(content or b"").hexdigest().encode() for content in stored]
        return Files([*stored], [table.place(row) for row in range(len(stored))]), labels, keys

    def _folder(self, path: Path) -> tuple[Files, list[int], list[bytes]]:
        found = []
        for name, files in image_files(path).items():
            label = self.options["labels"].index(name)
            found += list(zip(content_digests(files), [label] * len(files), files, strict=True))
        found.sort(key=lambda item: item[:2])
        images = Files([file for *_, file in found], [str(file) for *_, file in found])
        return images, [label for _, label, _ in found], [key.encode() for key, *_ in found]

    def _dataset(self, images: Files, labels: Tensor, chosen: Tensor) -> Any:
        lazy = Lazy(images, labels, chosen, self.normalize, "")
        size = self.normalize.size
        small = 3 * size * size * len(images) <= IN_MEMORY
        pixels = torch.empty(len(chosen) if small else 0, 3, size, size, dtype=torch.uint8)
        for place, index in enumerate(lazy.chosen):
            decoded = lazy.pixels(index)
            if small:
                pixels[place] = decoded
        return Pixels(pixels, labels[chosen], self.normalize) if small else lazy
