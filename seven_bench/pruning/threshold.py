"""The k-th largest of many scores, exactly, without concatenating or sorting them, and the masks of
all that are larger.

A sample brackets the value between two scores; one pass over all scores checks that they are
finite, marks what lies above the bracket and gathers the few inside it, among which the value is
then found. Where the bracket missed, or holds too many, two histogram passes find the value from
its bits. Scores are read in chunks that stay in a core's cache, so that memory is read once and the
extra memory does not grow with the model. That is for a CPU; scores on a GPU go to `device`, which
gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seven_bench.pruning import device
from seven_bench.pruning.fused import Fused, as_held
from seven_bench.pruning.prunable import Params

CHUNK = 1 << 18  # 1 MiB of float32
WIDE = 1 << 20  # where each call costs more, or is one of compiled code
LASTING = 3  # selections after which it is worth to compile one
SAMPLE = 1 << 16  # scores looked at for the bracket: it then holds 2% of all, at most
MOST_INSIDE = 1 << 22  # scores gathered (16 MiB), or 1 in 32
HALF = 1 << 16
WORD = 8  # flags
MANY = 1 << 15  # flags that are looked at by words
FEW_THREADS = 4  # up to which NumPy's comparisons, on one core, are quicker than torch's on all
ABOVE, AT_LEAST, EQUAL = (np.greater, torch.gt), (np.greater_equal, torch.ge), (np.equal, torch.eq)

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
Values = NDArray[np.float32]
Comparison = tuple[Callable[..., Any], Callable[..., Any]]


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

    def counts(self, k: int) -> dict[str, int]:
        """How many of the k largest are each tensor's; ties go by the order of the tensors."""
        missing = k - sum(self.above.values())
        counts = {}
        for name, above in self.above.items():
            taken = min(missing, self.ties[name])
            counts[name] = above + taken
            missing -= taken
        return counts


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
    low, high = bracket = _bracket(scores, living, k)
    found = _gather(scores, living, low, high) if low < high else None
    if found is not None and (value := _value(found, k)) is not None:
        above = {n: of.at_least + int((of.values > value).sum()) for n, of in found.items()}
        return Cut(value, above, {n: int((of.values == value).sum()) for n, of in found.items()})
    return _shared(scores, living, k, bracket, found)


def top_masks(scores: Params, living: Params, k: int) -> Params:
    """The masks of the `k` largest living scores of all tensors, k from 1; ties go to the first by
    (parameter order, flat index).

    Raises: ValueError when fewer live or a score is not finite.
    """
    if device.on_gpu(scores):
        return device.top_masks(scores, living, k)
    if len(scores) > 1 and (whole := _as_one(scores, living)) is not None:
        score, alive = ({"all": tensor} for tensor in whole)
        try:
            mask = top_masks(score, alive, k)["all"]
        except ValueError:
            check_finite(scores)  # by name
            raise
        return device.shaped(mask, scores)
    low, high = bracket = _bracket(scores, living, k)
    masks = {name: _empty(living[name]) for name in scores}
    found = _gather(scores, living, low, high, masks) if low < high else None
    value = None if found is None else _value(found, k)
    if found is None or value is None:
        if not 0 < k <= (lives := sum(counted(living).values())):
            raise ValueError(f"cannot keep {k} weights: {lives} live")
        cut = _shared(scores, living, k, bracket, found)
        for name, count in cut.counts(k).items():
            masks[name], _ = _above(scores[name], living[name], count, cut.value)
        return masks
    marked = {name: masks[name].view(-1).numpy() for name in found}
    missing = k - sum(of.at_least for of in found.values())
    for name, of in found.items():
        best = of.places[of.values > value]
        marked[name][best] = True
        missing -= len(best)
    for name, of in found.items():
        ties = of.places[of.values == value][:missing]
        marked[name][ties] = True
        missing -= len(ties)
    return masks


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
    if threshold is not None:
        mask, missing = _above(score, living, count, threshold)
        if missing == 0:  # else it is not this tensor's own
            return mask
    if not 0 < count <= (lives := count_true(living)):
        raise ValueError(f"cannot keep {count} weights of {name}: {lives} live")
    return top_masks({name: score}, {name: living}, count)[name]


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


def _above(score: Tensor, living: Tensor, count: int, value: float) -> tuple[Tensor, int]:
    """The mask of what lives above `value`, and of the first ties up to `count`; and how many it
    lacks (below 0: has too many) where these are not the `count` largest.
    """
    mask, missing = _empty(living), count
    flat = mask.view(-1)
    for here, part, alive in _chunks(score, living):
        flags = _passes(ABOVE, part, value, flat[here])
        np.logical_and(flags, alive, out=flags)
        missing -= _count(flags)
    ties = torch.empty(CHUNK, dtype=torch.bool)
    for here, part, alive in _chunks(score, living) if missing > 0 else ():
        equal = _passes(EQUAL, part, value, ties[: len(part)])
        np.logical_and(equal, alive, out=equal)
        if (more := _count(equal)) > missing:
            equal[_flagged(equal)[missing:]] = False
        flags = flat[here].numpy()
        np.logical_or(flags, equal, out=flags)
        missing -= min(more, missing)
    return mask, missing


def _smallest(values: Values, k: int) -> float:
    """The k-th smallest of [n] values, k from 1."""
    # a fraction of the time of torch's kthvalue
    return float(np.partition(values, k - 1)[k - 1])


def count_true(flags: Tensor) -> int:
    """How much of a bool tensor is true."""
    if flags.device.type == "cpu":
        return _count(flags.numpy())  # vectorised, unlike torch's
    return int(flags.count_nonzero())


def _count(flags: Flags) -> int:
    return int(np.count_nonzero(flags))


def counted(flags: Params) -> dict[str, int]:
    """How much of each bool tensor is true."""
    if device.on_gpu(flags):
        return device.counted(flags)
    return {name: count_true(flag) for name, flag in flags.items()}


def differing(one: Tensor, other: Tensor) -> Tensor:
    """The flat indices at which two masks of a CPU differ."""
    flags, others = (mask.reshape(-1).numpy() for mask in (one, other))
    whole = len(flags) // WORD * WORD
    words, other_words = flags[:whole].view(np.int64), others[:whole].view(np.int64)
    some = _flagged(words != other_words)
    found = _in_words(some, words[some] ^ other_words[some])
    tail = np.flatnonzero(flags[whole:] != others[whole:]) + whole
    return torch.from_numpy(np.concatenate([found, tail]))


def _flagged(flags: Flags) -> Places:
    """`flags.nonzero()`, quicker where little is true, for eight flags are looked at as a word."""
    if len(flags) < MANY:
        return np.flatnonzero(flags)
    whole = len(flags) // WORD * WORD
    words = flags[:whole].view(np.int64)
    some = _flagged(words != 0)
    tail = np.flatnonzero(flags[whole:]) + whole
    return np.concatenate([_in_words(some, words[some]), tail])


def _in_words(places: Places, words: Places) -> Places:
    """Where the true flags of these words lie, words that lie at these `places`."""
    inner = np.flatnonzero(words.view(np.bool_))
    found: Places = places[inner >> 3] * WORD + (inner & (WORD - 1))
    return found


def _passes(comparison: Comparison, part: Tensor, value: float, out: Tensor) -> Flags:
    """Which of [n] scores pass, in the memory of `out` [n]."""
    numpys, torchs = comparison
    flags: Flags = out.numpy()
    if torch.get_num_threads() <= FEW_THREADS:
        numpys(part.numpy(), value, out=flags)
    else:
        torchs(part, value, out=out)
    return flags


def _as_one(scores: Params, living: Params) -> tuple[Tensor, Tensor] | None:
    """Scores [n] and what of them lives [n], where they lie side by side or are small tensors, of
    which each would cost more by itself than to be copied.
    """
    both = list(scores.values()), [living[name] for name in scores]
    if sum(score.numel() for score in both[0]) < MANY * len(scores):
        return device.joined(both[0]), device.joined(both[1])
    score, alive = map(device.in_place, both)
    return None if score is None or alive is None else (score, alive)


def _empty(living: Tensor) -> Tensor:
    """Memory for a mask, flat as it lies."""
    return torch.empty(living.shape, dtype=torch.bool)


def _chunks(
    score: Tensor, living: Tensor | None, size: int | None = None
) -> Iterator[tuple[slice, Tensor, Any]]:
    """One tensor's scores [n] as (place, float32 chunk, bool chunk of what lives or True)."""
    flat = score.detach().reshape(-1)
    alive = None if living is None else living.reshape(-1).numpy()
    size = size or CHUNK
    for offset in range(0, max(1, flat.numel()), size):
        here = slice(offset, min(offset + size, flat.numel()))
        yield here, flat[here].float(), True if alive is None else alive[here]


