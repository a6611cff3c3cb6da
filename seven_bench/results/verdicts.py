"""Our runs held against published numbers: a verdict a row, and the strength of each claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from seven_bench.results.groups import DENSE
from seven_bench.results.published import Claim, Paper, Row
from seven_bench.results.statistics import Pairing, Summary, compare, summarise
from seven_bench.results.tables import format_value

MATCHED = "matched"
NOT_MATCHED = "not matched"
NOT_OURS = "not matched by our reconstruction"
NOT_COMPARABLE = "not comparable"
NO_RUNS = "no runs"

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

    def setting(self, key: str) -> Any:
        """A value of the config by its dotted key; None where it has none."""
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    def measured(self, metric: str) -> pd.Series:
        """The metric by seed, finite values alone."""
        column = "metric.value" if self.get("metric.name") == metric else f"metrics.{metric}"
        if column not in self.runs:
            return pd.Series(dtype=float)
        values = pd.to_numeric(self.runs.set_index("seed")[column], errors="coerce").dropna()
        return values[~values.index.duplicated()]

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
    """The cells of collected records, controls (shuffled, inverted, ...) left out."""
    if records.empty:
        return []
    plain = records[records["control"].isna() | records["control"].isin(["", "none"])]
    cells = []
    for cell_id, runs in plain.groupby("cell_id", sort=True):
        cells.append(Cell(str(cell_id), runs.sort_values("seed"), _read_config(runs["folder"])))
    return cells


def _read_config(folders: Iterable[str]) -> Mapping[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for folder in folders:
        try:
            text = Path(folder, "config.yaml").read_text(encoding="utf-8")
            config = yaml.load(text, Loader=loader)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(config, dict):
            return config
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

    `others` counts further cells of ours that could have stood here; the one whose setting is
    nearest was taken, without a look at its value.
    """

    row: Row
    verdict: str
    ours: Summary
    gap: float
    differences: tuple[Difference, ...] = ()
    others: int = 0


_NONE = summarise([])


def check_rows(paper: Paper, cells: Sequence[Cell], gate: Paper | None = None) -> list[Checked]:
    """Hold every row of a paper against the cell whose setting is nearest to it.

    `gate` holds dense baselines: where ours miss them, no pruned row of that task and model is
    comparable.
    """
    baselines = _check_gate(gate, cells) if gate is not None else {}
    return [_check(row, cells, paper.reconstructed, baselines) for row in paper.rows]


def _check_gate(gate: Paper, cells: Sequence[Cell]) -> dict[tuple[str, str], Checked]:
    return {(row.task, row.model): _check(row, cells, frozenset(), {}) for row in gate.rows}


def _check(
    row: Row,
    cells: Sequence[Cell],
    reconstructed: frozenset[str],
    baselines: Mapping[tuple[str, str], Checked],
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
    if row.method != DENSE:
        differences = _add_baseline(differences, baselines.get((row.task, row.model)))
    ours = summarise(cell.measured(row.metric))
    gap = ours.mean - row.value
    verdict = _judge(row, gap, differences, row.method in reconstructed)
    return Checked(row, verdict, ours, gap, tuple(differences), len(fitting) - 1)


def _fits(row: Row, cell: Cell) -> bool:
    """Whether a cell is of the row's task, method and sparsity; all else is a difference."""
    if cell.get("task") != row.task or cell.get("pruner") != row.method:
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
        middle, reach, metric = dense.row.value, dense.row.tolerance, dense.row.metric
        ours, low, high = (
            format_value(value, metric)
            for value in (dense.ours.mean, middle - reach, middle + reach)
        )
        words = f"our dense baseline has {metric} {ours}, published ones {low} to {high}"
        return [Difference(words, True), *differences]
    if dense.verdict != MATCHED:
        why = "is not comparable either" if dense.verdict == NOT_COMPARABLE else "is not there"
        return [*differences, Difference(f"our dense baseline {why}: it cannot be checked")]
    return differences


def _judge(row: Row, gap: float, differences: Iterable[Difference], reconstructed: bool) -> str:
    if any(difference.matters for difference in differences):
        return NOT_COMPARABLE
    # Rounding in the last digit must not decide.
    over = {"<": gap, ">": -gap}.get(row.bound, abs(gap))
    if over <= row.tolerance + 1e-9:
        return MATCHED
    return NOT_OURS if reconstructed else NOT_MATCHED


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

    What is tested is the gain less the margin that is claimed. Runs of another setting can still
    show an order: it is tested among runs of one setting of ours, and what differs is listed.
    """
    found = [_pair(claim, cells) for claim in paper.claims]
    tested = [pair for pair in found if pair is not None]
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
        if pair is None:
            checked.append(CheckedClaim(claim, NO_RUNS))
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


def _pair(claim: Claim, cells: Sequence[Cell]) -> _Pair | None:
    """Gains by shared seed within the setting of ours that is nearest to the claim's."""
    candidates = []
    for above in cells:
        if not _fits(claim.above, above):
            continue
        for below in cells:
            if not _fits(claim.below, below) or _family(above) != _family(below):
                continue
            gains = above.measured(claim.above.metric) - below.measured(claim.below.metric)
            gains = (gains if claim.above.higher_is_better else -gains).dropna()
            if gains.empty:
                continue
            differences = list_differences(claim.above, above)
            order = (sum(d.matters for d in differences), -len(gains), above.cell_id, below.cell_id)
            candidates.append((order, gains, differences))
    if not candidates:
        return None
    _, gains, differences = min(candidates, key=lambda candidate: candidate[0])
    sparsity = claim.above.sparsity or 0.0
    label = f"{claim.above.method} > {claim.below.method}"
    return _Pair(label, sparsity, claim.by, gains, tuple(differences))


def _family(cell: Cell) -> tuple[Any, ...]:
    """What two cells share so that their methods can be compared."""
    columns = ("model", "start", "finetune", "pattern", "metric.split", "metric.epoch")
    keys = ("max_epochs", "max_steps", "lr", "batch_size")
    return (
        *(cell.get(column) for column in columns),
        *(cell.setting(f"trainer.{key}") for key in keys),
        cell.distilled,
        cell.get("metrics.test_examples"),
    )
