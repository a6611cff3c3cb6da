"""Units that lie across tensors: an attention head, a neuron of the feed-forward part.

Like a `Pattern`, a `Structure` says what lives or goes as a whole, but over several tensors and for
one model. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from seven_bench.pruning.patterns import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor

    Params = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Member:
    """A weight that holds a part of every unit: so many of its rows, or of its columns.

    `parts` are stacked along the rows, as query, key and value are; each has its rows of each unit.
    `bias` is the name of the bias that goes with those rows, where there is one.
    """

    name: str
    columns: bool = False
    parts: int = 1
    bias: str | None = None


@dataclass(frozen=True)
class Group:
    """The `units` of one layer, of `size` weights each, equally long stretches of its members."""

    name: str
    kind: str
    layer: str
    units: int
    size: int
    members: tuple[Member, ...]

    def sums(self, tensors: Params) -> Tensor:
        """The sum over each unit, float32 [units]."""
        first, *others = (self._sums_of(m, tensors[m.name]) for m in self.members)
        for other in others:
            first = first + other
        return first

    def _sums_of(self, member: Member, tensor: Tensor) -> Tensor:
        if member.columns:
            return tensor.reshape(tensor.shape[0], self.units, -1).float().sum((0, 2))
        return tensor.reshape(member.parts, self.units, -1).float().sum((0, 2))

    def spread(self, member: Member, units: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A bool per unit as a bool per weight of a member."""
        if member.columns:
            return units.repeat_interleave(shape[1] // self.units).expand(shape).contiguous()
        return self.over_rows(member, units, shape[0])[:, None].expand(shape).contiguous()

    def over_rows(self, member: Member, units: Tensor, rows: int) -> Tensor:
        """A bool per unit as a bool per row of a member."""
        width = rows // (member.parts * self.units)
        return units.repeat_interleave(width).repeat(member.parts)


@dataclass(frozen=True)
class Structure:
    """The units of a model that `pattern` asks for.

    The score of a unit is the sum of its weights' scores, over all its tensors. Units that are
    alike (of one kind and size: heads, neurons, and of two towers those of each) are held against
    each other, no others: a head and a neuron have no common measure. `sparsity` is the fraction of
    each kind that goes, in whole units, the nearest number at or below what it leaves. So sums need
    no scaling by size; nor are they scaled by layer, as Molchanov et al. 2017 (arXiv 1611.06440)
    and Michel et al. 2019 (arXiv 1905.10650) do by the l2 norm of a layer's: `global` takes a score
    as its own paper has it, and within a layer, all that `uniform` looks at, scaling changes
    nothing.

    A layer may lose all that it has of a kind, which a run warns of.

    The names of what it counts and reduces are those of its groups, one a layer and kind.
    """

    pattern: str
    groups: tuple[Group, ...]

    single: ClassVar[bool] = False
    group: ClassVar[None] = None

    @property
    def distributions(self) -> tuple[str, ...]:
        return PATTERNS[self.pattern].distributions

    @property
    def names(self) -> set[str]:
        """The weights that the units are made of."""
        return {member.name for group in self.groups for member in group.members}

    def check(self, tensors: Iterable[str]) -> None:
        """Raises ValueError unless `tensors` are exactly the weights of the units."""
        if odd := sorted(self.names ^ set(tensors)):
            raise ValueError(f"pattern={self.pattern}: {odd[0]} is not in both weights and units")

    def sizes(self, shapes: Shapes) -> dict[str, int]:
        """Weights in a unit, by group."""
        self.check(shapes)
        return {group.name: group.size for group in self.groups}

    def unit_scores(self, scores: Params) -> Params:
        """The score of each unit, float32 [units], by group."""
        self.check(scores)
        return {group.name: group.sums(scores) for group in self.groups}

    def living_units(self, masks: Params) -> Params:
        """Which units live, bool [units], by group.

        Raises: ValueError when a mask holds only a part of a unit.
        """
        from seven_bench.pruning.threshold import counted

        self.check(masks)
        alive = {group.name: group.sums(masks) != 0 for group in self.groups}
        units, weights = counted(alive), sum(counted(masks).values())
        if weights != sum(units[group.name] * group.size for group in self.groups):
            raise ValueError(f"the masks hold parts of {self.pattern} units")
        return alive

    def expand(self, units: Params, like: Params) -> Params:
        """A bool per unit as a bool per weight, by the names and in the order of `like`."""
        found = {
            member.name: group.spread(member, units[group.name], tuple(like[member.name].shape))
            for group in self.groups
            for member in group.members
        }
        return {name: found[name] for name in like}

    def living_rows(self, masks: Params) -> Params:
        """Which entries of each coupled bias belong to a unit that lives, bool [rows], by name."""
        alive = self.living_units(masks)
        return {
            member.bias: group.over_rows(member, alive[group.name], masks[member.name].shape[0])
            for group in self.groups
            for member in group.members
            if member.bias is not None
        }

    def shares(self, count: int) -> list[tuple[list[Group], int]]:
        """Groups that are alike, and how many units they keep together of `count` weights."""
        alike: dict[tuple[str, int], list[Group]] = {}
        for group in self.groups:
            alike.setdefault((group.kind, group.size), []).append(group)
        total = sum(group.units * group.size for group in self.groups)
        return [
            (groups, count * sum(group.units for group in groups) // total)
            for groups in alike.values()
        ]

    def reachable(self, shapes: Shapes, count: int) -> int:
        """The weights that stay of `count`: of each kind as many whole units as its part holds."""
        self.check(shapes)
        return sum(number * groups[0].size for groups, number in self.shares(count))


def size_of(shapes: Shapes, members: Iterable[Member], units: int) -> int:
    """Weights in one of the `units`.

    Raises: ValueError when the rows or columns of a member are not so many equal stretches.
    """
    total = 0
    for member in members:
        shape = shapes[member.name]
        along = shape[1] if member.columns else shape[0]
        if along % (member.parts * units):
            raise ValueError(
                f"{member.name} has shape {'x'.join(map(str, shape))}: no {units} units"
            )
        total += math.prod(shape) // units
    return total


def form_of(pattern: str | Structure) -> Pattern | Structure:
    """What a pattern's name stands for; a structure stands for itself.

    Raises: ValueError on an unknown name, or that of a pattern whose units follow from a model.
    """
    if isinstance(pattern, Structure):
        return pattern
    if pattern not in PATTERNS:
        raise ValueError(f"pattern={pattern!r}: allowed are {', '.join(PATTERNS)}")
    if PATTERNS[pattern].coupled:
        raise ValueError(f"pattern={pattern}: its units follow from a model, see structure_of")
    return PATTERNS[pattern]
