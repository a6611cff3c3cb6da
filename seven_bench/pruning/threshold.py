"""The k-th largest of many scores, exactly, without concatenating or sorting them.

The bits of a float32, read as an integer with the sign folded in, keep the order of the numbers.
Two passes over the scores, one histogram of the upper 16 bits and one of the lower 16 within the
bucket found, give the exact value. Scores stream through one small buffer, so that the extra
memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seven_bench.pruning.prunable import Params

CHUNK = 1 << 18  # 1 MiB of float32: stays in a core's cache
HALF = 1 << 16


def living_chunks(name: str, score: Tensor, living: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """Streams one tensor's scores as (offset, float32 chunk) through a reused buffer.

    Removed weights come as -inf, so that none is ever a tie of a living one, and -0.0 as 0.0.

    Raises: ValueError when a score is not finite, naming the parameter.
    """
    flat = score.detach().reshape(-1)
    alive = None if living is None else living.reshape(-1)
    buffer = torch.empty(min(CHUNK, flat.numel()), dtype=torch.float32, device=flat.device)
    gone = torch.tensor(float("-inf"), device=flat.device)
    for offset in range(0, flat.numel(), CHUNK):
        part = flat[offset : offset + CHUNK]
        chunk = torch.add(part, 0.0, out=buffer[: part.numel()])
        low, high = chunk.aminmax()
        if not bool(torch.isfinite(low + high)):
            raise ValueError(f"scores of {name} are not finite")
        if alive is not None:
            torch.where(alive[offset : offset + CHUNK], chunk, gone, out=chunk)
        yield offset, chunk


def _ordered_bits(chunk: Tensor) -> Tensor:
    """float32 as int32 of the same order (in place)."""
    bits = chunk.view(torch.int32)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def _bucket_from_top(histogram: Tensor, k: int) -> tuple[int, int]:
    """The bucket that holds the k-th largest, and how many lie in the buckets above it."""
    from_top = histogram.flip(0).cumsum(0)
    position = int(torch.searchsorted(from_top, k))
    above = int(from_top[position - 1]) if position else 0
    return histogram.numel() - 1 - position, above


def kth_largest(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest living score over all tensors (k counts from 1), exactly.

    Args:
        scores: tensors of any shape; read as float32.
        living: bool masks of the same shapes; None: everything lives.
        k: in [1, number of living weights].

    Raises: ValueError when a score is not finite.
    """
    upper = lower = None
    for name, score in scores.items():
        for _, chunk in living_chunks(name, score, None if living is None else living[name]):
            keys = (_ordered_bits(chunk) >> 16).add_(HALF // 2)
            counts = torch.bincount(keys, minlength=HALF)
            upper = counts if upper is None else upper.add_(counts.to(upper.device))
    assert upper is not None, "no scores"
    bucket, above = _bucket_from_top(upper, k)
    for name, score in scores.items():
        for _, chunk in living_chunks(name, score, None if living is None else living[name]):
            bits = _ordered_bits(chunk)
            inside = bits[(bits >> 16) == bucket - HALF // 2]
            counts = torch.bincount(inside.bitwise_and_(HALF - 1), minlength=HALF)
            lower = counts if lower is None else lower.add_(counts.to(lower.device))
    assert lower is not None
    low, _ = _bucket_from_top(lower, k - above)
    key = torch.tensor([((bucket - HALF // 2) << 16) | low], dtype=torch.int32)
    return float(_ordered_bits(key).view(torch.float32))


def count_above(name: str, score: Tensor, living: Tensor | None, value: float) -> tuple[int, int]:
    """How many living scores of one tensor lie above a value, and how many equal it."""
    above = at_least = 0
    for _, chunk in living_chunks(name, score, living):
        above += int((chunk > value).count_nonzero())
        at_least += int((chunk >= value).count_nonzero())
    return above, at_least - above


def select_top(
    name: str, score: Tensor, living: Tensor, count: int, threshold: float | None = None
) -> Tensor:
    """A bool mask of one tensor's `count` largest living scores; ties go to the lower flat index.

    Args:
        threshold: a value to try first, such as the global threshold that gave `count`; it is
            used only where it proves right.

    Raises: ValueError when more is asked than lives, or a score is not finite.
    """
    if count > (lives := int(living.count_nonzero())) or count < 0:
        raise ValueError(f"cannot keep {count} weights of {name}: {lives} live")
    if count == 0:
        return torch.zeros_like(living)
    if count == lives:
        return living.clone()
    if threshold is None:
        threshold = kth_largest({name: score}, {name: living}, count)
    mask = torch.empty(living.numel(), dtype=torch.bool, device=living.device)
    above = 0
    for offset, chunk in living_chunks(name, score, living):
        part = torch.gt(chunk, threshold, out=mask[offset : offset + chunk.numel()])
        above += int(part.count_nonzero())
    missing = count - above
    for offset, chunk in living_chunks(name, score, living) if missing > 0 else ():
        ties = (chunk == threshold).nonzero().reshape(-1)[:missing]
        mask[offset + ties] = True
        missing -= ties.numel()
        if missing == 0:
            break
    if missing != 0:  # the threshold offered was not this tensor's own
        return select_top(name, score, living, count)
    return mask.view(living.shape)
