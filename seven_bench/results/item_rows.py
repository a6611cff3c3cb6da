"""What pruning did to single examples, method by method: a table of the runs that keep predictions.

Every run is paired with the dense run of its seed and recipe, example by example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from seven_bench.results.groups import DRAW, REPLICATE, Group
from seven_bench.results.items import (
    ClassLoss,
    Difference,
    Floats,
    bootstrap_splits,
    count_flips,
    expected_calibration_error,
    lost_by_class,
    mean_brier,
)
from seven_bench.results.tables import MISSING, escape_markdown, format_sparsity
from seven_bench.store.files import PREDICTIONS
from seven_bench.store.predictions import Predictions, read_predictions

_Seeds = tuple[int, int, int | None]


@dataclass(frozen=True)
class ItemRow:
    """One method at one sparsity beside dense, over the splits and seeds that both have.

    `difference` is of the share of right answers (of F1 for spans measured so). `lost` and `won`
    are means over seeds, `p` is McNemar's of each seed. `agreement`, `calibration` (ECE) and
    `brier` are means over seeds, None where the task has no classes. `classes`: what became of the
    examples of each over all seeds, the class that fell furthest first.
    """

    method: str
    sparsity: float
    difference: Difference
    lost: float
    won: float
    p: tuple[float, ...]
    agreement: float | None = None
    calibration: float | None = None
    brier: float | None = None
    classes: tuple[ClassLoss, ...] = ()

    @property
    def worst(self) -> tuple[int, float] | None:
        """The class that fell furthest, and by how much of its examples."""
        return (self.classes[0].label, self.classes[0].drop) if self.classes else None


@dataclass(frozen=True)
class ItemTable:
    """The rows of one group, the one at `place` among those asked for.

    `skipped` counts runs whose predictions pair with no dense run's. `calibration` (ECE) and
    `brier` are the dense runs' own, None where the task has no classes.
    """

    title: str
    rows: tuple[ItemRow, ...]
    skipped: int
    place: int = 0
    calibration: float | None = None
    brier: float | None = None


def tabulate_items(groups: Sequence[Group]) -> tuple[list[ItemTable], list[tuple[Path, str]]]:
    """Tables of the groups that have predictions, and files that could not be used, with why."""
    tables: list[ItemTable] = []
    damaged: list[tuple[Path, str]] = []
    for place, group in enumerate(groups):
        if not group.alike:
            continue
        dense = _read(group.dense, damaged)
        rows, skipped = [], 0
        order = {method: place for place, method in enumerate([*group.controls, *group.methods])}
        cells = [*group.runs.groupby(["method", "sparsity.target"])] if dense else []
        for (method, sparsity), runs in sorted(cells, key=lambda c: (-c[0][1], order[c[0][0]])):
            found = _read(runs, damaged)
            pairs = [
                (beside, one)
                for (split, seed, _), one in found.items()
                if (beside := dense.get((split, seed, None))) and _paired(beside, one)
            ]
            skipped += len(found) - len(pairs)
            if pairs and pairs[0][0].kind != "score":
                rows.append(_compare(str(method), float(sparsity), pairs, group.metric.name))
        if rows:
            own = _calibration([*dense.values()])
            tables.append(ItemTable(group.title, tuple(rows), skipped, place, *own))
    return tables, damaged


def _read(runs: pd.DataFrame, damaged: list[tuple[Path, str]]) -> dict[_Seeds, Predictions]:
    """Predictions by split, seed and draw of calibration, of the runs that have them."""
    found: dict[_Seeds, Predictions] = {}
    columns = [*REPLICATE, DRAW, "folder"]
    for split, seed, draw, folder in runs[columns].itertuples(index=False):
        try:
            found[int(split), int(seed), None if math.isnan(draw) else int(draw)] = (
                read_predictions(Path(folder, PREDICTIONS))
            )
        except FileNotFoundError:
            continue
        except ValueError as error:
            damaged.append((Path(folder, PREDICTIONS), str(error)))
    return found


def _paired(one: Predictions, other: Predictions) -> bool:
    """Whether two runs were scored on the same examples in the same order."""
    if (one.kind, one.items, len(one)) != (other.kind, other.items, len(other)):
        return False
    same = one.columns["label"] == other.columns["label"] if "label" in one.columns else True
    return bool(np.all(same))


def _compare(
    method: str, sparsity: float, pairs: Sequence[tuple[Predictions, Predictions]], metric: str
) -> ItemRow:
    def score(one: Predictions) -> Floats:
        spans = one.kind == "span" and "f1" in metric
        return one.f1 if spans else one.right.astype(np.float64)

    difference = bootstrap_splits([*_stack(pairs, score).values()])
    flips = [count_flips(np.ones(len(own), bool), dense.right, own.right) for dense, own in pairs]
    lost, won = (float(np.mean([getattr(f, name) for f in flips])) for name in ("lost", "won"))
    row = ItemRow(method, sparsity, difference, lost, won, tuple(f.p for f in flips))
    if pairs[0][0].kind != "class":
        return row
    stacked = [
        np.concatenate([np.asarray(one.columns[name]) for one in side])
        for name, side in (
            ("label", [own for _, own in pairs]),
            ("predicted", [dense for dense, _ in pairs]),
            ("predicted", [own for _, own in pairs]),
        )
    ]
    calibration, brier = _calibration([own for _, own in pairs])
    return ItemRow(
        *(method, sparsity, difference, lost, won, row.p),
        agreement=float((stacked[1] == stacked[2]).mean()),
        calibration=calibration,
        brier=brier,
        classes=tuple(lost_by_class(*stacked)),
    )


def _stack(
    pairs: Sequence[tuple[Predictions, Predictions]], score: Callable[[Predictions], Floats]
) -> dict[str, tuple[Floats, Floats]]:
    """What runs and their dense runs scored, shape (seeds, items), by the items. Runs beside one
    dense run, which differ in their calibration alone, are a mean.
    """
    beside: dict[int, tuple[Predictions, list[Floats]]] = {}
    for dense, own in pairs:
        beside.setdefault(id(dense), (dense, []))[1].append(score(own))
    rows: dict[str, list[tuple[Floats, Floats]]] = {}
    for dense, scores in beside.values():
        rows.setdefault(dense.items, []).append((np.mean(scores, axis=0), score(dense)))
    return {
        items: (np.stack([own for own, _ in both]), np.stack([dense for _, dense in both]))
        for items, both in rows.items()
    }


def _calibration(runs: Sequence[Predictions]) -> tuple[float | None, float | None]:
    """The expected calibration error and Brier's score, means over runs of a classification."""
    if runs[0].kind != "class":
        return None, None
    errors = [expected_calibration_error(one.confidence, one.right) for one in runs]
    return float(np.mean(errors)), float(np.mean([mean_brier(one.brier) for one in runs]))


