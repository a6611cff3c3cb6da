"""Patterns: the granularity of what is removed.

A weight is seen as a matrix [d_out, d_in]; further dimensions, a convolution's, count to d_in.
Imports no torch: the config's checks read what a pattern declares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """What is removed together.

    `rows` x `columns` weights make a unit, that lives or goes as a whole (columns 0: a whole row);
    its score is the mean of its weights'. `group` (N, M): of every M weights along a row N stay in
    the end, which fixes the sparsity. `distributions`: those that can be had with it. `coupled`:
    the kinds of unit that lie across tensors; which they are follows from a model, see `units`.
    """

    rows: int = 1
    columns: int = 1
    group: tuple[int, int] | None = None
    distributions: tuple[str, ...] = ("global", "uniform", "er", "lamp")
    coupled: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float | None:
        """The sparsity that the pattern fixes, or None."""
        return 1 - self.group[0] / self.group[1] if self.group else None

    @property
    def single(self) -> bool:
        """Whether a unit is a single weight."""
        return self.rows == self.columns == 1

    def unit(self, name: str, shape: Iterable[int]) -> tuple[int, int]:
        """Rows and columns of a unit in a weight of this shape.

        Raises: ValueError when units (or groups) do not cover the weight.
        """
        height, *rest = shape
        width = math.prod(rest)
        rows, columns = self.rows, self.columns or width
        if height % rows or width % (self.group[1] if self.group else columns):
            what = f"groups of {self.group[1]}" if self.group else f"{rows}x{columns} blocks"
            raise ValueError(f"{name} has shape {height}x{width}: {what} do not cover it")
        return rows, columns

    def sizes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """Weights in a unit, by tensor."""
        return {name: math.prod(self.unit(name, shape)) for name, shape in shapes.items()}

    def unit_scores(self, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """The score of every unit, by tensor."""
        return {name: self.reduce(name, score) for name, score in scores.items()}

    def reduce(self, name: str, weight: Tensor) -> Tensor:
        """The mean of every unit, float32 [d_out / rows, d_in / columns]."""
        rows, columns = self.unit(name, weight.shape)
        blocks = weight.reshape(weight.shape[0] // rows, rows, -1, columns)
        return blocks.float().mean((1, 3))

    def living_units(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """Which units live, bool, of the shapes of `reduce`.

        Raises: ValueError when a mask holds only a part of a unit.
        """
        from seven_bench.pruning.threshold import counted

        alive = {name: self.reduce(name, mask) != 0 for name, mask in masks.items()}
        weights, units = counted(masks), counted(alive)
        for name, mask in masks.items():
            rows, columns = self.unit(name, mask.shape)
            if weights[name] != units[name] * rows * columns:
                raise ValueError(f"the mask of {name} holds parts of {rows}x{columns} blocks")
        return alive

    def expand(self, units: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """A bool per unit as a bool per weight, of the shapes of `like`."""
        found = {}
        for name, tensor in like.items():
            rows, columns = self.unit(name, tensor.shape)
            wide = units[name].repeat_interleave(rows, 0).repeat_interleave(columns, 1)
            found[name] = wide.reshape(tensor.shape)
        return found

    def reachable(self, shapes: dict[str, tuple[int, ...]], count: int) -> int:
        """The largest number of weights to keep, at most `count`, that the pattern can have.

        Raises: ValueError when the pattern does not cover a weight, or N:M would have to keep less.
        """
        total = sum(math.prod(shape) for shape in shapes.values())
        available: dict[int, int] = {}
        for name, shape in shapes.items():
            size = math.prod(self.unit(name, shape))
            available[size] = available.get(size, 0) + math.prod(shape) // size
        if self.group and count * self.group[1] < total * self.group[0]:
            raise ValueError(f"{self.group[0]} of {self.group[1]} weights stay, not {count}")
        chosen = units_by_size(available, {}, count)
        return sum(size * units for size, units in chosen.items())


def units_by_size(available: dict[int, int], ideal: dict[int, int], count: int) -> dict[int, int]:
    """How many units of each size to keep, so that they hold as many weights as they can.

    Args:
        available: units there are, by size in weights.
        ideal: units one would like to keep, by size; the answer is near it.
        count: the most weights they may hold; they hold the nearest sum that exists.
    """
    if len(available) == 1:  # the usual case; a model's weights are many, so nothing is counted out
        ((size, units),) = available.items()
        return {size: min(units, count // size)}
    grain = math.gcd(*available)
    sizes = sorted(available, reverse=True)
    sums = [1]  # from the last size on: bit i is set where some choice of units holds i grains
    for size in reversed(sizes):
        bits, left, step = sums[0], available[size], 1
        while left > 0:  # multiples of 1, 2, 4, ... units make every number of units
            bits |= bits << (size // grain * min(step, left))
            left, step = left - step, step * 2
        sums.insert(0, bits)
    left = (sums[0] & ((1 << (count // grain + 1)) - 1)).bit_length() - 1
    chosen = {}
    for size, rest in zip(sizes, sums[1:], strict=True):
        weight, near = size // grain, ideal.get(size, 0)
        most = min(available[size], left // weight)
        outwards = sorted(range(most + 1), key=lambda k: abs(k - near)) if rest > 1 else [most]
        chosen[size] = next(k for k in outwards if rest >> (left - k * weight) & 1)
        left -= chosen[size] * weight
    return chosen


PER_LAYER = ("global", "uniform")
PATTERNS = {
    "unstructured": Pattern(distributions=("global", "uniform", "er", "lamp", "per_row")),
    "nm_2_4": Pattern(group=(2, 4), distributions=("uniform",)),
    "nm_4_8": Pattern(group=(4, 8), distributions=("uniform",)),
    "block_1x4": Pattern(columns=4),
    "block_4x4": Pattern(rows=4, columns=4),
    "row": Pattern(columns=0),
    "head": Pattern(coupled=("head",), distributions=PER_LAYER),
    "neuron": Pattern(coupled=("neuron",), distributions=PER_LAYER),
    "head_neuron": Pattern(coupled=("head", "neuron"), distributions=PER_LAYER),
}
