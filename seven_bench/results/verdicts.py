"""Our runs held against published numbers: a verdict a row, and the strength of each claim.

A verdict knows chance: whoever repeats a published experiment to the letter is told "not matched"
with a chance of at most `CHANCE`, whatever the number of seeds; see `tolerate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from seven_bench.results.groups import DENSE, DRAW, REPLICATE
from seven_bench.results.published import Claim, Paper, Row
from seven_bench.results.recipes import PREFIX, recipe_columns, tell_differences, tell_value
from seven_bench.results.statistics import Pairing, Summary, compare, summarise
from seven_bench.results.tables import format_value, is_percentage
from seven_bench.store.files import CONFIG
from seven_bench.store.finished import read_config

MATCHED = "matched"
NOT_MATCHED = "not matched"
NOT_OURS = "not matched by our reconstruction"
NOT_COMPARABLE = "not comparable"
NO_RUNS = "no runs"
FEW_SEEDS = "too few seeds to tell"
NOT_ALIKE = "not tested: no runs that were trained alike"

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

#: Reached and published sparsity that differ by more are two settings.
SAME_SPARSITY = 0.005
#: A budget of epochs beyond this factor of the published one, either way, is another experiment.
SAME_BUDGET = 2.0
#: A tenth of the training set at most is held out for validation; less than this is a subset.
WHOLE = 0.89
#: Training and scored examples of the official data sets. GLUE: Wang et al. 2018, arXiv 1804.07461,
#: the dev sets (MNLI matched); SQuAD 1.1: arXiv 1606.05250, dev; ImageNet-1k: arXiv 1409.0575.
OFFICIAL = {
    "glue/cola": (8_551, 1_043),
    "glue/mnli": (392_702, 9_815),
    "glue/mrpc": (3_668, 408),
    "glue/qnli": (104_743, 5_463),
    "glue/qqp": (363_846, 40_430),
    "glue/rte": (2_490, 277),
    "glue/sst2": (67_349, 872),
    "glue/stsb": (5_749, 1_500),
    "imagenet": (1_281_167, 50_000),
    "squad": (87_599, 10_570),
}
#: Fields of a row that a reader would want, and how to call one that is not stated.
_WANTED = {
    "epochs": "epochs",
    "lr": "learning rate",
    "batch_size": "batch size",
    "kd": "distillation",
}


@dataclass(frozen=True)
class Difference:
    """What differs in the setting, in words. One that `matters` forbids a verdict on the value."""

    words: str
    matters: bool = False


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone, and the config of one of them (empty: unreadable)."""

    cell_id: str
    runs: pd.DataFrame
    config: Mapping[str, Any]

    def get(self, column: str) -> Any:
        """The first run's entry of a column; None where there is none."""
        value = self.runs[column].iloc[0] if column in self.runs else None
        return None if value is None or (isinstance(value, float) and math.isnan(value)) else value

    @property
    def recipe_id(self) -> str:
        """Which runs were trained alike; empty where the records do not say."""
        return self.get("recipe_id") or ""

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the runs; empty where they do not say."""
        if not self.recipe_id:
            return {}
        columns = recipe_columns(self.runs)
        return {name.removeprefix(PREFIX): self.get(name) for name in columns}

    def setting(self, key: str) -> Any:
        """A value of the recipe, or else of the config, by its dotted key; None where neither has
        it."""
        if (told := self.get(PREFIX + key)) is not None:
            return told
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def measured(self, metric: str) -> pd.Series:
        """The metric by split and seed, a mean over draws of calibration, finite values alone."""
        column = "metric.value" if self.get("metric.name") == metric else f"metrics.{metric}"
        if column not in self.runs:
            return pd.Series(dtype=float)
        once = self.runs.drop_duplicates([*REPLICATE, DRAW])
        values = pd.to_numeric(once.set_index(REPLICATE)[column], errors="coerce").dropna()
        return values.groupby(level=REPLICATE).mean()

    def sparsity(self, denominator: str | None) -> float | None:
        """The fraction that was removed of a denominator; of the target's where none is stated."""
        return _mean(self.runs[f"sparsity.{denominator or 'target'}"])

    @cached_property
    def train_examples(self) -> int | None:
        """Training examples of an epoch, as recorded or else from the bill; None where unknown.

        The bill of a method that trains more than once does not tell.
        """
        recorded = self.get("metrics.train_examples")
        if recorded is not None:
            return int(recorded)
        billed = self.get("cost.example_equivalents.training")
        epochs = self.setting("trainer.max_epochs")
        once = self.get("timing") in (None, "none", "before", "during")
        if not billed or not epochs or not once or self.setting("trainer.max_steps") is not None:
            return None
        passes = 4 if self.setting("finetune.distill") else 3  # a teacher looks at each example too
        return round(float(billed) / passes / float(epochs))

    @property
    def distilled(self) -> bool | None:
        """Whether training had a teacher; None where the config is not there to say."""
        return bool(self.setting("finetune.distill")) if self.config else None


def _mean(values: pd.Series) -> float | None:
    mean = float(pd.to_numeric(values, errors="coerce").mean())
    return mean if math.isfinite(mean) else None


def split_cells(records: pd.DataFrame) -> list[Cell]:
    """The cells of collected records."""
    if records.empty:
        return []
    cells = []
    for cell_id, runs in records.groupby("cell_id", sort=True):
        cells.append(Cell(str(cell_id), runs.sort_values(REPLICATE), _read_config(runs["folder"])))
    return cells


