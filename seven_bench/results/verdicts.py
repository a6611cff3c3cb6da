"""Our runs held against published numbers: a verdict a row.

A verdict knows chance: whoever repeats a published experiment to the letter is told "not matched"
with a chance of at most `CHANCE`, whatever the number of seeds; see `tolerate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from seven_bench.results.cells import Cell
from seven_bench.results.differences import Difference, fits, list_differences
from seven_bench.results.groups import DENSE
from seven_bench.results.published import Paper, Row
from seven_bench.results.statistics import Summary, summarise
from seven_bench.results.tables import format_value, is_percentage

MATCHED = "matched"
NOT_MATCHED = "not matched"
NOT_OURS = "not matched by our reconstruction"
NOT_COMPARABLE = "not comparable"
NO_RUNS = "no runs"
FEW_SEEDS = "too few seeds to tell"

#: The chance at most that a perfect reproduction is called "not matched".
CHANCE = 0.05
#: A tolerance beyond five points would call a miss of five points matched: nothing is told then.
WIDEST = 0.05
#: Standard deviations over seeds of BERT-base, where a source prints none: the larger of those over
#: 5 runs that SMP's authors (GLUE dev) and Chen et al. 2020, arXiv 2007.12223, table 2 (dense and
#: pruned), publish.
KNOWN_SPREADS = {
    "glue/cola": 0.009,
    "glue/mnli": 0.005,
    "glue/mrpc": 0.0121,
    "glue/qnli": 0.010,
    "glue/qqp": 0.005,
    "glue/rte": 0.036,
    "glue/sst2": 0.005,
    "glue/stsb": 0.003,
    "glue/wnli": 0.012,
    "squad": 0.006,
}


@dataclass(frozen=True)
class Checked:
    """A published row beside ours: `gap` is ours minus published, NaN without runs.

    `tolerance` is what the gap may be, NaN where one seed says nothing of it. `others` counts
    further cells of ours that could have stood here; the one whose setting is nearest was taken,
    without a look at its value.
    """

    row: Row
    verdict: str
    ours: Summary
    gap: float
    tolerance: float = math.nan
    differences: tuple[Difference, ...] = ()
    others: int = 0


_NONE = summarise([])
_Gate = Callable[[Row, Cell], Checked | None]


def tolerate(row: Row, ours: Summary) -> float:
    """How far our mean may be from a published value; NaN for less than two seeds.

    Where a reproduction is perfect, both are means of draws from one distribution, which is taken
    for normal. The tolerance is Student's: the quantile times the standard error of the gap, which
    is built of both spreads and numbers of seeds, plus what may be wrong with the printed number
    (rounding, the reading of a figure). Its cases:

    * Their standard deviation is printed: both are pooled, and the chance of a miss is 5 %. Where
      their number of seeds is not, the error is that of one and the freedom that of two.
    * It is not: for theirs stands the known spread of the task or ours, whichever is larger, with
      the freedom of ours. So the chance is at most 5 % whatever the true spread is, at the price
      of width: 5 standard deviations for 3 seeds of ours and one of theirs, 3.0 for 5, 2.4 for 10.
    * The value is the middle of a range of published ones: half of it, and our own error.
    """
    if ours.n < 2:
        return math.nan
    if row.tolerance is not None:
        return row.tolerance + quantile(ours.n - 1) * ours.std / math.sqrt(ours.n)
    theirs = row.seeds or 1
    if row.std is not None:
        freedom = max(1, (row.seeds or 2) - 1)
        squares = freedom * row.std**2 + (ours.n - 1) * ours.std**2
        freedom += ours.n - 1
        error = math.sqrt(squares / freedom * (1 / ours.n + 1 / theirs))
    else:
        known = KNOWN_SPREADS.get(row.task, 0.0) if is_percentage(row.metric) else 0.0
        freedom, spread = ours.n - 1, max(known, ours.std)
        error = math.sqrt(spread**2 / theirs + ours.std**2 / ours.n)
    return quantile(freedom) * error + row.error


@cache
def quantile(freedom: int) -> float:
    """What Student's t of so many degrees of freedom passes with a chance of 5 %, either side."""
    from scipy import stats

    return float(stats.t.ppf(1 - CHANCE / 2, freedom))


