"""A pruned model in one small safetensors file that anyone can read.

Format `seven_bench.packed/1`. Metadata: `format`; `shapes`, JSON, the shape of every pruned weight
by name; `hash`, the masks' (`hash_masks`). Of a pruned weight NAME the file holds

    NAME        its living values, 1-D, row by row
    mask/NAME   uint8, one bit a weight: row by row, 8 a byte, least significant bit first, zero
                padded; 1 lives

and every other tensor as it is. At sparsity s that is 4 (1 - s) + 1/8 bytes a weight, 0.131 of the
dense bytes at 0.9.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seven_bench.store.masks import PackedMasks, read_shapes
from seven_bench.store.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "seven_bench.packed/1"
MASK = "mask/"


def save_packed(
    state: Mapping[str, Tensor], masks: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> Path:
    """Writes a state dict, atomically.

    Args:
        state: the effective weights by the plain model's names, on the CPU.
        masks: bool tensors over the pruned ones.

    Raises: ValueError when a mask does not fit, or a removed weight is not 0.
    """
    import torch

    kept = dict(state)
    for name, mask in masks.items():
        if name not in state:
            raise ValueError(f"there is a mask of {name}, and no such weight")
        value, mask = state[name], mask.cpu()
        if value.shape != mask.shape:
            shapes = f"{tuple(mask.shape)} and {tuple(value.shape)}"
            raise ValueError(f"mask and weight {name} differ in shape: {shapes}")
        if bool(value[~mask].count_nonzero()):
            raise ValueError(f"{name} has removed weights that are not 0")
        kept[name] = value[mask]
    stored = {name: value.contiguous() for name, value in kept.items()}
    packed = PackedMasks.of(masks)
    stored |= {MASK + name: torch.from_numpy(bits) for name, bits in packed.bits.items()}
    return write_tensors(stored, path, packed.metadata(FORMAT))


def load_packed(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict and the bool masks that `save_packed` wrote; removed weights are 0.

    Raises: ValueError when the file is not such a file, or damaged.
    """
    import torch

    with read_tensors(path, FORMAT) as (stored, metadata):
        shapes = read_shapes(metadata)
        bits = {name: stored.pop(MASK + name).numpy() for name in shapes}
        masks = PackedMasks(bits, shapes).check(metadata.get("hash", "")).tensors()
        state: dict[str, Tensor] = {}
        for name, value in stored.items():
            if name in masks:
                whole = torch.zeros(shapes[name], dtype=value.dtype)
                whole[masks[name]] = value
                value = whole
            state[name] = value
    return state, masks
