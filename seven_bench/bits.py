"""Masks as bits: packed, unpacked and hashed, with NumPy alone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def pack_bits(mask: NDArray[np.bool_]) -> Bits:
    """A mask row by row, 8 weights a byte, lowest bit first, zero padded: [ceil(n/8)]."""
    return np.packbits(mask, axis=None, bitorder="little")


def unpack_bits(bits: Bits, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The mask of this shape. Raises ValueError when the bits do not fit it."""
    size = math.prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):
        raise ValueError("packed bits do not fit the shape")
    whole = np.unpackbits(bits, bitorder="little").view(np.bool_)
    if whole[size:].any():
        raise ValueError("packed bits do not fit the shape")
    return whole[:size].reshape(tuple(shape))


def hash_masks(bits: Mapping[str, Bits], shapes: Mapping[str, Sequence[int]]) -> str:
    """SHA-256 over names, shapes and bits: equal hashes mean equal masks."""
    digest = hashlib.sha256()
    for name, packed in bits.items():
        digest.update(json.dumps([name, list(shapes[name])]).encode())
        digest.update(packed.tobytes())
    return digest.hexdigest()
