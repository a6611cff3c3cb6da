"""Our runs by cell: those that differ in their seed alone, with what they were made with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from seven_bench.results.groups import DENSE, DRAW, REPLICATE
from seven_bench.results.recipes import PREFIX, recipe_columns
from seven_bench.store.files import CONFIG
from seven_bench.store.finished import read_config


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
    records = _against_dense(records)
    cells = []
    for cell_id, runs in records.groupby("cell_id", sort=True):
        cells.append(Cell(str(cell_id), runs.sort_values(REPLICATE), _read_config(runs["folder"])))
    return cells


#: Runs that share these, and a recipe, are a pruned one and the dense one beside it.
_BESIDE = ["task", "model", "start", "finetune", "metric.name", "metric.split", "metric.epoch"]


def _against_dense(records: pd.DataFrame) -> pd.DataFrame:
    """The records with the main metric less that of the dense run of the same recipe and seeds, as
    a metric more: `metrics.accuracy_against_dense`.
    """
    told = records[records["recipe_id"] != ""]
    keys = [*_BESIDE, "recipe_id", *REPLICATE]
    dense = told[told["pruner"] == DENSE].drop_duplicates(keys)
    pruned = told[told["pruner"] != DENSE]
    beside = pruned.merge(dense[[*keys, "metric.value"]], on=keys, suffixes=("", "_dense"))
    if beside.empty:
        return records
    gained = beside["metric.value"] - beside["metric.value_dense"]
    by_run = pd.DataFrame({"run_id": beside["run_id"], "name": beside["metric.name"], "by": gained})
    columns = by_run.pivot_table(index="run_id", columns="name", values="by", aggfunc="first")
    columns.columns = [f"metrics.{name}_against_dense" for name in columns.columns]
    return records.merge(columns, left_on="run_id", right_index=True, how="left")


def _read_config(folders: Iterable[str]) -> Mapping[str, Any]:
    for folder in folders:
        with suppress(OSError, ValueError):
            return read_config(Path(folder, CONFIG))
    return {}
