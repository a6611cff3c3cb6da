"""Splits by content: which part an example falls in is a hash of itself, so that one that comes or
goes moves no other, and copies of one never stand on both sides.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence

from seven_bench.errors import ConfigError

log = logging.getLogger(__name__)
TEST, VALIDATION = 0.2, 0.1  # parts of all, set aside by hashes in [0, 1)


def place(key: bytes, seed: int = 0) -> float:
    """A number in [0, 1) that follows from the content and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0".encode() + key).digest()
    return int.from_bytes(digest[:8]) / 2**64


def tell_copies(keys: Mapping[str, Sequence[bytes]]) -> None:
    """Says how many examples of a part that was given are in the training data too, word for word
    or byte for byte: they are scored on what was trained on. `keys`: what an example is, by part.
    """
    trained = {*keys["train"]}
    for part, there in keys.items():
        if part != "train" and (copies := sum(key in trained for key in there)):
            log.warning(
                "%s of %s examples of data.%s are in the training data too",
                copies,
                len(there),
                part,
            )


def divided(
    keys: Sequence[bytes], given: Collection[str], seed: int = 0, most: int | None = None
) -> dict[str, list[int]]:
    """Rows of the training data by the part they fall in, in order.

    Args:
        keys: what an example is, one a row.
        given: the parts that have data of their own: nothing is set aside for them.
        seed: another one sets aside another validation part; the test part is the same for all.
        most: so many training examples at most, those of the lowest hash.

    Raises: ConfigError where a part is left empty.
    """
    wanted = [name for name in ("test", "validation") if name not in given]
    parts: dict[str, list[int]] = {"train": [], **{name: [] for name in wanted}}
    # of what is no test example, with another seed: those of seed 0 lie above TEST by themselves
    width = VALIDATION / (1 - TEST) if seed and "test" in wanted else VALIDATION
    for row, key in enumerate(keys):
        name = "train"
        if "test" in wanted and place(key) < TEST:
            name = "test"
        elif "validation" in wanted and TEST <= place(key, seed) < TEST + width:
            name = "validation"
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
