"""Augmentation of training images: flip, crop, RandAugment and mixup, timm's where it has them.

What becomes of an example is decided by the run's seed, the epoch and the example alone: not by
what was drawn before, the batch it is in or the process that reads it. So a run that is taken up in
the middle of an epoch, with any number of workers, sees what it would have seen. Mixup alone is of
batches: decided by seed, epoch and the batch's first example.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from torch.utils.data import Dataset

if TYPE_CHECKING:  # samplers know nothing of images
    from seven_bench.data.samplers import SeededBatches

#: Takes an example's index, its picture and the side wanted (and `cut`, how the picture is brought
#: to that side where nothing else does, and `paper`, the value around it); gives the changed one.
Change = Callable[..., Image.Image]
MIXED = 2**31 - 1  # in the place of an example: the draw of a batch


@dataclass(frozen=True)
class Augment:
    """What is changed.

    Args:
        classes: how many there are.
        flip: left and right, with a chance of a half.
        crop: "padded", a cut of the same size out of the picture with an eighth of its side around
            it; "resized", 8 to 100 % of its area at 3:4 to 4:3 (Szegedy et al. 2014, arXiv
            1409.4842).
        randaugment: timm's words for it, as "rand-m9-n2-mstd0.5" (Cubuk et al. 2019, arXiv
            1909.13719).
        mixup: alpha of the Beta distribution of the share of the first of two pictures (Zhang et
            al. 2017, arXiv 1710.09412); 0 for none.
    """

    classes: int
    flip: bool = False
    crop: str | None = None
    randaugment: str | None = None
    mixup: float = 0.0

    def change(
        self,
        picture: Image.Image,
        side: int,
        cut: Callable[[Image.Image], Image.Image] | None = None,
        paper: int = 0,
    ) -> Image.Image:
        """One picture, changed by the draws of `random` and NumPy as they are now."""
        if self.crop == "resized":
            picture = _resized(side)(picture)
        elif cut is not None:
            picture = cut(picture)
        if self.crop == "padded":
            edge = max(1, side // 8)
            fill = (paper,) * 3 if picture.mode == "RGB" else paper
            around = ImageOps.expand(picture, edge, fill)
            left, top = random.randint(0, 2 * edge), random.randint(0, 2 * edge)
            picture = around.crop((left, top, left + side, top + side))
        if self.flip and random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.randaugment is not None:
            picture = _randaugment(self.randaugment, side)(picture)
        return picture

    def mix(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Each picture of a batch with the one at the same place from its end; `targets` are the
        shares of the classes, float32 [b, classes].
        """
        from timm.data import mixup

        mixup_target: Any = mixup.mixup_target
        share = float(np.random.beta(self.mixup, self.mixup))
        pixels, labels = batch["pixel_values"], batch["labels"]
        mixed = share * pixels + (1 - share) * pixels.flip(0)
        targets = mixup_target(labels, self.classes, share, smoothing=0.0)
        return {**batch, "pixel_values": mixed, "targets": targets.float()}


class Augmented(Dataset[dict[str, Any]]):
    """The batches of a data set of images, changed anew each epoch of `batches`.

    Args:
        images: has `changed(indices, change)`, a batch of which each picture went through `change`.
        how: what is changed.
        batches: whose seed and epoch decide.
    """

    def __init__(self, images: Any, how: Augment, batches: SeededBatches) -> None:
        self.images, self.how, self.batches = images, how, batches

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Any]:
        batch: dict[str, Any] = self.images.changed(indices, self._change)
        if self.how.mixup:
            with self._drawn(MIXED, indices[0]):
                batch = self.how.mix(batch)
        return batch

    def _change(self, index: int, picture: Image.Image, side: int, **further: Any) -> Image.Image:
        with self._drawn(index):
            return self.how.change(picture, side, **further)

    @contextmanager
    def _drawn(self, *of: int) -> Iterator[None]:
        """`random` and NumPy, which timm draws from, seeded for this epoch's draw, and afterwards
        as they were.
        """
        key = (self.batches.seed, self.batches.epoch, *of)
        states = random.getstate(), np.random.get_state()
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@cache
def _resized(side: int) -> Callable[[Image.Image], Image.Image]:
    from timm.data import transforms

    kind: Any = transforms.RandomResizedCropAndInterpolation
    made: Callable[[Image.Image], Image.Image] = kind(side, interpolation="bicubic")
    return made


@cache
def _randaugment(words: str, side: int) -> Callable[[Image.Image], Image.Image]:
    from timm.data.auto_augment import rand_augment_transform

    made: Callable[[Image.Image], Image.Image] = rand_augment_transform(
        words, {"translate_const": int(0.45 * side), "img_mean": (128, 128, 128)}
    )
    return made
