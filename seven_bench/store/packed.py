"""A pruned model in one small safetensors file that anyone can read.

Format `seven_bench.packed/1`. Metadata: `format`; `shapes`, JSON, the shape of every pruned weight
by name; `hash`, the masks' (`MaskSet.hash`). Of a pruned weight NAME the file holds

    NAME        its living values, 1-D, row by row
    mask/NAME   uint8, one bit a weight: row by row, 8 a byte, least significant bit first, zero
                padded; 1 lives

and every other tensor as it is. At sparsity s that is 4 (1 - s) + 1/8 bytes a weight, 0.131 of the
dense bytes at 0.9.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from seven_bench.pruning import MaskSet
from seven_bench.pruning.masks import unpack_bits
from seven_bench.store.tensors import read_tensors, write_tensors

FORMAT = "seven_bench.packed/1"
MASK = "mask/"


def save_packed(state: dict[str, Tensor], masks: MaskSet, path: str | os.PathLike[str]) -> Path:
    """Writes a state dict, atomically.

    Args:
        state: the effective weights by the plain model's names, on the CPU.
        masks: over the pruned ones.

    Raises: ValueError when a mask does not fit, or a removed weight is not 0.
    """
    masks.check({name: state[name] for name in masks if name in state})
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if name not in masks:
            packed[name] = value.contiguous()
            continue
        mask = masks[name].cpu()
        if bool(value[~mask].count_nonzero()):
            raise ValueError(f"{name} has removed weights that are not 0")
        packed[name] = value[mask]
    packed |= {MASK + name: bits for name, bits in masks.packed().items()}
    shapes = json.dumps({name: list(mask.shape) for name, mask in masks.items()})
    metadata = {"format": FORMAT, "shapes": shapes, "hash": masks.hash()}
    return write_tensors(packed, path, metadata)


def load_packed(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], MaskSet]:
    """The state dict and the masks that `save_packed` wrote; removed weights are 0.

    Raises: ValueError when the file is not such a file, or damaged.
    """
    with read_tensors(path, FORMAT) as (stored, metadata):
        shapes: dict[str, list[int]] = json.loads(metadata["shapes"])
        masks = MaskSet(
            {name: unpack_bits(stored.pop(MASK + name), shape) for name, shape in shapes.items()}
        )
        if masks.hash() != metadata["hash"]:
            raise ValueError("the masks do not fit their hash")
        state: dict[str, Tensor] = {}
        for name, value in stored.items():
            if name in masks:
                whole = torch.zeros(shapes[name], dtype=value.dtype)
                whole[masks[name]] = value
                value = whole
            state[name] = value
    return state, masks