_HEADS = (
    *("method", "sparsity", "seeds", "minus dense", "95 % interval", "lost", "won", "p, McNemar"),
    *("agreement", "ECE", "Brier", "worst class"),
)


def items_to_markdown(tables: Sequence[ItemTable]) -> str:
    """All tables as GitHub Markdown, shares in percent."""
    parts = [
        "# What pruning did to single examples\n\nEvery run beside the dense run of its seed, "
        "example by example. Interval: seeds and examples both drawn; with one seed, examples "
        "alone. Lost: right in the dense run and not in this one; won: the reverse; means over "
        "seeds. McNemar's exact p of each seed, not corrected for their number. Worst class: by "
        "how many points its accuracy fell."
    ]
    for table in tables:
        lines = [f"## {escape_markdown(table.title)}", ""]
        lines.append(f"| {' | '.join(_HEADS)} |")
        lines.append(f"| --- |{' ---: |' * (len(_HEADS) - 1)}")
        lines += [f"| {' | '.join(map(escape_markdown, _tell(row)))} |" for row in table.rows]
        if table.skipped:
            told = f"{table.skipped} run{'s' * (table.skipped > 1)}"
            lines += ["", f"{told} left out: no dense run was scored on the same examples."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _tell(row: ItemRow) -> list[str]:
    gap = row.difference

    def percent(value: float | None) -> str:
        return MISSING if value is None else f"{100 * value:.1f}"

    return [
        row.method,
        format_sparsity(row.sparsity),
        str(gap.seeds) if gap.splits == 1 else f"{gap.seeds} in {gap.splits} folds",
        f"{100 * gap.mean:+.2f}",
        f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}",
        f"{row.lost:.1f}",
        f"{row.won:.1f}",
        ", ".join(f"{p:.2g}" for p in row.p),
        percent(row.agreement),
        percent(row.calibration),
        MISSING if row.brier is None else f"{row.brier:.3f}",
        MISSING if row.worst is None else f"{row.worst[0]}: {-100 * row.worst[1]:+.1f}",
    ]
