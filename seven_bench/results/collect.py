"""From folders of runs to one table with a row a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from seven_bench.results.recipes import identify_recipe
from seven_bench.store.files import RECORD, STATUS
from seven_bench.store.record import FIELDS, RecordError, read_record
from seven_bench.store.run_folder import RunFolder

#: Columns that hold an object as it is; every other object is spread over columns with dots.
WHOLE_COLUMNS = ("layers",)

#: Columns of numbers, also where every value is missing.
_NUMERIC = tuple(
    name
    for name in FIELDS
    if name.startswith(("sparsity.", "params.", "cost.")) or name in ("seed", "metric.value")
)


@dataclass(frozen=True)
class Collected:
    """What was found: a row a run, what was left out and why, and folders of runs without a record
    with the state that they were last in."""

    records: pd.DataFrame
    damaged: list[tuple[Path, str]]
    unfinished: list[tuple[Path, str]] = field(default_factory=list)


def find_records(roots: Iterable[str | Path]) -> list[Path]:
    """Return the `result.json` files at or below `roots`, each once, sorted within a root.

    A root is a folder, or a record itself under any name. Raises FileNotFoundError for a root
    that does not exist.
    """
    found: dict[Path, Path] = {}  # by real path: roots may overlap
    for root in map(Path, roots):
        if root.is_file():
            paths = [root]
        elif root.is_dir():
            paths = sorted(
                Path(folder, RECORD) for folder, _, files in os.walk(root) if RECORD in files
            )
        else:
            raise FileNotFoundError(f"no such file or folder: {root}")
        for path in paths:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def collect(roots: Iterable[str | Path]) -> Collected:
    """Read every record at or below `roots` into one flat table.

    Columns carry the record's names with dots (`sparsity.target`, `cost.seconds.total`), but for
    the checksums in `integrity`; `layers` stays an object; `folder` is where the run lies, and
    `recipe_id`, empty where there is no recipe, says which runs were trained alike. A damaged
    record is named and left out. Of several records with one run_id the first is kept; one that
    disagrees with it on the result is named among the damaged. Raises FileNotFoundError for a root
    that does not exist.
    """
    roots = list(roots)
    rows: dict[str, dict[str, Any]] = {}
    damaged: list[tuple[Path, str]] = []
    for path in find_records(roots):
        try:
            record = read_record(path)
        except RecordError as error:
            damaged.append((path, error.reason))
            continue
        row = _as_row(record, path.parent)
        first = rows.setdefault(record["run_id"], row)
        if any(first[name] != row[name] for name in ("metric.value", "mask_hash", "cell_id")):
            damaged.append((path, f"has the run_id of {first['folder']}, but another result"))
    return Collected(_as_frame([*rows.values()]), damaged, find_unfinished(roots))


def tabulate(records: Iterable[tuple[Mapping[str, Any], Path]]) -> pd.DataFrame:
    """Records that are read already, each with its folder, as `collect` has them."""
    return _as_frame([_as_row(record, folder) for record, folder in records])


def _as_row(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    told = {name: value for name, value in record.items() if name != "integrity"}
    recipe_id = identify_recipe(record.get("recipe"))
    return {**flatten(told), "folder": str(folder), "recipe_id": recipe_id}


def _as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=None if rows else [*FIELDS, "folder", "recipe_id"])
    numeric = [name for name in _NUMERIC if name in frame]
    return frame.astype(dict.fromkeys(numeric, float) | {"seed": int})


@dataclass(frozen=True)
class FinishedRun:
    """A complete run: its folder, its record, and the config that it was made with."""

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]


def find_finished(roots: Iterable[str | Path]) -> tuple[list[FinishedRun], list[str]]:
    """Complete runs at or below `roots`, and in a line each what could not be used.

    Raises FileNotFoundError for a root that does not exist.
    """
    runs, problems = [], []
    for path in find_records(roots):
        try:
            runs.append(read_finished(path.parent))
        except ValueError as error:
            problems.append(str(error))
    return runs, problems


def read_finished(folder: Path) -> FinishedRun:
    """The run in `folder`. Raises ValueError where it is not complete."""
    record = RunFolder(folder).record()
    if record is None:
        raise ValueError(f"{folder}: {RunFolder(folder).damage() or 'there is no record'}")
    return FinishedRun(folder, record, RunFolder(folder).read_config())


def find_unfinished(roots: Iterable[str | Path]) -> list[tuple[Path, str]]:
    """Folders at or below `roots` that have a status and no record, with their state."""
    found: dict[Path, tuple[Path, str]] = {}
    for root in map(Path, roots):
        for folder, _, files in os.walk(root):
            if STATUS in files and RECORD not in files:
                path = Path(folder)
                found.setdefault(path.resolve(), (path, _read_state(path / STATUS)))
    return sorted(found.values())


def _read_state(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return "in an unknown state"


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Spread nested objects over names with dots; `layers` stays whole."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in WHOLE_COLUMNS:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat
