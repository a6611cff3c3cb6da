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
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from seven_bench.pruning.prunable import Params

PIECE = 1 << 27  # weights taken side by side: 512 MiB of float32
SAMPLE = 1 << 16  # scores looked at for the bracket
MOST_INSIDE = 1 << 22  # scores sorted, or 1 in 32
MANY, ROW = 1 << 23, 1024  # flags from which on they are counted by words; flags a word
FEW = 16  # columns that are compared, not sorted
NOTHING = torch.empty(0)


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


def in_place(tensors: Sequence[Tensor]) -> Tensor | None:
    """Tensors of one type as one [n], a view; None where they do not lie side by side."""
    first, last = tensors[0], tensors[-1]
    end = begin = address(first)
    for tensor in tensors:
        if address(tensor) != end or not tensor.is_contiguous():
            return None
        end += tensor.numel() * first.itemsize
    if not share_memory(first, last):
        return None
    return first.detach().as_strided(((end - begin) // first.itemsize,), (1,))


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one type as one [n]: a view where they lie side by side, else a copy."""
    if (found := in_place(tensors)) is not None:
        return found
    if len({tensor.dtype for tensor in tensors}) > 1:
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    with torch.no_grad():
        # one call, where each tensor's own view would cost one
        whole: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
        return whole


def address(tensor: Tensor) -> int:
    """Where a tensor's values begin."""
    return tensor.data_ptr()


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are views of one memory."""
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def side_by_side(tensors: Params) -> Params:
    """Copies that lie side by side, so that `joined` need not copy them."""
    if not tensors:
        return {}
    whole = torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])
    return shaped(whole, tensors)


def agreeing(one: Params, other: Params) -> Params:
    """Where two sets of masks say the same."""
    found: Params = {}
    for names in batches(one):
        same = joined([one[n] for n in names]) == joined([other[n] for n in names])
        found |= shaped(same, {name: one[name] for name in names})
    return found


def multipliers(masks: Params, dtype: torch.dtype) -> list[Tensor]:
    """The masks as 0 and 1 of a number's type: one launch multiplies many tensors by them, where a
    bool takes one a tensor.
    """
    found: list[Tensor] = []
    for names in batches(masks):
        part = {name: masks[name] for name in names}
        found += shaped(joined(list(part.values())).to(dtype), part).values()
    return found


def shaped(whole: Tensor, like: Params) -> Params:
    """[n] cut into tensors of the names and shapes of `like`."""
    parts = _unflatten_dense_tensors(whole, list(like.values()))  # type: ignore[no-untyped-call]
    # as tensors of their own to torch's version counters: who writes to one is told by its name
    return {name: part.data for name, part in zip(like, parts, strict=True)}


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

    The host reads once, very likely; where many scores share the value of the k-th, up to three
    times more. Beside the masks it takes 2 bytes a weight for a while, and 4 more where the scores
    do not lie side by side.

    A sample brackets the k-th largest. What lies above the bracket is kept, and of what lies inside
    it (2 % of all at most) the largest, by a sort. Where the bracket missed, the value is one that
    many scores share, or is found by halving.

    Raises: ValueError when fewer live or a score is not finite.
    """
    pieces = _pieces(scores, living)
    found = _search(pieces, scores, k)
    if found.value is None:
        flags = found.above
        kept = torch.zeros_like(found.values, dtype=torch.bool)
        kept.index_fill_(0, found.order[: found.rest], True)
        parts = kept.split([len(places) for places in found.places])  # type: ignore[no-untyped-call]
        sizes = [found.rest]
        if len(parts) > 1:
            sizes = [int(n) for n in read([part.sum() for part in parts])]
        for flag, places, part, size in zip(flags, found.places, parts, sizes, strict=True):
            flag.index_fill_(0, places[_where(part, size)], True)
    else:
        flags = [piece.above(found.value) for piece in pieces]
        equal = [piece.equal(found.value) for piece in pieces]
        told = read([count(flag) for flag in (*flags, *equal)])
        rest = k - int(sum(told[: len(flags)]))
        for flag, ties, held in zip(flags, equal, told[len(flags) :], strict=True):
            taken = min(rest, int(held))
            flag.index_fill_(0, _where(ties, int(held))[:taken], True)
            rest -= taken
    return {
        name: mask
        for piece, flag in zip(pieces, flags, strict=True)
        for name, mask in shaped(flag, {name: scores[name] for name in piece.names}).items()
    }


def kth_value(scores: Params, living: Params | None, k: int) -> float:
    """The k-th largest living score over all tensors, k from 1."""
    return read([_search(_pieces(scores, living), scores, k).kth])[0]


def cut(
    scores: Params, living: Params | None, k: int
) -> tuple[float, dict[str, int], dict[str, int]]:
    """The k-th largest living score, and how many of each tensor lie above it and equal it."""
    pieces = _pieces(scores, living)
    value = _search(pieces, scores, k).kth
    counts = [
        [count(flag) for flag in shaped(flags, {n: scores[n] for n in piece.names}).values()]
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
    for name, kept in counts.items():
        if not 0 <= kept <= lives[name]:
            raise ValueError(f"cannot keep {kept} weights of {name}: {lives[name]} live")
    return {name: _best(score, living[name], counts[name]) for name, score in scores.items()}


def _best(score: Tensor, living: Tensor, kept: int) -> Tensor:
    alive = living.reshape(-1)
    ranked = score.detach().reshape(-1).float().masked_fill(~alive, -math.inf)
    order = ranked.sort(descending=True, stable=True).indices  # quicker than topk, and stable
    return torch.zeros_like(alive).index_fill_(0, order[:kept], True).view(living.shape)


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


def count(flags: Tensor) -> Tensor:
    """How much of a bool tensor is true, []: a sum of eight flags at a time, not of one."""
    flat = flags.reshape(-1)
    if flat.numel() < MANY or flat.storage_offset() % 8:
        return flat.sum()
    whole = flat.numel() // ROW * ROW
    words = flat[:whole].view(torch.int64).view(-1, ROW // 8).sum(1)  # no byte exceeds 128
    return words.view(torch.uint8).sum() + flat[whole:].sum()


def counted(flags: Params) -> dict[str, int]:
    """How much of each bool tensor is true; the host reads once."""
    if not flags:
        return {}
    told = read([torch.stack([count(flag) for flag in flags.values()])])
    return dict(zip(flags, map(int, told), strict=True))


def check(scores: Params, living: Params) -> dict[str, int]:
    """How many scores of each tensor live; the host reads once.

    Raises: ValueError when a score is not finite.
    """
    sums = torch.stack([score.detach().float().sum() for score in scores.values()])
    told = read([sums, torch.stack([count(mask) for mask in living.values()])])
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


@dataclass(frozen=True)
class Found:
    """Where the k-th largest living score is.

    Inside the bracket (`value` None): the flags of what lies `above` it, by piece; the `places` and
    `values` of what lies inside, and their `order`, the largest first, of which `rest` stay. Else a
    `value` [].
    """

    value: Tensor | None = None
    above: Sequence[Tensor] = ()
    places: Sequence[Tensor] = ()
    values: Tensor = NOTHING
    order: Tensor = NOTHING
    rest: int = 0

    @property
    def kth(self) -> Tensor:
        """Its value, []."""
        if self.value is not None:
            return self.value
        return self.values.index_select(0, self.order[self.rest - 1 : self.rest]).view(())


def _search(pieces: list[Piece], scores: Params, k: int) -> Found:
    """Finds the k-th largest living score, see `top_masks`.

    Raises: ValueError when fewer live or a score is not finite.
    """
    low, high = _bracket(pieces, k)
    above, inside, sums = [], [], [low, high]
    for piece in pieces:
        above.append(piece.at_least(high))
        inside.append(torch.gt(piece.above(low), above[-1]))
        alive = torch.ones_like(above[-1]) if piece.living is None else piece.living
        sums += [piece.score.sum(), count(alive), count(above[-1]), count(inside[-1])]
    bottom, top, *told = read(sums)
    _check_sums(told[::4], scores)
    lives = int(sum(told[1::4]))
    if not 0 < k <= lives:
        raise ValueError(f"cannot keep {k} weights: {lives} live")
    held = [int(n) for n in told[3::4]]
    rest = k - int(sum(told[2::4]))
    most = max(MOST_INSIDE, sum(piece.score.numel() for piece in pieces) // 32)
    if bottom < top and 0 < rest <= sum(held) <= most:
        places = [_where(flags, size) for flags, size in zip(inside, held, strict=True)]
        values = torch.cat([p.score[at] for p, at in zip(pieces, places, strict=True)])
        order = values.sort(descending=True, stable=True).indices
        return Found(None, above, places, values, order, rest)
    del above, inside
    value = high if bottom == top or rest <= 0 else low  # very likely: one that many scores share
    told = read([count(f) for p in pieces for f in (p.above(value), p.at_least(value))])
    if not sum(told[::2]) < k <= sum(told[1::2]):
        value = _by_halving(pieces, k)
    return Found(value)


def _where(flags: Tensor, size: int) -> Tensor:
    """The places [size] of what is true, of which there are so many."""
    return torch.nonzero_static(flags, size=size).view(-1)


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
        enough = torch.stack([count(piece.at_least(value)) for piece in pieces]).sum() >= k
        low, high = middle.where(enough, low), high.where(enough, middle - 1)
    return _ordered(low.int()).view(torch.float32)


def _ordered(bits: Tensor) -> Tensor:
    """int32 bits of float32 as int32 of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
