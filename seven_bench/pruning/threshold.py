"""The k-th largest of many scores, exactly, without concatenating or sorting them.

A sample brackets the value between two scores; one pass over all scores counts what lies above the
bracket and gathers the few inside it, among which the value is then found. Where the bracket
missed, or holds too many, two histogram passes find the value from its bits. Scores are read in
chunks, so that the extra memory does not grow with the model. That is for a CPU; scores on a GPU go
to `device`, which gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seven_bench.pruning import device
from seven_bench.pruning.prunable import Params

CHUNK = 1 << 20  # 4 MiB of float32
SAMPLE = 1 << 16  # scores looked at for the bracket: it then holds 2% of all, at most
MOST_INSIDE = 1 << 22  # scores gathered (16 MiB), or 1 in 32
HALF = 1 << 16


@dataclass(frozen=True)
class Cut:
    """The k-th largest living score, and how many of each tensor lie above it and equal it."""

    value: float
    above: dict[str, int]
    ties: dict[str, int]

    def leaves(self, k: int) -> bool:
        """Whether this is the cut for k."""
        above = sum(self.above.values())
        return above < k <= above + sum(self.ties.values())


def find_cut(scores: Params, living: Params | None, k: int) -> Cut:
    """The cut that leaves k scores, ties aside.

    Args:
        scores: tensors of any shape; read as float32.
        living: bool masks of the same shapes; None: everything lives.
        k: in [1, number of living weights].

    Raises: ValueError when a score is not finite.
    """
    if device.on_gpu(scores):
        return Cut(*device.cut(scores, living, k))
    check_finite(scores)
    low, high = _bracket(scores, living, k)
    value = low if low == high else None
    at_least, inside = ({}, None) if value is not None else _gather(scores, living, low, high)
    if inside is not None:
        rest = k - sum(at_least.values())
        if 0 < rest <= sum(values.numel() for values in inside.values()):
            values = torch.cat(list(inside.values()))
            value = _smallest(values, values.numel() - rest + 1)
            above = {n: at_least[n] + count_true(found > value) for n, found in inside.items()}
            return Cut(value, above, {n: count_true(found == value) for n, found in inside.items()})
        value = high if rest <= 0 else low  # very likely: of the values that many scores share
    if value is not None and (cut := _cut_at(scores, living, value)).leaves(k):
        return cut
    return _cut_at(scores, living, _from_bits(scores, living, k))


def kth_largest(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest living score over all tensors (k counts from 1); see `find_cut`."""
    if device.on_gpu(scores):
        return device.kth_value(scores, living, k)
    return find_cut(scores, living, k).value


def select_top(
    name: str,
    score: Tensor,
    living: Tensor,
    count: int,
    threshold: float | None = None,
) -> Tensor:
    """A bool mask of one tensor's `count` largest living scores; ties go to the lower flat index.

    Args:
        threshold: a value to try first, such as the global threshold that gave `count`; it is
            used only where it proves right.

    Raises: ValueError when more is asked than lives, or a score is not finite.
    """
    if score.is_cuda:
        return device.best_of_each({name: score}, {name: living}, {name: count})[name]
    if count == 0:
        return torch.zeros_like(living)
    if threshold is None:
        if not 0 < count <= (lives := count_true(living)):
            raise ValueError(f"cannot keep {count} weights of {name}: {lives} live")
        threshold = kth_largest({name: score}, {name: living}, count)
    mask = torch.empty_like(living).reshape(-1)
    for offset, part, alive in _chunks(score, living):
        flags = mask[offset : offset + CHUNK]
        torch.gt(part, threshold, out=flags).logical_and_(alive)
    missing = count - count_true(mask)
    for offset, part, alive in _chunks(score, living) if missing > 0 else ():
        ties = torch.eq(part, threshold).logical_and_(alive)
        if (more := count_true(ties)) > missing:
            ties[flagged(ties)[missing:]] = False
        mask[offset : offset + CHUNK].logical_or_(ties)
        missing -= min(more, missing)
    if missing != 0:  # the threshold offered was not this tensor's own
        return select_top(name, score, living, count)
    return mask.view(living.shape)


def select_each(
    scores: Params, living: Params, counts: dict[str, int], threshold: float | None = None
) -> Params:
    """The masks of the `counts[name]` largest living scores of each tensor; see `select_top`."""
    if device.on_gpu(scores):
        return device.best_of_each(scores, living, counts)
    return {
        name: select_top(name, score, living[name], counts[name], threshold)
        for name, score in scores.items()
    }


def _smallest(values: Tensor, k: int) -> float:
    """The k-th smallest of [n] values, k from 1."""
    # a fraction of the time of torch's kthvalue
    return float(np.partition(values.numpy(force=True), k - 1)[k - 1])


def count_true(flags: Tensor) -> int:
    """How much of a bool tensor is true."""
    if flags.device.type == "cpu":
        return int(np.count_nonzero(flags.numpy()))  # vectorised, unlike torch's
    return int(flags.count_nonzero())


def counted(flags: Params) -> dict[str, int]:
    """How much of each bool tensor is true."""
    if device.on_gpu(flags):
        return device.counted(flags)
    return {name: count_true(flag) for name, flag in flags.items()}


def _chunks(score: Tensor, living: Tensor | None) -> Iterator[tuple[int, Tensor, Tensor]]:
    """One tensor's scores as (offset, float32 chunk, bool chunk of what lives)."""
    flat = score.detach().reshape(-1)
    alive = None if living is None else living.reshape(-1)
    for offset in range(0, flat.numel(), CHUNK):
        chunk = flat[offset : offset + CHUNK].float()
        if alive is None:
            yield offset, chunk, torch.ones_like(chunk, dtype=torch.bool)
        else:
            yield offset, chunk, alive[offset : offset + CHUNK]


