"""Where runs differ from: how much is the split, the seed, and the draw of calibration.

Runs are nested: draws in a seed, seeds in a split. What a seed changes in one split and not in
another is counted as the seed's. Where a draw follows its seed it is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from seven_bench.results.groups import DRAW, REPLICATE, Group
from seven_bench.results.tables import MISSING, escape_markdown, format_sparsity, is_percentage

KINDS = {"seeds.split": "split", "seed": "seed", DRAW: "calibration draw"}


@dataclass(frozen=True)
class Component:
    """The variance of one source, by moments: unbiased, so it may come out below 0. `freedom`:
    degrees of freedom of the differences that it was seen in.
    """

    source: str
    variance: float
    freedom: int

    @property
    def deviation(self) -> float:
        """The standard deviation of it alone; 0 where the variance came out below."""
        return math.sqrt(max(self.variance, 0.0))


def estimate_components(values: ArrayLike, levels: Sequence[ArrayLike]) -> list[float]:
    """Variances of nested sources, the outermost first: those of an analysis of variance, by
    equating mean squares with what they are expected to be (Henderson 1953, his method 1; Searle,
    Casella & McCulloch 1992, section 5.2). Groups may differ in size.

    Args:
        values: shape (n,).
        levels: for each source, which group each value is in, shape (n,); the last tells all values
            apart within the others.

    NaN for a source without degrees of freedom, and for those around it.
    Raises: ValueError where the last level does not tell all values apart.
    """
    y = np.asarray(values, np.float64)
    groups = [np.zeros(len(y), int)]  # of each value, at each level; all are one at first
    for level in levels:
        pairs = np.stack([groups[-1], np.unique(np.asarray(level), return_inverse=True)[1]])
        groups.append(np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1))
    if len(np.unique(groups[-1])) != len(y):
        raise ValueError("some values are in one group at every level")
    sizes = [np.bincount(group)[group].astype(float) for group in groups]  # of each value's group
    means = [(np.bincount(group, y) / np.bincount(group))[group] for group in groups]
    found = [math.nan] * len(levels)
    for at in range(len(levels), 0, -1):
        freedom = len(np.unique(groups[at])) - len(np.unique(groups[at - 1]))
        rest = float(((means[at] - means[at - 1]) ** 2).sum())
        if not freedom:
            continue
        # of a group h of n values: n^2 (1 / size of its group here - 1 / size of the one around it)
        share = [
            float((sizes[inner] * (1 / sizes[at] - 1 / sizes[at - 1])).sum())
            for inner in range(at, len(levels) + 1)
        ]
        rest -= sum(s * found[at + i] for i, s in enumerate(share[1:]))
        found[at - 1] = rest / share[0]
    return found


@dataclass(frozen=True)
class VarianceRow:
    """One method at one sparsity. `sparsity` is None for dense runs."""

    method: str
    sparsity: float | None
    runs: int
    mean: float
    components: tuple[Component, ...]


@dataclass(frozen=True)
class VarianceTable:
    """The rows of one group; `sources` are those that were varied in some of them."""

    title: str
    metric: str
    sources: tuple[str, ...]
    rows: tuple[VarianceRow, ...]


def tabulate_variance(groups: Sequence[Group]) -> list[VarianceTable]:
    """Tables of the groups in which something else than the seed was varied."""
    tables = []
    for group in groups:
        cells: list[tuple[str, float | None, pd.DataFrame]] = [
            (str(method), None, runs) for method, runs in group.dense.groupby("method")
        ]
        order = {method: place for place, method in enumerate([*group.controls, *group.methods])}
        pruned = [*group.runs.groupby(["method", "sparsity.target"])]
        for (method, sparsity), runs in sorted(pruned, key=lambda c: (c[0][1], order[c[0][0]])):
            cells.append((str(method), float(sparsity), runs))
        rows = [row for cell in cells if (row := _row(*cell)) is not None]
        sources = {component.source for row in rows for component in row.components}
        if group.alike and sources - {"seed"}:
            told = tuple(source for source in KINDS.values() if source in sources)
            tables.append(VarianceTable(group.title, group.metric.name, told, tuple(rows)))
    return tables


def _row(method: str, sparsity: float | None, runs: pd.DataFrame) -> VarianceRow | None:
    runs = runs.dropna(subset="metric.value").drop_duplicates([*REPLICATE, DRAW])
    kinds = [
        kind
        for place, kind in enumerate(KINDS)
        if len(runs) and _differs(runs, [*KINDS][:place], kind)
    ]
    if not kinds:
        return None
    values = runs["metric.value"].to_numpy(float)
    levels = [runs[kind].fillna(-1).to_numpy() for kind in kinds]
    variances = estimate_components(values, levels)
    counts = [1, *(len(runs.groupby(kinds[: i + 1], dropna=False)) for i in range(len(kinds)))]
    components = tuple(
        Component(KINDS[kind], variance, counts[i + 1] - counts[i])
        for i, (kind, variance) in enumerate(zip(kinds, variances, strict=True))
    )
    return VarianceRow(method, sparsity, len(runs), float(values.mean()), components)


def _differs(runs: pd.DataFrame, within: list[str], kind: str) -> bool:
    """Whether a kind takes several values where those around it are the same."""
    if not within:
        return bool(runs[kind].nunique() > 1)
    return bool((runs.groupby(within)[kind].nunique() > 1).any())


def variance_to_markdown(tables: Sequence[VarianceTable]) -> str:
    """All tables as GitHub Markdown."""
    parts = [f"# Where runs differ from\n\n{ABOUT}"]
    for table in tables:
        heads = ["method", "sparsity", "runs", *table.sources]
        lines = [f"## {escape_markdown(table.title)}", "", f"| {' | '.join(heads)} |"]
        lines.append(f"| --- |{' ---: |' * (len(heads) - 1)}")
        lines += [f"| {' | '.join(map(escape_markdown, tell(row, table)))} |" for row in table.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


ABOUT = (
    "Standard deviations that each source alone leaves, in the unit of the metric (of shares: in "
    "points), with their degrees of freedom: by moments, a split's seeds within it and a seed's "
    "draws within that. Few degrees of freedom say little: with 4, the true deviation may be from "
    "0.6 to 2.9 times as much. 0: less than the sources within it explain."
)


def tell(row: VarianceRow, table: VarianceTable) -> list[str]:
    """A row as text, its sources in the order of the table's."""
    known = {component.source: component for component in row.components}
    scale, digits = (100, 2) if is_percentage(table.metric) else (1, 4)
    cells = []
    for source in table.sources:
        found = known.get(source)
        if found is None or math.isnan(found.variance):
            cells.append(MISSING)
        else:
            cells.append(f"{scale * found.deviation:.{digits}f} ({found.freedom})")
    sparsity = MISSING if row.sparsity is None else format_sparsity(row.sparsity)
    return [row.method, sparsity, str(row.runs), *cells]
