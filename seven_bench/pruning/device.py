"""Selection for scores on a GPU: the masks of `threshold`, by few large operations.

A launch costs as much there as a megabyte read, and each number that the host reads waits for all
that was launched before. So tensors are taken side by side, what is found stays on the device, and
the host reads once or twice in all, always through `read`. The same functions run on a CPU, slower
than those of `threshold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seven_bench.pruning.prunable import Params

PIECE = 1 << 27  # weights taken side by side: 512 MiB of float32
SAMPLE = 1 << 16  # scores looked at for the bracket
MOST_INSIDE = 1 << 22  # scores sorted, or 1 in 32
FEW = 16  # columns that are compared, not sorted


def on_gpu(tensors: Params) -> bool:
    """Whether these tensors lie on a CUDA device."""
    return any(tensor.is_cuda for tensor in tensors.values())


def read(values: Sequence[Tensor]) -> list[float]:
    """Numbers [] or [n] of a device as one list: the one place where selection waits for it.

    Integers are exact up to 2^53, float32 always.
    """
    found: list[float] = torch.cat([value.reshape(-1).double() for value in values]).tolist()
    return found


def batches(params: Params) -> list[list[str]]:
    """The names in order, in groups of at most `PIECE` weights (a larger tensor by itself)."""
    found: list[list[str]] = [[]]
    held = 0
    for name, parameter in params.items():
        if found[-1] and held + parameter.numel() > PIECE:
            found.append([])
            held = 0
        found[-1].append(name)
        held += parameter.numel()
    return found


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one type as one [n]: a view where they lie side by side, else a copy."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    end = flat[0].storage_offset()
    for part in flat:
        if part.storage_offset() != end or not share_memory(part, flat[0]):
            return torch.cat(flat)
        end += part.numel()
    return flat[0].as_strided((end - flat[0].storage_offset(),), (1,))


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are views of one memory."""
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def side_by_side(tensors: Params) -> Params:
    """Copies that lie side by side, so that `joined` need not copy them."""
    if not tensors:
        return {}
    whole = torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])
    return _shaped(whole, tensors)


def _shaped(whole: Tensor, like: Params) -> Params:
    """[n] cut into tensors of the names and shapes of `like`."""
    parts = whole.split([tensor.numel() for tensor in like.values()])  # type: ignore[no-untyped-call]
    return {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }


@dataclass(frozen=True)
class Piece:
    """Scores [n] of some tensors, float32, and which of them live (None: all)."""

    names: list[str]
    score: Tensor
    living: Tensor | None

    def at_least(self, value: Tensor) -> Tensor:
        """A flag [n] for every living score of at least `value` []."""
        return self._of_the_living(self.score >= value)

    def above(self, value: Tensor) -> Tensor:
        return self._of_the_living(self.score > value)

    def equal(self, value: Tensor) -> Tensor:
        return self._of_the_living(self.score == value)

    def _of_the_living(self, flags: Tensor) -> Tensor:
        return flags if self.living is None else flags.logical_and_(self.living)


def top_masks(scores: Params, living: Params, k: int) -> Params:
    """The masks of the `k` largest living scores of all tensors; ties go to the first by
    (parameter order, flat index).

    The host reads twice; where many scores share the value of the k-th, up to three times more.
    Beside the masks it takes some 3 bytes a weight for a while, and 4 more where the scores do not
    lie side by side.

    Raises: ValueError when fewer live or a score is not finite.
    """
    pieces = _pieces(scores, living)
    value = _kth_largest(pieces, scores, k)
    flags = [piece.at_least(value) for piece in pieces]
    excess = int(sum(read([flag.sum() for flag in flags]))) - k
    for piece, flag in zip(reversed(pieces), reversed(flags), strict=True):
        if excess == 0:
            break
        equal = piece.equal(value)  # the last of them are too many
        ties = int(read([equal.sum()])[0])
        dropped = min(excess, ties)
        flag.logical_xor_(equal.logical_and_(equal.cumsum(0, dtype=torch.int32) > ties - dropped))
        excess -= dropped
    return {
        name: mask
        for piece, flag in zip(pieces, flags, strict=True)
        for name, mask in _shaped(flag, {name: scores[name] for name in piece.names}).items()
    }


def kth_value(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest living score over all tensors, k from 1."""
    return read([_kth_largest(_pieces(scores, living), scores, k)])[0]


def cut(
    scores: Params, living: Params | None, k: int
) -> tuple[float, dict[str, int], dict[str, int]]:
    """The k-th largest living score, and how many of each tensor lie above it and equal it."""
    pieces = _pieces(scores, living)
    value = _kth_largest(pieces, scores, k)
    counts = [
        [flag.sum() for flag in _shaped(flags, {n: scores[n] for n in piece.names}).values()]
        for piece in pieces
        for flags in (piece.above(value), piece.equal(value))
    ]
    found, *told = read([value, *(torch.stack(part) for part in counts)])
    above: dict[str, int] = {}
    ties: dict[str, int] = {}
    for piece in pieces:
        for target in (above, ties):
            target.update(zip(piece.names, map(int, told), strict=False))
            told = told[len(piece.names) :]
    return found, above, ties


def best_of_each(scores: Params, living: Params, counts: dict[str, int]) -> Params:
    """The masks of the `counts[name]` largest living scores of each tensor; ties go to the lower
    flat index. The host reads once.

    Raises: ValueError when fewer live or a score is not finite.
    """
    lives = check(scores, living)
    for name, count in counts.items():
        if not 0 <= count <= lives[name]:
            raise ValueError(f"cannot keep {count} weights of {name}: {lives[name]} live")
    return {name: _best(score, living[name], counts[name]) for name, score in scores.items()}


def _best(score: Tensor, living: Tensor, count: int) -> Tensor:
    if count == 0:
        return torch.zeros_like(living)
    alive = living.reshape(-1)
    ranked = score.detach().reshape(-1).float().where(alive, -math.inf)
    n, from_top = ranked.numel(), count <= ranked.numel() // 2
    found = ranked.topk(count if from_top else n - count + 1, largest=from_top, sorted=False).values
    value = found.min() if from_top else found.max()
    above, ties = ranked > value, ranked == value
    missing = count - above.sum()
    return above.logical_or_(ties.logical_and_(ties.cumsum(0, dtype=torch.int32) <= missing)).view(
        living.shape
    )


def ranks(values: Tensor) -> Tensor:
    """The rank of each value within its row of [rows, columns], the largest 0; ties by column."""
    columns = values.shape[1]
    if columns > FEW:
        return values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    found = torch.zeros_like(values, dtype=torch.int8)
    for j in range(columns):
        other = values[:, j : j + 1]
        found += other > values
        found[:, j + 1 :] += other == values[:, j + 1 :]
    return found


def counted(flags: Params) -> dict[str, int]:
    """How much of each bool tensor is true; the host reads once."""
    if not flags:
        return {}
    told = read([torch.stack([flag.sum() for flag in flags.values()])])
    return dict(zip(flags, map(int, told), strict=True))


def check(scores: Params, living: Params) -> dict[str, int]:
    """How many scores of each tensor live; the host reads once.

    Raises: ValueError when a score is not finite.
    """
    sums = torch.stack([score.detach().float().sum() for score in scores.values()])
    told = read([sums, torch.stack([mask.sum() for mask in living.values()])])
    _check_sums(told[: len(scores)], scores)
    return dict(zip(scores, map(int, told[len(scores) :]), strict=True))


def check_finite(scores: Params) -> None:
    """Raises ValueError, with its name, when a tensor is not finite. The host reads once."""
    _check_sums(read([score.detach().float().sum() for score in scores.values()]), scores)


def _check_sums(sums: Sequence[float], scores: Params) -> None:
    """Sums of all scores: one that is not finite may be an overflow, and then decides nothing."""
    if all(map(math.isfinite, sums)):
        return
    finite = read([torch.isfinite(score).all() for score in scores.values()])
    for name, all_of_it in zip(scores, finite, strict=True):
        if not all_of_it:
            raise ValueError(f"scores of {name} are not finite")


def _pieces(scores: Params, living: Params | None) -> list[Piece]:
    return [
        Piece(
            names,
            joined([scores[name] for name in names]).float(),
            None if living is None else joined([living[name] for name in names]),
        )
        for names in batches(scores)
    ]


def _kth_largest(pieces: list[Piece], scores: Params, k: int) -> Tensor:
    """The k-th largest living score, []. The host reads once, very likely.

    A sample brackets it. What lies inside the bracket, 2 % of all at most, is sorted; where the
    bracket missed, the value is one that many scores share, or is found by halving.

    Raises: ValueError when fewer live or a score is not finite.
    """
    low, high = _bracket(pieces, k)
    inside, sums = [], [low, high]
    for piece in pieces:
        upper = piece.at_least(high)
        inside.append(torch.gt(piece.above(low), upper))
        alive = torch.ones_like(upper) if piece.living is None else piece.living
        sums += [piece.score.sum(), alive.sum(), upper.sum(), inside[-1].sum()]
    bottom, top, *told = read(sums)
    _check_sums(told[::4], scores)
    lives = int(sum(told[1::4]))
    if not 0 < k <= lives:
        raise ValueError(f"cannot keep {k} weights: {lives} live")
    held = [int(n) for n in told[3::4]]
    rest = k - int(sum(told[2::4]))
    most = max(MOST_INSIDE, sum(piece.score.numel() for piece in pieces) // 32)
    if bottom < top and 0 < rest <= sum(held) <= most:
        values = [
            piece.score[torch.nonzero_static(flags, size=size).view(-1)]
            for piece, flags, size in zip(pieces, inside, held, strict=True)
        ]
        return torch.cat(values).sort(descending=True).values[rest - 1]
    del inside
    value = high if bottom == top or rest <= 0 else low  # very likely: one that many scores share
    flags = [(piece.above(value).sum(), piece.at_least(value).sum()) for piece in pieces]
    told = read([count for pair in flags for count in pair])
    return value if sum(told[::2]) < k <= sum(told[1::2]) else _by_halving(pieces, k)


def _bracket(pieces: list[Piece], k: int) -> tuple[Tensor, Tensor]:
    """Two values [] between which the k-th largest very likely lies, from a regular sample."""
    total = sum(piece.score.numel() for piece in pieces)
    step = max(1, total // SAMPLE)
    while math.gcd(step, 2 * 3 * 5 * 7) > 1:  # rows are such multiples: not one column alone
        step += 1
    parts = []
    for piece in pieces:
        seen = piece.score[::step]
        parts.append(seen if piece.living is None else seen.where(piece.living[::step], -math.inf))
    sample = torch.cat(parts).sort().values
    n, fraction = sample.numel(), k / total
    position = n * (1 - fraction)  # from below
    margin = 5 * math.sqrt(max(position, 0) * fraction) + 8  # five standard deviations
    first, last = int(position - margin), int(position + margin)
    low = sample[first - 1] if first >= 1 else sample.new_full((), -math.inf)
    return low, sample[last - 1] if last <= n else sample.new_full((), math.inf)


def _by_halving(pieces: list[Piece], k: int) -> Tensor:
    """The k-th largest by 32 counts, for scores that no sample brackets. The host reads nothing.

    The bits of a float32, read as an integer with the sign folded in, keep the order of numbers.
    """
    ends = pieces[0].score.new_tensor([-math.inf, math.inf])
    low, high = _ordered(ends.view(torch.int32)).long().unbind()
    for _ in range(32):
        middle = (low + high + 1) >> 1
        value = _ordered(middle.int()).view(torch.float32)
        enough = torch.stack([piece.at_least(value).sum() for piece in pieces]).sum() >= k
        low, high = middle.where(enough, low), high.where(enough, middle - 1)
    return _ordered(low.int()).view(torch.float32)


def _ordered(bits: Tensor) -> Tensor:
    """int32 bits of float32 as int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
