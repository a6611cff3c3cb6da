"""The empirical Fisher matrix, block-diagonal, and what second-order pruning asks of it.

As in oBERT, Kurtic et al. 2022, arXiv 2203.07259.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor

from seven_bench.pruning import PATTERNS, Params

GATHERED = 16  # gradients that are added to the sums at once
CHUNK = 256  # blocks that are inverted at once, in each thread

Part = TypeVar("Part")


class BlockFisher:
    """F = mean g g' + damping over the gradients g that were added, for blocks of `block` weights.

    What is held are the sums of g g', float32, a block a matrix; each is inverted when it is asked
    for something, in float64, by Cholesky. That is the matrix which Woodbury's identity keeps up to
    date gradient by gradient, without the digits it cancels in float32 on its way down from
    1 / damping = 10^7, and with the number of gradients free. A damping below the rounding of
    float32 sums would mean nothing: then that rounding, 4 eps trace F, takes its place. With fewer
    gradients than weights in a block the damping decides on much of it, and at that bound rounding
    moves answers by up to a hundredth.

    A block holds neighbouring weights of one tensor, unit after unit of a pattern, and whole units
    (it is made smaller where it would not: 48 of 50 for units of 4); a unit beyond its size is
    parted evenly. The last block of a tensor may be short.

    Memory: 4 (block + GATHERED) bytes a weight, 264 at 50, and 30 MB a thread while inverting.

    Args:
        block: weights in a block, at most.
        damping: what is added to the diagonal.
        pattern: of `PATTERNS`.
    """

    def __init__(self, block: int, damping: float, pattern: str = "unstructured") -> None:
        self.block, self.damping, self.pattern = block, damping, pattern
        self.sums: Params = {}  # [blocks, block, block] by parameter name
        self.gathered: Params = {}  # [blocks, GATHERED, block]: not in the sums yet; else zeros
        self.count = 0

    def add(self, grads: Params) -> None:
        """Takes in one gradient."""
        place = self.count % GATHERED
        self.count += 1
        for name, grad in grads.items():
            if name not in self.sums:
                size = self._size(name, grad)
                shape = (-(-grad.numel() // size), size, size)
                self.sums[name] = torch.zeros(shape, device=grad.device)
                self.gathered[name] = self.sums[name].new_zeros(shape[0], GATHERED, size)

        def take(name: str) -> None:
            self._fill(name, self.gathered[name][:, place], grads[name])
            if place == GATHERED - 1:
                self._add_gathered(name)

        _in_threads(grads, take)

    def rises(self, name: str, weight: Tensor, living: Tensor) -> Tensor:
        """By how much the loss rises when a unit goes and the rest of its block answers.

        w_Q' ((F^-1)_QQ)^-1 w_Q / 2 over the weights Q of a unit, given to each of them; of single
        weights w_q^2 / (2 [F^-1]_qq). Of N:M groups each weight gets its own, and the N whose
        absence from Q, the others, is best get more than the rest.

        Args:
            weight: the tensor's weights.
            living: bool; the others are not there.

        Returns: float32, of the weight's shape.
        """
        self._add_gathered(name)
        w, alive = self._blocks(name, weight), self._blocks(name, living)
        rises, unit, form = torch.zeros_like(w), self._unit(name, weight), PATTERNS[self.pattern]

        def measure(some: slice) -> None:
            fisher, here = self._fisher(name, some, alive[some]), (w[some] * alive[some]).double()
            if unit > w.shape[1]:  # all of a block goes, and nothing in it can answer
                all_of_it = (here * (fisher @ here[..., None])[..., 0]).sum(1, keepdim=True)
                rises[some] = all_of_it.float() / 2
                return
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(fisher))
            rise = here.square() / inverse.diagonal(dim1=1, dim2=2)
            if form.group is not None:
                rise += _lead_of_best(inverse, here, rise, *form.group)
            elif unit > 1:
                together = _quadratic(_inner(inverse, unit), here.view(len(here), -1, unit))
                rise = together.repeat_interleave(unit, 1)
            rises[some] = rise.float() / 2

        _in_threads(_chunks(len(w)), measure)
        if unit > w.shape[1]:
            parts = rises.view(-1, unit // w.shape[1], w.shape[1])
            rises = parts.sum(1, keepdim=True).expand_as(parts)
        return self._tensor(name, rises, weight)

    def answered(self, name: str, weight: Tensor, living: Tensor, stays: Tensor) -> Tensor:
        """The weights at the minimum of the quadratic model once only those of `stays` are left.

        w_R + (F_RR)^-1 F_RQ w_Q, for the weights R of a block that stay and those, Q, that go; by
        block inversion that is the paper's -F^-1_:Q ((F^-1)_QQ)^-1 w_Q.

        Returns: float32, of the weight's shape, 0 for what goes.
        """
        self._add_gathered(name)
        w, kept = self._blocks(name, weight), self._blocks(name, stays)
        gone = self._blocks(name, living) & ~kept
        touched = gone.any(1).nonzero()[:, 0]

        def answer(some: slice) -> None:
            blocks = touched[some]
            pull = self._means(name, blocks) @ (w[blocks] * gone[blocks]).double()[..., None]
            pull *= kept[blocks][..., None]
            factor = torch.linalg.cholesky(self._fisher(name, blocks, kept[blocks]))
            w[blocks] += torch.cholesky_solve(pull, factor)[..., 0].float()

        _in_threads(_chunks(len(touched)), answer)
        return self._tensor(name, w * kept, weight)

    def state_dict(self) -> dict[str, Tensor]:
        state = {"count": torch.tensor(self.count)}
        state.update({f"sums/{name}": blocks for name, blocks in self.sums.items()})
        return state | {f"gathered/{name}": blocks for name, blocks in self.gathered.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores `state_dict`. Raises KeyError when an entry is missing."""
        self.count = int(state["count"])
        for kind, held in (("sums/", self.sums), ("gathered/", self.gathered)):
            held.clear()
            for key, blocks in state.items():
                if key.startswith(kind):
                    held[key.removeprefix(kind)] = blocks.clone()

    def _unit(self, name: str, tensor: Tensor) -> int:
        """Weights in a unit, or in a group."""
        rows, columns = PATTERNS[self.pattern].unit(name, tensor.shape)
        group = PATTERNS[self.pattern].group
        return group[1] if group else rows * columns

    def _size(self, name: str, tensor: Tensor) -> int:
        """Weights in a block."""
        unit = self._unit(name, tensor)
        if unit <= self.block:
            return self.block - self.block % unit
        return next(size for size in range(self.block, 0, -1) if unit % size == 0)

    def _blocks(self, name: str, tensor: Tensor) -> Tensor:
        """A new tensor [blocks, block], unit after unit, with zeros at the end."""
        size = self._size(name, tensor)
        blocks = torch.zeros(
            (-(-tensor.numel() // size), size),
            dtype=torch.bool if tensor.dtype == torch.bool else torch.float32,
            device=tensor.device,
        )
        self._fill(name, blocks, tensor)
        return blocks

    def _fill(self, name: str, blocks: Tensor, tensor: Tensor) -> None:
        """Writes a tensor, unit after unit, to [blocks, block] of any strides."""
        rows, columns = PATTERNS[self.pattern].unit(name, tensor.shape)
        units = tensor.reshape(tensor.shape[0] // rows, rows, -1, columns).transpose(1, 2)
        flat, size = units.reshape(-1), blocks.shape[1]
        whole = flat.numel() // size
        blocks[:whole] = flat[: whole * size].view(whole, size)
        if whole < len(blocks):
            blocks[-1, : flat.numel() - whole * size] = flat[whole * size :]

    def _tensor(self, name: str, blocks: Tensor, like: Tensor) -> Tensor:
        """What `_blocks` has taken apart."""
        rows, columns = PATTERNS[self.pattern].unit(name, like.shape)
        flat = blocks.reshape(-1)[: like.numel()]
        units = flat.view(like.shape[0] // rows, -1, rows, columns)
        return units.transpose(1, 2).reshape(like.shape)

    def _add_gathered(self, name: str) -> None:
        gathered = self.gathered[name]
        self.sums[name].baddbmm_(gathered.transpose(1, 2), gathered)
        gathered.zero_()

    def _means(self, name: str, some: slice | Tensor) -> Tensor:
        return self.sums[name][some].double().div_(self.count)

    def _fisher(self, name: str, some: slice | Tensor, living: Tensor) -> Tensor:
        """F of some blocks, float64; of a weight that does not live, the identity's row."""
        fisher = self._means(name, some)
        if not bool(living.all()):
            fisher.mul_(living[:, :, None]).mul_(living[:, None, :])
        diagonal = fisher.diagonal(dim1=1, dim2=2)
        rounding = 4 * torch.finfo(torch.float32).eps * diagonal.sum(1, keepdim=True)
        diagonal += rounding.clamp(min=self.damping).where(living, 1.0)
        return fisher


def _in_threads(parts: Iterable[Part], work: Callable[[Part], None]) -> None:
    """Calls `work` for each part, in as many threads as torch is given.

    Matrices as small as these gain nothing from threads of torch's and LAPACK's own, and lose much
    where cores are busy. Results do not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, parts))  # raises what a thread has raised
    finally:
        torch.set_num_threads(threads)


def _chunks(blocks: int) -> list[slice]:
    return [slice(i, min(i + CHUNK, blocks)) for i in range(0, blocks, CHUNK)]


def _inner(matrix: Tensor, size: int) -> Tensor:
    """The blocks [..., size, size] along the diagonal of matrices [blocks, block, block]."""
    number, block, _ = matrix.shape
    parts = matrix.view(number, block // size, size, block // size, size)
    return parts.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def _quadratic(matrix: Tensor, vector: Tensor) -> Tensor:
    """v' M^-1 v of many small positive definite matrices [..., n, n], by elimination."""
    matrix, vector = matrix.clone(), vector.clone()
    total = torch.zeros_like(vector[..., 0])
    for k in range(vector.shape[-1]):
        pivot, rest = matrix[..., k, k, None], slice(k + 1, None)
        total += vector[..., k].square() / pivot[..., 0]
        ratio = matrix[..., rest, k] / pivot
        vector[..., rest] -= ratio * vector[..., k, None]
        matrix[..., rest, rest] -= ratio[..., None] * matrix[..., k, None, rest]
    return total


def _lead_of_best(inverse: Tensor, w: Tensor, rises: Tensor, n: int, m: int) -> Tensor:
    """What puts the best N of every M weights before the others, [blocks, block].

    Of all ways to lose M - N of them, the one that costs least leaves the best.
    """
    losses = torch.tensor(list(combinations(range(m), m - n)), device=w.device)
    groups, w = _inner(inverse, m), w.view(len(w), -1, m)
    lost = groups[..., losses[:, :, None], losses[:, None, :]]
    least = losses[_quadratic(lost, w[..., losses]).argmin(-1)]
    lead = 2 * rises.view(w.shape).amax(-1, keepdim=True).expand(w.shape)
    return lead.scatter(-1, least, 0.0).reshape(rises.shape)
