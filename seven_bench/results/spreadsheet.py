"""Tables of records as files that other programs open: CSV and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_object_dtype, is_string_dtype

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: Any) -> Any:
    """A cell that a spreadsheet shows as it is: text that it would run begins with an apostrophe.

    Numbers stay numbers, negative ones too. OWASP, CSV injection.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_csv(records: pd.DataFrame) -> str:
    """Records as CSV, a row a run."""
    frame = records.rename(columns=safe_cell)
    for name, dtype in frame.dtypes.items():
        if is_object_dtype(dtype) or is_string_dtype(dtype):
            frame[name] = frame[name].map(safe_cell)
    return str(frame.to_csv(index=False))


def write_parquet(records: pd.DataFrame, path: Path) -> None:
    """Records as Parquet. A column of values of several kinds is written as JSON."""
    frame = records.copy()
    for name, dtype in records.dtypes.items():
        if not is_object_dtype(dtype):
            continue
        kinds = {_kind(value) for value in frame[name]} - {None}
        if len(kinds) > 1 or kinds & {dict, list}:
            texts = [None if _kind(value) is None else json.dumps(value) for value in frame[name]]
            frame[name] = pd.Series(texts, index=frame.index, dtype=object)
    frame.to_parquet(path, index=False)


def _kind(value: Any) -> type | None:
    """The type of a cell; None where it is empty."""
    return None if value is None or (isinstance(value, float) and value != value) else type(value)
