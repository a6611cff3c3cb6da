"""Masks that a run is given: those of another run, or of a file from anywhere.

A file is safetensors: packed masks (`seven_bench.masks/1`, `seven_bench.packed/1`); tensors of 0
and 1, of any plain type, by the weights' names; or, where it is called `model.safetensors`,
weights, of which those at 0 are removed. Without torch; nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seven_bench.bits import Bits, pack_bits, unpack_bits
from seven_bench.store import masks, packed
from seven_bench.store.files import MASKS, MODEL, RECORD, STATUS
from seven_bench.store.finished import check_run
from seven_bench.store.masks import PackedMasks, read_masks, read_shapes


@dataclass(frozen=True)
class _Kind:
    """How a type is stored: bytes a number, the bits of 1, and the bit that does not count at 0."""

    size: int
    one: int = 1
    sign: int = 0


#: Types of safetensors. The sign of a 0 is none; numbers of 8 bits and less that are no integers
#: are nobody's masks.
_KINDS = {
    "BOOL": _Kind(1), "U8": _Kind(1), "I8": _Kind(1), "U16": _Kind(2), "I16": _Kind(2),
    "U32": _Kind(4), "I32": _Kind(4), "U64": _Kind(8), "I64": _Kind(8),
    "F16": _Kind(2, 0x3C00, 1 << 15), "BF16": _Kind(2, 0x3F80, 1 << 15),
    "F32": _Kind(4, 0x3F800000, 1 << 31), "F64": _Kind(8, 0x3FF << 52, 1 << 63),
}  # fmt: skip


@dataclass(frozen=True)
class GivenMasks:
    """Masks as they were found in `file`, by name in alphabetical order: a bit is 1 where a weight
    lives. Of `weights` there may be more tensors than a run prunes; `record` is the run's that they
    are of, None of a file of its own.
    """

    file: Path
    masks: PackedMasks
    weights: bool = False
    record: Mapping[str, Any] | None = None

    @cached_property
    def hash(self) -> str:
        """SHA-256 over names, shapes and bits, whatever the file, its type and its order."""
        return self.masks.hash()

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Weights that live, and all of them."""
        kept = sum(int.from_bytes(b.tobytes()).bit_count() for b in self.masks.bits.values())
        return kept, sum(math.prod(shape) for shape in self.masks.shapes.values())

    def mask(self, name: str) -> NDArray[np.bool_]:
        """One mask, of its own shape. Raises KeyError."""
        return unpack_bits(self.masks.bits[name], self.masks.shapes[name])


def read_given(path: Path) -> GivenMasks:
    """The masks of a run's folder, or of a file; of a file in a finished run's folder, that run's.

    Raises: ValueError in one line that names the file (and the tensor) and says what was expected.
        OSError.
    """
    inside = path if path.is_dir() else path.parent if path.name in (MASKS, MODEL) else None
    if inside is not None and os.path.lexists(inside / RECORD):
        record = check_run(inside)
        return _sorted(inside / MASKS, read_masks(inside / MASKS), record=record)
    if path.is_dir():
        if (path / STATUS).is_file():
            raise ValueError(f"{path}: this run is not finished: it has no {RECORD}")
        there = [name for name in (MASKS, MODEL) if (path / name).is_file()]
        if not there:
            raise ValueError(f"{path}: it has no {RECORD}, {MASKS} or {MODEL}")
        path = path / there[0]
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file or folder")
    header, begin = _header(path)
    told = header.pop("__metadata__", {})
    if told.get("format") == masks.FORMAT:
        return _sorted(path, read_masks(path))
    if told.get("format") == packed.FORMAT:
        return _sorted(path, _of_packed(path, header, begin, told))
    weights = path.name == MODEL
    found = _zeros(path, header, begin) if weights else _values(path, header, begin)
    return _sorted(path, found, weights)


def _sorted(
    file: Path,
    found: PackedMasks,
    weights: bool = False,
    record: Mapping[str, Any] | None = None,
) -> GivenMasks:
    if not found.shapes:
        raise ValueError(f"{file}: it holds no tensors")
    names = sorted(found.shapes)
    in_order = PackedMasks({n: found.bits[n] for n in names}, {n: found.shapes[n] for n in names})
    return GivenMasks(file, in_order, weights, record)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its tensors, and where they begin; checked by safetensors."""
    from safetensors import safe_open

    try:
        with safe_open(path, "np"), path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own type, which is no public name
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: no safetensors file ({reason})") from error
    return header, 8 + size


def _raw(path: Path, begin: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    """The numbers of a tensor as unsigned integers, [n]."""
    kind = np.dtype(f"<u{_KINDS[entry['dtype']].size}")
    count = math.prod(entry["shape"])
    if not count:
        return np.zeros(0, kind)
    return np.memmap(path, kind, "r", begin + entry["data_offsets"][0], (count,))


def _zeros(path: Path, header: Mapping[str, Any], begin: int) -> PackedMasks:
    """Where weights are not 0; whole numbers are no weights."""
    bits: dict[str, Bits] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, entry in header.items():
        kind = _KINDS.get(entry["dtype"])
        if kind is None or not kind.sign:
            continue
        bits[name] = pack_bits((_raw(path, begin, entry) & _magnitude(kind)) != 0)
        shapes[name] = tuple(entry["shape"])
    return PackedMasks(bits, shapes)


def _values(path: Path, header: Mapping[str, Any], begin: int) -> PackedMasks:
    """Where tensors are 1; all else must be 0."""
    bits: dict[str, Bits] = {}
    for name, entry in header.items():
        kind = _KINDS.get(entry["dtype"])
        if kind is None:
            raise ValueError(f"{path}: {name} is {entry['dtype']}: masks are {', '.join(_KINDS)}")
        raw = _raw(path, begin, entry)
        ones = raw == kind.one
        odd = ~ones & ((raw & _magnitude(kind)) != 0)
        if odd.any():
            place = int(odd.argmax())
            where = [int(i) for i in np.unravel_index(place, tuple(entry["shape"]) or (1,))]
            raise ValueError(
                f"{path}: {name} holds {_tell(entry['dtype'], raw[place])} at {where}: masks hold "
                f"0 and 1 alone; a file of weights, of which the zeros are the mask, is called "
                f"{MODEL}"
            )
        bits[name] = pack_bits(ones)
    return PackedMasks(bits, {name: tuple(entry["shape"]) for name, entry in header.items()})


def _magnitude(kind: _Kind) -> Any:
    whole: int = (1 << 8 * kind.size) - 1
    return np.dtype(f"<u{kind.size}").type(whole ^ kind.sign)


def _tell(dtype: str, bits: Any) -> str:
    """A number, by its bits."""
    if dtype == "BF16":
        return f"{(bits.astype('<u4') << np.uint32(16)).view('<f4'):g}"
    code = {"B": "u", "U": "u", "I": "i", "F": "f"}[dtype[0]]
    return f"{bits.view(f'<{code}{_KINDS[dtype].size}'):g}"


def _of_packed(
    path: Path, header: Mapping[str, Any], begin: int, told: Mapping[str, str]
) -> PackedMasks:
    """The masks of a packed model."""
    try:
        shapes = read_shapes(told)
        bits = {name: np.array(_raw(path, begin, header[packed.MASK + name])) for name in shapes}
        return PackedMasks(bits, shapes).check(told.get("hash", ""))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