Comparison = tuple[Callable[..., Tensor], float]


def _marked(
    scores: Params, living: Params | None, upper: Comparison, lower: Comparison
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Every tensor's scores [n] with two flags [n]: what lives and passes `upper`, and what lives
    and passes `lower` alone (what passes `upper` passes it as well). The flags' memory is used
    again for the next tensor.
    """
    first, second = torch.empty(0, dtype=torch.bool), torch.empty(0, dtype=torch.bool)
    (passes_upper, high), (passes_lower, low) = upper, lower
    for name, score in scores.items():
        n = score.numel()
        if n > first.numel() or score.device != first.device:
            first, second = (
                torch.empty(n, dtype=torch.bool, device=score.device) for _ in range(2)
            )
        for offset, part, alive in _chunks(score, None if living is None else living[name]):
            here = slice(offset, offset + part.numel())
            passes_upper(part, high, out=first[here]).logical_and_(alive)
            passes_lower(part, low, out=second[here]).logical_and_(alive).logical_xor_(first[here])
        yield name, score.detach().reshape(-1), first[:n], second[:n]


def check_finite(scores: Params) -> None:
    """Raises ValueError, with the tensor's name, when a score is not finite."""
    if device.on_gpu(scores):
        device.check_finite(scores)
        return
    flat: Any = [score.detach().reshape(-1) for score in scores.values()]
    parts = (part for score in flat for part in score.split(CHUNK))
    if bool(torch.isfinite(torch.stack([part.float().sum() for part in parts])).all()):
        return  # a sum may overflow, and then decides nothing
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise ValueError(f"scores of {name} are not finite")


def _bracket(scores: Params, living: Params | None, k: int) -> tuple[float, float]:
    """Two values between which the k-th largest very likely lies, from a regular sample."""
    total = sum(score.numel() for score in scores.values())
    step = max(1, total // SAMPLE)
    while math.gcd(step, 2 * 3 * 5 * 7) > 1:  # rows are such multiples: not one column alone
        step += 1
    parts = []
    for name, score in scores.items():
        seen = score.detach().reshape(-1)[::step].float()
        if living is not None:
            seen = seen.where(living[name].reshape(-1)[::step], -math.inf)
        parts.append(seen)
    sample = torch.cat(parts)
    fraction = k / total
    position = sample.numel() * (1 - fraction)  # from below
    margin = 5 * math.sqrt(position * fraction) + 8  # five standard deviations
    first, last = int(position - margin), int(position + margin)
    low = _smallest(sample, first) if first >= 1 else -math.inf
    return low, _smallest(sample, last) if last <= sample.numel() else math.inf


def _gather(
    scores: Params, living: Params | None, low: float, high: float
) -> tuple[dict[str, int], Params | None]:
    """Per tensor, how many living scores are at least `high`, and those between `low < high`
    (None when they are too many to hold).
    """
    at_least, inside, held = {}, {}, 0
    most = max(MOST_INSIDE, sum(score.numel() for score in scores.values()) // 32)
    for name, flat, above, between in _marked(scores, living, (torch.ge, high), (torch.gt, low)):
        at_least[name] = count_true(above)
        held += count_true(between)
        if held > most:
            return {}, None
        inside[name] = flat.index_select(0, flagged(between)).float()
    return at_least, inside


def flagged(flags: Tensor) -> Tensor:
    """The flat indices of what is true in a contiguous bool tensor: `flags.nonzero()`, quicker
    where little is true, for eight flags are looked at as one word.
    """
    flat = flags.reshape(-1)
    whole = flat.numel() // 8 * 8
    words = flat[:whole].view(torch.int64)
    some = words.nonzero().reshape(-1)
    row, column = words.index_select(0, some).view(torch.bool).view(-1, 8).nonzero().unbind(1)
    found = some.index_select(0, row).mul_(8).add_(column)
    return (
        found if whole == flat.numel() else torch.cat([found, flat[whole:].nonzero()[:, 0] + whole])
    )


def _cut_at(scores: Params, living: Params | None, value: float) -> Cut:
    """A value as a cut, whatever it leaves."""
    above, ties = {}, {}
    for name, _, beyond, equal in _marked(scores, living, (torch.gt, value), (torch.ge, value)):
        above[name], ties[name] = count_true(beyond), count_true(equal)
    return Cut(value, above, ties)


def _from_bits(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest from histograms: of the upper 16 bits, then of the lower 16 among the equal.

    The bits of a float32, read as an integer with the sign folded in, keep the order of numbers.
    """
    bucket, lower = 0, False
    for lower in (False, True):
        histogram = torch.zeros(HALF, dtype=torch.int64)
        for name, score in scores.items():
            for _, chunk, alive in _chunks(score, None if living is None else living[name]):
                bits = _ordered_bits((chunk + 0.0).masked_fill_(~alive, -math.inf))  # -0.0 is 0.0
                keys = (bits >> 16).add_(HALF // 2)
                if lower:
                    keys = bits[keys == bucket].bitwise_and_(HALF - 1)
                histogram += torch.bincount(keys, minlength=HALF).cpu()
        from_top = histogram.flip(0).cumsum(0)
        position = int(torch.searchsorted(from_top, k))
        if not lower:
            bucket = HALF - 1 - position
            k -= int(from_top[position - 1]) if position else 0
    key = torch.tensor([((bucket - HALF // 2) << 16) | (HALF - 1 - position)], dtype=torch.int32)
    return float(_ordered_bits(key).view(torch.float32))


def _ordered_bits(chunk: Tensor) -> Tensor:
    """float32 as int32 of the same order (in place)."""
    bits = chunk.view(torch.int32)
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))
