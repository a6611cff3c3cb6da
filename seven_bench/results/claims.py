"""Published claims of order, and how far our seeds carry each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from seven_bench.results.cells import Cell
from seven_bench.results.differences import Difference, fits, list_differences
from seven_bench.results.published import Claim, Paper
from seven_bench.results.recipes import tell_differences, tell_value
from seven_bench.results.statistics import Pairing, compare
from seven_bench.results.verdicts import NO_RUNS

NOT_ALIKE = "not tested: no runs that were trained alike"


@dataclass(frozen=True)
class CheckedClaim:
    """An ordering claim and how far our seeds carry it.

    `gain`, `low`, `high`: mean of above minus below, better being positive, and its paired 95 %
    t-interval, in the metric's unit. `words` says what the test allows to be said, over all
    claims that have runs as one family.
    """

    claim: Claim
    words: str
    pairs: int = 0
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    differences: tuple[Difference, ...] = ()


_CONCLUSIONS = {
    "better than the reference": "holds",
    "worse than the reference": "contradicted",
    "no difference shown": "neither shown nor contradicted",
}


def check_claims(paper: Paper, cells: Sequence[Cell]) -> list[CheckedClaim]:
    """Test every claim that has runs of both methods, paired by seed, as one family.

    What is tested is the gain less the margin that is claimed, among runs of one recipe of ours.
    Runs of another setting than the paper's can still show an order: what differs is listed, for
    both sides. Where the runs of both sides were trained differently, nothing is tested.
    """
    found = [_pair(claim, cells) for claim in paper.claims]
    tested = [pair for pair in found if isinstance(pair, _Pair)]
    results = iter(
        compare(
            [
                Pairing(pair.label, pair.sparsity, tuple((pair.gains - pair.by).tolist()))
                for pair in tested
            ]
        )
    )
    checked = []
    for claim, pair in zip(paper.claims, found, strict=True):
        if isinstance(pair, CheckedClaim):
            checked.append(pair)
            continue
        result = next(results)
        checked.append(
            CheckedClaim(
                claim,
                _CONCLUSIONS.get(result.words, result.words),
                result.pairs,
                result.difference + claim.by,
                result.low + claim.by,
                result.high + claim.by,
                result.p,
                pair.differences,
            )
        )
    return checked


@dataclass(frozen=True)
class _Pair:
    label: str
    sparsity: float
    by: float
    gains: pd.Series
    differences: tuple[Difference, ...]


def _pair(claim: Claim, cells: Sequence[Cell]) -> _Pair | CheckedClaim:
    """Gains by shared seed within the setting of ours that is nearest to the claim's; or why there
    are none."""
    metric = claim.above.metric
    sides = [
        [
            (list_differences(row, cell), cell)
            for cell in cells
            if fits(row, cell) and len(cell.measured(metric))
        ]
        for row in (claim.above, claim.below)
    ]
    candidates, unlike = [], []
    for above, below in product(*sides):
        order = (
            sum(difference.matters for side in (above, below) for difference in side[0]),
            *(cell.cell_id for _, cell in (above, below)),
        )
        if not _alike(above[1], below[1]):
            unlike.append((order, above, below))
            continue
        gains = above[1].measured(metric) - below[1].measured(metric)
        gains = (gains if claim.above.higher_is_better else -gains).dropna()
        if len(gains):
            candidates.append(((order[0], -len(gains), *order[1:]), gains, above, below))
    if candidates:
        _, gains, above, below = min(candidates, key=lambda candidate: candidate[0])
        label = f"{claim.above.method} > {claim.below.method}"
        differences = _list_both(claim, above, below)
        return _Pair(label, claim.above.sparsity or 0.0, claim.by, gains, differences)
    if unlike:
        _, above, below = min(unlike, key=lambda candidate: candidate[0])
        told = (*_list_unlike(claim, above[1], below[1]), *_list_both(claim, above, below))
        return CheckedClaim(claim, NOT_ALIKE, differences=told)
    return CheckedClaim(claim, NO_RUNS)


_Side = tuple[list[Difference], Cell]
#: What two cells share, beside their recipe, so that their methods can be compared.
_SHARED = {
    "model": "model",
    "start": "start",
    "finetune": "fine-tuning",
    "pattern": "pattern",
    "metric.split": "split",
    "metric.epoch": "epoch measured",
    "metrics.test_examples": "examples scored",
}


def _alike(above: Cell, below: Cell) -> bool:
    shared = all(above.get(column) == below.get(column) for column in _SHARED)
    return shared and above.recipe_id == below.recipe_id != ""


def _list_both(claim: Claim, above: _Side, below: _Side) -> tuple[Difference, ...]:
    """What differs from the claim's setting: on both sides in the same way, or on the one named."""
    shared = [difference for difference in above[0] if difference in below[0]]
    own = [
        replace(difference, words=f"{row.method}: {difference.words}")
        for row, (differences, _) in ((claim.above, above), (claim.below, below))
        for difference in differences
        if difference not in shared
    ]
    return tuple(sorted([*own, *shared], key=lambda difference: not difference.matters))


def _list_unlike(claim: Claim, above: Cell, below: Cell) -> list[Difference]:
    """What parts our runs of the two sides."""
    names = f"{claim.above.method} against {claim.below.method}"
    told = [
        f"{words} {tell_value(above.get(column))} against {tell_value(below.get(column))}"
        for column, words in _SHARED.items()
        if above.get(column) != below.get(column)
    ]
    if not above.recipe_id or not below.recipe_id:
        told.append("a recipe that is not recorded")
    else:
        told += tell_differences(above.recipe, below.recipe)
    return [Difference(f"{names}: {', '.join(told)}", True)]
