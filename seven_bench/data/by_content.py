"""Splits by content: which part an example falls in is a hash of itself, so that one that comes or
goes moves no other, and copies of one never stand on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

from seven_bench.errors import ConfigError

PARTS = (("test", 0.0, 0.2), ("validation", 0.2, 0.3))  # from, to: of the hashes, in [0, 1)


def place(key: bytes, seed: int = 0) -> float:
    """A number in [0, 1) that follows from the content and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0".encode() + key).digest()
    return int.from_bytes(digest[:8]) / 2**64


def divided(
    keys: Sequence[bytes], given: Collection[str], seed: int = 0, most: int | None = None
) -> dict[str, list[int]]:
    """Rows of the training data by the part they fall in, in order.

    Args:
        keys: what an example is, one a row.
        given: the parts that have data of their own: nothing is set aside for them.
        seed: another one divides otherwise.
        most: so many training examples at most, those of the lowest hash.

    Raises: ConfigError where a part is left empty.
    """
    wanted = [part for part in PARTS if part[0] not in given]
    parts: dict[str, list[int]] = {"train": [], **{name: [] for name, *_ in wanted}}
    places = [place(key, seed) for key in keys]
    for row, at in enumerate(places):
        name = next((name for name, low, high in wanted if low <= at < high), "train")
        parts[name].append(row)
    if most is not None and most < len(parts["train"]):
        lowest = sorted(parts["train"], key=lambda row: (place(keys[row], seed + 1), row))[:most]
        parts["train"] = sorted(lowest)
    for name, rows in parts.items():
        if not rows:
            raise ConfigError(
                f"none of {len(keys):,} examples is left for {name}: give data.{name}=, or more "
                "examples"
            )
    return parts
