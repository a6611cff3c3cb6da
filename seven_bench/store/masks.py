"""Masks on disk, one bit a weight.

Format `seven_bench.masks/1`: a safetensors file with a 1-D uint8 tensor per parameter, under the
parameter's name: the mask row by row, 8 weights a byte, least significant bit first, zero padded.
Its metadata hold `format`, `shapes` (JSON) and `hash`, that of `hash_masks`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seven_bench.bits import Bits, hash_masks, pack_bits, unpack_bits
from seven_bench.store.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "seven_bench.masks/1"


@dataclass(frozen=True)
class PackedMasks:
    """Masks by name as they are stored, in parameter order."""

    bits: dict[str, Bits]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, masks: Mapping[str, Tensor]) -> PackedMasks:
        """Of bool tensors."""
        return cls(
            {name: pack_bits(mask.cpu().numpy()) for name, mask in masks.items()},
            {name: tuple(mask.shape) for name, mask in masks.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """As bool tensors. Raises ValueError where bits do not fit their shape."""
        import torch

        return {
            name: torch.from_numpy(unpack_bits(self.bits[name], shape))
            for name, shape in self.shapes.items()
        }

    def hash(self) -> str:
        """Equal hashes mean equal masks."""
        return hash_masks(self.bits, self.shapes)

    def metadata(self, kind: str) -> dict[str, str]:
        """What a file of that format says of them."""
        shapes = json.dumps({name: list(shape) for name, shape in self.shapes.items()})
        return {"format": kind, "shapes": shapes, "hash": self.hash()}

    def check(self, written: str) -> PackedMasks:
        """Itself. Raises ValueError unless bits fit shapes, and the hash is the one written."""
        for name, shape in self.shapes.items():
            unpack_bits(self.bits[name], shape)
        if self.hash() != written:
            raise ValueError("the masks do not fit their hash")
        return self


def read_shapes(metadata: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The shapes that a file states. Raises ValueError where they are none."""
    shapes: Any = json.loads(metadata.get("shapes", "null"))
    if not isinstance(shapes, dict) or not all(
        isinstance(shape, list) and all(isinstance(n, int) and 0 <= n < 2**48 for n in shape)
        for shape in shapes.values()
    ):
        raise ValueError("it states no shapes")
    return {name: tuple(shape) for name, shape in shapes.items()}


def write_masks(masks: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Writes bool tensors by name, atomically."""
    import torch

    packed = PackedMasks.of(masks)
    bits = {name: torch.from_numpy(part) for name, part in packed.bits.items()}
    write_tensors(bits, path, packed.metadata(FORMAT))


def read_masks(path: str | os.PathLike[str]) -> PackedMasks:
    """Reads what `write_masks` wrote, without torch.

    Raises: ValueError with the path when the file is not a mask file, is damaged, or its hash does
        not fit. FileNotFoundError.
    """
    with read_tensors(path, FORMAT, "np") as (bits, metadata):
        shapes = read_shapes(metadata)
        if bits.keys() != shapes.keys():
            raise ValueError("its masks are not those that it states")
        masks = PackedMasks({name: bits[name] for name in shapes}, shapes)
        return masks.check(metadata.get("hash", ""))


def load_masks(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """What `write_masks` wrote, as bool tensors; raises as `read_masks`."""
    return read_masks(path).tensors()
