"""How much the masks of two methods agree: Jaccard overlap of the kept weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from seven_bench.results.groups import REPLICATE, Group
from seven_bench.results.statistics import summarise
from seven_bench.store.files import MASKS
from seven_bench.store.masks import PackedMasks, read_masks


def measure_jaccard(first: PackedMasks, second: PackedMasks) -> float:
    """Kept by both over kept by either, of all prunable weights; 1 where neither keeps any.

    Two independent random masks of density d have d / (2 - d). Raises ValueError when the masks
    are not of the same parameters.
    """
    if first.shapes != second.shapes:
        raise ValueError("the masks belong to different sets of parameters")
    both = either = 0
    for name, bits in first.bits.items():
        both += int(np.bitwise_count(bits & second.bits[name]).sum(dtype=np.int64))
        either += int(np.bitwise_count(bits | second.bits[name]).sum(dtype=np.int64))
    return both / either if either else 1.0


@dataclass
class Overlaps:
    """Overlaps of a group: `values[sparsity][(a, b)]`, a list over seeds, a before b by name.

    `skipped` counts mask files that the budget left unread, `damaged` names unusable ones.
    """

    values: dict[float, dict[tuple[str, str], list[float]]] = field(default_factory=dict)
    skipped: int = 0
    damaged: list[tuple[Path, str]] = field(default_factory=list)


def measure_overlaps(groups: Sequence[Group], budget: int) -> list[Overlaps]:
    """Overlap between methods of the same seed and sparsity, group by group.

    At most `budget` bytes of masks are read, a set (one group, sparsity and seed) at a time: the
    highest sparsity first, and one seed of everything before a second of anything.
    """
    results = [Overlaps() for _ in groups]
    for (_, _, index), runs in sorted(_list_sets(groups), key=lambda item: item[0]):
        overlaps = results[index]
        paths = {
            str(method): path
            for method, folder in zip(runs["method"], runs["folder"], strict=True)
            if (path := Path(folder, MASKS)).is_file()
        }
        if len(paths) < 2:
            continue
        budget -= sum(path.stat().st_size for path in paths.values())
        if budget < 0:
            overlaps.skipped += len(paths)
            continue
        masks = {}
        for method, path in sorted(paths.items()):
            try:
                masks[method] = read_masks(path)
            except (OSError, ValueError) as error:
                overlaps.damaged.append((path, str(error).removeprefix(f"{path}: ")))
        level = overlaps.values.setdefault(float(runs["sparsity.target"].iloc[0]), {})
        for first, second in itertools.combinations(masks, 2):
            if masks[first].shapes == masks[second].shapes:
                value = measure_jaccard(masks[first], masks[second])
                level.setdefault((first, second), []).append(value)
    return results


def tabulate_overlaps(groups: Sequence[Group], overlaps: Sequence[Overlaps]) -> pd.DataFrame:
    """The mean overlap of every two methods at every sparsity, and the 95 % t-interval over the
    pairs of runs it is of; no interval of one pair.
    """
    rows = [
        {
            **{name: getattr(group, name) for name in ("task", "model", "start", "setting")},
            "sparsity": level,
            "first": first,
            "second": second,
            "pairs": summary.n,
            "jaccard": summary.mean,
            "low": summary.low,
            "high": summary.high,
        }
        for group, found in zip(groups, overlaps, strict=True)
        for level, pairs in found.values.items()
        for (first, second), values in pairs.items()
        for summary in (summarise(values),)
    ]
    return pd.DataFrame(rows)


def _list_sets(groups: Sequence[Group]) -> list[tuple[tuple[int, int, int], pd.DataFrame]]:
    """Runs that share group, sparsity and seed, under their ranks (seed, sparsity, group)."""
    sets = []
    for index, group in enumerate(groups):
        levels = group.sparsities[::-1]
        pruned = group.runs[group.runs["method"].isin(group.methods)]
        for sparsity, seeds in pruned.groupby("sparsity.target"):
            for rank, (_, runs) in enumerate(seeds.groupby(REPLICATE)):
                unique = runs.drop_duplicates("method")
                sets.append(((rank, levels.index(sparsity), index), unique))
    return sets