def check_rows(paper: Paper, cells: Sequence[Cell], gate: Paper | None = None) -> list[Checked]:
    """Hold every row of a paper against the cell whose setting is nearest to it.

    `gate` holds dense baselines: where ours of a cell's own recipe miss them, no pruned row of that
    task and model is comparable. A paper that prints its own with a spread is held against that.
    """
    find_gate = _read_gate(gate, paper, cells) if gate is not None else None
    return [_check(row, cells, paper.reconstructed, find_gate) for row in paper.rows]


def _read_gate(gate: Paper, paper: Paper, cells: Sequence[Cell]) -> _Gate:
    """Finds the dense baseline of a row: among ours that were trained as the cell of the row."""
    own = [row for row in paper.rows if row.method == DENSE and row.std is not None]
    rows = [*gate.rows, *own]  # the paper's own come last, and take the places
    found: dict[str, dict[tuple[str, str], Checked]] = {}

    def find(row: Row, cell: Cell) -> Checked | None:
        recipe = cell.recipe_id
        if recipe not in found:
            alike = [other for other in cells if recipe and other.recipe_id == recipe]
            checked = (_check(dense, alike, frozenset(), None) for dense in rows)
            found[recipe] = {(item.row.task, item.row.model): item for item in checked}
        return found[recipe].get((row.task, row.model))

    return find


def _check(
    row: Row, cells: Sequence[Cell], reconstructed: frozenset[str], find_gate: _Gate | None
) -> Checked:
    fitting = [cell for cell in cells if fits(row, cell) and len(cell.measured(row.metric))]
    if not fitting:
        return Checked(row, NO_RUNS, _NONE, math.nan)
    nearest = min(
        ((list_differences(row, cell), cell) for cell in fitting),
        key=lambda pair: (
            sum(difference.matters for difference in pair[0]),
            len(pair[0]),
            -len(pair[1].runs),
            pair[1].cell_id,
        ),
    )
    differences, cell = nearest
    if row.method != DENSE and find_gate is not None:
        differences = _add_baseline(differences, find_gate(row, cell))
    ours = summarise(cell.measured(row.metric))
    gap, tolerance = ours.mean - row.value, tolerate(row, ours)
    verdict = judge(row, ours, tolerance, differences, row.method in reconstructed)
    return Checked(row, verdict, ours, gap, tolerance, tuple(differences), len(fitting) - 1)


def _add_baseline(differences: list[Difference], dense: Checked | None) -> list[Difference]:
    if dense is None:
        return differences
    if dense.verdict == NOT_MATCHED:
        middle, reach, metric = dense.row.value, dense.tolerance, dense.row.metric
        ours, low, high = (
            format_value(value, metric)
            for value in (dense.ours.mean, middle - reach, middle + reach)
        )
        words = f"our dense baseline has {metric} {ours}, published ones allow {low} to {high}"
        return [Difference(words, True), *differences]
    if dense.verdict != MATCHED:
        why = {
            NO_RUNS: "of this recipe is not there",
            NOT_COMPARABLE: "is not comparable either",
            FEW_SEEDS: "has too few seeds",
        }.get(dense.verdict, "has one seed")
        return [*differences, Difference(f"our dense baseline {why}: it cannot be checked")]
    return differences


def judge(
    row: Row,
    ours: Summary,
    tolerance: float,
    differences: Iterable[Difference] = (),
    reconstructed: bool = False,
) -> str:
    """The verdict on our runs of a row's setting, which `differences` parts from the row's own."""
    if any(difference.matters for difference in differences):
        return NOT_COMPARABLE
    gap = ours.mean - row.value
    if ours.n < 2:
        return f"one seed: {_say_gap(gap, row.metric)}"
    # Rounding in the last digit must not decide.
    if {"<": gap, ">": -gap}.get(row.bound, abs(gap)) > tolerance + 1e-9:
        return NOT_OURS if reconstructed else NOT_MATCHED
    return FEW_SEEDS if is_percentage(row.metric) and tolerance > WIDEST else MATCHED


def _say_gap(gap: float, metric: str) -> str:
    return f"{100 * gap:+.1f} points" if is_percentage(metric) else f"{gap:+.3g}"
