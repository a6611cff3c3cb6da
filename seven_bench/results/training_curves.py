"""Curves of training, from `metrics.csv` of runs: means over the seeds of a method and sparsity."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from seven_bench.results.groups import Group
from seven_bench.store.files import CURVES

STEP = "progress/step"
#: What is drawn over steps; a run's own validation metrics beside it.
_ALWAYS = ("train/loss", "train/learning_rate", "progress/sparsity")
_VALIDATION = "validation/"
_POINTS = 60  # of a curve, at most: more are thinned out
_BYTES = 4 * 2**20  # of a file that is read


@dataclass(frozen=True)
class Curve:
    """One method at one sparsity: optimizer steps, and by quantity the seeds' mean at each (NaN
    where none has it), of `seeds` runs."""

    method: str
    sparsity: float
    seeds: int
    steps: list[float]
    values: dict[str, list[float]]


def read_curves(groups: Sequence[Group]) -> list[list[Curve]]:
    """The curves of each group; of runs without a file that can be read there are none."""
    return [_curves(group) for group in groups]


def _curves(group: Group) -> list[Curve]:
    curves = []
    everything = pd.concat([group.dense, group.runs])
    for (method, sparsity), runs in everything.groupby(["method", "sparsity.target"]):
        read = [table for folder in runs["folder"] if (table := _read(Path(folder) / CURVES))]
        if read:
            curves.append(_mean(str(method), float(sparsity), read))
    return curves


def _read(path: Path) -> dict[float, dict[str, float]]:
    """Rows of a file by their step; empty where it is none, or none of ours."""
    try:
        if path.stat().st_size > _BYTES:
            return {}
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [_numbers(row) for row in csv.DictReader(lines)]
    except (OSError, ValueError, csv.Error):
        return {}
    return {row.pop(STEP): row for row in rows if STEP in row}


def _numbers(row: dict[str, str | None]) -> dict[str, float]:
    """The finite numbers of a row that are drawn."""
    numbers = {}
    for name, text in row.items():
        drawn = name in (STEP, *_ALWAYS) or str(name).startswith(_VALIDATION)
        if drawn and isinstance(text, str) and text:
            value = float(text)
            if math.isfinite(value):
                numbers[name] = value
    return numbers


def _mean(method: str, sparsity: float, runs: list[dict[float, dict[str, float]]]) -> Curve:
    steps = sorted({step for run in runs for step in run})
    steps = [steps[at] for at in _thin(len(steps))]
    names = sorted({name for run in runs for row in run.values() for name in row})
    values: dict[str, list[float]] = {name: [] for name in names}
    for step in steps:
        for name in names:
            known = [run[step][name] for run in runs if name in run.get(step, {})]
            values[name].append(math.fsum(known) / len(known) if known else math.nan)
    return Curve(method, sparsity, len(runs), steps, values)


def _thin(count: int) -> list[int]:
    """So many places, evenly, the last one always."""
    if count <= _POINTS:
        return list(range(count))
    return sorted({round(at * (count - 1) / (_POINTS - 1)) for at in range(_POINTS)})
