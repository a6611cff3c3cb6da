"""Numbers as the page's data hold them: short, and null where there is none."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def shorten(value: float, digits: int = 6) -> float | int | None:
    """A number to so many digits; None where it is not finite."""
    if not math.isfinite(value):
        return None
    if float(value).is_integer():
        return int(value)
    return float(f"{value:.{digits}g}")


def shorten_all(values: pd.Series) -> list[float | int | None]:
    """A column's numbers; what is none there is null."""
    return [shorten(value) for value in pd.to_numeric(values, errors="coerce")]


def numeric_columns(runs: pd.DataFrame, prefix: str) -> list[str]:
    """Columns under `prefix` that hold numbers, at least one of them finite."""
    return [
        name
        for name in runs.columns
        if name.startswith(prefix)
        and all(value is None or _is_number(value) for value in runs[name])
        and pd.to_numeric(runs[name]).notna().any()
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def first_known(runs: pd.DataFrame, column: str) -> float | None:
    """The first number of a column; None where there is none, or no such column."""
    if column not in runs:
        return None
    known = pd.to_numeric(runs[column]).dropna()
    return float(known.iloc[0]) if len(known) else None