def _wide(score: Tensor, living: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """One tensor's scores as (float32 chunk, bool chunk of what lives), in large chunks."""
    flat = score.detach().reshape(-1)
    for offset in range(0, flat.numel(), WIDE):
        part = flat[offset : offset + WIDE].float()
        if living is None:
            yield part, torch.ones_like(part, dtype=torch.bool)
        else:
            yield part, living.reshape(-1)[offset : offset + WIDE]


def check_finite(scores: Params) -> None:
    """Raises ValueError, with the tensor's name, when a score is not finite."""
    if device.on_gpu(scores):
        device.check_finite(scores)
        return
    for name, score in scores.items():
        if not all(_sound(part) for _, part, _ in _chunks(score, None)):
            _refuse(name, score)


def _sound(part: Tensor) -> bool:
    """Whether all is finite, very likely: a sum may overflow."""
    return math.isfinite(part.sum())


def _refuse(name: str, score: Tensor) -> None:
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
        seen = score.detach().reshape(-1)[::step].float().numpy()
        if living is not None:
            seen = np.where(living[name].reshape(-1).numpy()[::step], seen, -math.inf)
        parts.append(seen)
    sample = np.concatenate(parts, dtype=np.float32)
    fraction = k / total
    position = len(sample) * (1 - fraction)  # from below
    margin = 5 * math.sqrt(position * fraction) + 8  # five standard deviations
    first, last = int(position - margin), int(position + margin)
    inside = [k - 1 for k in (first, last) if 1 <= k <= len(sample)]
    ordered = np.partition(sample, inside) if inside else np.empty(0)
    low = float(ordered[first - 1]) if first >= 1 else -math.inf
    return low, float(ordered[last - 1]) if last <= len(sample) else math.inf


@dataclass(frozen=True)
class Gathered:
    """Of one tensor: how many living scores lie at or above a bracket, and the `places` and
    `values` of those inside it.
    """

    at_least: int
    places: Places
    values: Values


def _gather(
    scores: Params, living: Params | None, low: float, high: float, masks: Params | None = None
) -> dict[str, Gathered] | None:
    """What lives at `high` and above, and between `low < high`; None when that is more than is to
    be held. `masks` are told the former.

    Raises: ValueError when a score is not finite.
    """
    found, held, most = {}, 0, max(MOST_INSIDE, sum(s.numel() for s in scores.values()) // 32)
    code = MARK.code(scores, living, living, living, constants=(low, high)) if living else None
    size = WIDE if code else CHUNK
    beyond, inside = (torch.empty(size, dtype=torch.bool) for _ in range(2))
    numbers = as_held((low, high))
    for name, score in scores.items():
        flat = None if masks is None else masks[name].view(-1)
        at_least, places, values = 0, [], []
        for here, part, alive in _chunks(score, None if living is None else living[name], size):
            above = beyond[: len(part)] if flat is None else flat[here]
            between = inside[: len(part)]
            if code:
                flags = (torch.from_numpy(alive), above, between)
                code(part, *(flag.view(torch.uint8) for flag in flags), *numbers)
            else:
                if not _sound(part):
                    _refuse(name, score)
                _mark(part, alive, above, between, low, high)
            at_least += _count(above.numpy())
            seen = _flagged(between.numpy())
            chosen = part.numpy()[seen]
            if not np.isfinite(chosen).all():
                _refuse(name, score)
            held += len(seen)
            if held > most:
                return None
            values.append(chosen)
            places.append(seen + here.start)
        found[name] = Gathered(at_least, np.concatenate(places), np.concatenate(values))
    return found


def _mark(
    part: Tensor, alive: Any, above: Tensor, between: Tensor, low: float, high: float
) -> None:
    """Tells [n] flags what lives at `high` and above, and what lives inside `low < high`."""
    most = _passes(AT_LEAST, part, high, above)
    inner = _passes(ABOVE, part, low, between)
    np.not_equal(inner, most, out=inner)
    np.logical_and(most, alive, out=most)
    np.logical_and(inner, alive, out=inner)


def mark_update(
    score: Tensor, living: Tensor, above: Tensor, between: Tensor, low: float, high: float
) -> None:
    """`_mark` in one pass, of bytes 0 and 1, for whoever compiles it. What is not finite is marked
    as inside, too.
    """
    alive = living.float()
    most = torch.where(score >= high, alive, 0.0)
    inside = torch.where(score > low, alive, 0.0) - most
    above.copy_(most)
    between.copy_(torch.where(torch.isfinite(score), inside, 1.0))


MARK = Fused(mark_update, state=2, after=LASTING)


def _value(found: dict[str, Gathered], k: int) -> float | None:
    """The k-th largest, where it lies inside the bracket."""
    rest = k - sum(of.at_least for of in found.values())
    values = np.concatenate([of.values for of in found.values()])
    return _smallest(values, len(values) - rest + 1) if 0 < rest <= len(values) else None


def _shared(
    scores: Params,
    living: Params | None,
    k: int,
    bracket: tuple[float, float],
    found: dict[str, Gathered] | None,
) -> Cut:
    """The cut where no bracket has it inside: very likely at a value that many scores share."""
    low, high = bracket
    if found is None:
        check_finite(scores)
        value = low if low == high else None
    else:
        value = high if k <= sum(of.at_least for of in found.values()) else low
    if value is not None and (cut := _cut_at(scores, living, value)).leaves(k):
        return cut
    return _cut_at(scores, living, _from_bits(scores, living, k))


def _cut_at(scores: Params, living: Params | None, value: float) -> Cut:
    """A value as a cut, whatever it leaves."""
    above, ties = dict.fromkeys(scores, 0), dict.fromkeys(scores, 0)
    scratch = torch.empty(CHUNK, dtype=torch.bool)
    for name, score in scores.items():
        for _, part, alive in _chunks(score, None if living is None else living[name]):
            for comparison, count in ((ABOVE, above), (EQUAL, ties)):
                flags = _passes(comparison, part, value, scratch[: len(part)])
                np.logical_and(flags, alive, out=flags)
                count[name] += _count(flags)
    return Cut(value, above, ties)


def _from_bits(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest from histograms: of the upper 16 bits, then of the lower 16 among the equal.

    The bits of a float32, read as an integer with the sign folded in, keep the order of numbers.
    """
    bucket, lower = 0, False
    for lower in (False, True):
        histogram = torch.zeros(HALF, dtype=torch.int64)
        for name, score in scores.items():
            for chunk, alive in _wide(score, None if living is None else living[name]):
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