def _read_config(folders: Iterable[str]) -> Mapping[str, Any]:
    for folder in folders:
        with suppress(OSError, ValueError):
            return read_config(Path(folder, CONFIG))
    return {}


# ---- Settings


def list_differences(row: Row, cell: Cell) -> list[Difference]:
    """What differs between a published setting and ours, that which matters first.

    Fields that the source does not state cannot differ; one entry names the important ones, and
    always the epoch: no source here says whether the last or the best one is printed.
    """
    found = [
        *_compare_kinds(row, cell),
        *_compare_data(row, cell),
        *_compare_training(row, cell),
        *_compare_details(row, cell),
    ]
    if row.hardware is not None:
        found.append(Difference(f"times and memory belong to their machine ({row.hardware})", True))
    unstated = [words for name, words in _WANTED.items() if getattr(row, name) is None]
    unstated.append(f"which epoch is measured (ours: {cell.get('metric.epoch') or 'not recorded'})")
    found.append(Difference(f"not stated in the source: {', '.join(unstated)}"))
    return sorted(found, key=lambda difference: not difference.matters)


def _compare_kinds(row: Row, cell: Cell) -> list[Difference]:
    pruned = row.method != DENSE
    kinds = [
        ("model", row.model, cell.get("model")),
        ("start", row.start, cell.get("start")),
        ("split", row.split, cell.get("metric.split")),
        ("fine-tuning", row.finetune, cell.get("finetune")),
        ("pattern", row.pattern if pruned else None, cell.get("pattern")),
        ("distribution", row.distribution if pruned else None, cell.get("distribution")),
        ("distillation", _say_flag(row.kd), _say_flag(cell.distilled)),
    ]
    return [
        Difference(f"{name}: ours {ours or 'not recorded'}, published {theirs}", True)
        for name, theirs, ours in kinds
        if theirs is not None and ours != theirs
    ]


def _say_flag(flag: bool | None) -> str | None:
    return None if flag is None else "yes" if flag else "no"


def _compare_data(row: Row, cell: Cell) -> list[Difference]:
    if row.task not in OFFICIAL:
        return []
    found = []
    train, scored = OFFICIAL[row.task]
    ours = cell.get("metrics.test_examples")
    if ours is None:
        found.append(Difference("how many examples were scored is not recorded", True))
    elif int(ours) != scored:
        found.append(Difference(f"scored on {int(ours):,} of {scored:,} examples", True))
    trained = cell.train_examples
    if trained is None:
        found.append(Difference("the size of the training set is not recorded", True))
    elif trained < WHOLE * train:
        found.append(Difference(f"trained on {trained:,} of {train:,} examples", True))
    return found


def _compare_training(row: Row, cell: Cell) -> list[Difference]:
    found = []
    epochs = cell.setting("trainer.max_epochs")
    if (steps := cell.setting("trainer.max_steps")) is not None:
        found.append(Difference(f"our training is cut at {steps} steps", True))
    if row.epochs is not None and epochs != row.epochs:
        words = f"epochs: ours {epochs or 'not recorded'}, published {row.epochs:g}"
        far = not epochs or not 1 / SAME_BUDGET <= row.epochs / epochs <= SAME_BUDGET
        found.append(Difference(words, far))
    rate = cell.setting("trainer.lr")
    if row.lr is not None and not (rate and math.isclose(float(rate), row.lr, rel_tol=1e-6)):
        words = f"learning rate: ours {rate or 'not recorded'}, published {row.lr:g}"
        found.append(Difference(words))
    batch = cell.setting("trainer.batch_size")
    batch = batch and batch * (cell.setting("trainer.accumulate") or 1)
    if row.batch_size is not None and batch != row.batch_size:
        words = f"batch size: ours {batch or 'not recorded'}, published {row.batch_size}"
        found.append(Difference(words))
    return found


def _compare_details(row: Row, cell: Cell) -> list[Difference]:
    found = []
    layers = cell.get("layers")
    if row.linears is not None and layers and len(layers) != row.linears:
        found.append(Difference(f"pruned layers: ours {len(layers)}, published {row.linears}"))
    if row.denominator is not None and cell.sparsity(row.denominator) is None:
        words = f"the sparsity over {row.denominator} is not recorded; the target's is taken"
        found.append(Difference(words))
    if row.seeds is not None and row.seeds != len(cell.runs):
        found.append(Difference(f"seeds: ours {len(cell.runs)}, published {row.seeds}"))
    return found


# ---- Values


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
    fitting = [cell for cell in cells if _fits(row, cell) and len(cell.measured(row.metric))]
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


def _fits(row: Row, cell: Cell) -> bool:
    """Whether a cell is of the row's task, method, control and sparsity; all else differs."""
    if cell.get("task") != row.task or cell.get("pruner") != row.method:
        return False
    if (cell.get("control") or "none") != row.control:
        return False
    if row.method == DENSE or row.sparsity is None:
        return True
    reached = cell.sparsity(row.denominator)
    if reached is None:
        reached = cell.sparsity("target")
    return reached is not None and abs(reached - row.sparsity) <= SAME_SPARSITY


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


# ---- Claims


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
            if _fits(row, cell) and len(cell.measured(metric))
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
