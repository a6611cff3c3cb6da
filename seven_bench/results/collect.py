"""From folders of runs to one table with a row a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from seven_bench.results.recipes import identify_recipe
from seven_bench.store.files import RECORD, STATUS, TRIALS
from seven_bench.store.finished import FinishedRun, RunError, open_run
from seven_bench.store.integrity import find_damage
from seven_bench.store.record import RecordError, is_sealed, read_record
from seven_bench.store.schema import FIELDS, NUMERIC

#: Columns that hold an object as it is; every other object is spread over columns with dots.
WHOLE_COLUMNS = ("layers",)
#: Columns that stand beside the record's fields.
OWN_COLUMNS = ("folder", "sealed", "recipe_id", "method_id")
DEBUG = "a run of debug=true: it shows that the program goes through, its figures mean nothing"
_STATES = ("running", "failed", "interrupted", "done")


@dataclass(frozen=True)
class Collected:
    """What was found: a row a run, what was left out and why, and folders of runs without a record
    with the state that they were last in."""

    records: pd.DataFrame
    damaged: list[tuple[Path, str]]
    unfinished: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def unsealed(self) -> list[Path]:
        """Folders of the runs that were read without a seal."""
        return [Path(folder) for folder in self.records.loc[~self.records["sealed"], "folder"]]


def find_records(roots: Iterable[str | Path]) -> list[Path]:
    """Return the `result.json` files at or below `roots`, each once, sorted within a root.

    A root is a folder, or a record itself under any name. Raises FileNotFoundError for a root
    that does not exist.
    """
    found: dict[str, Path] = {}  # by real path: roots may overlap
    for root in map(Path, roots):
        if root.is_file():
            paths = [root]
        elif root.is_dir():
            paths = sorted(Path(folder, RECORD) for folder, files in _walk(root) if RECORD in files)
        else:
            raise FileNotFoundError(f"no such file or folder: {root}")
        for path in paths:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders at or below a root, with their files; no link to a folder is followed. Below a folder
    of tuning are trials, which are results only where it is asked for itself.
    """
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not Path(folder, name, TRIALS).exists()]
        yield folder, files


def collect(roots: Iterable[str | Path], unsealed: bool = False) -> Collected:
    """Read every record at or below `roots` into one flat table.

    Columns carry the record's names with dots (`sparsity.target`, `cost.seconds.total`), but for
    the checksums in `integrity`; `layers` stays an object; `folder` is where the run lies, `sealed`
    says whether its checksums were there and fit, `recipe_id` which runs were trained alike and
    `method_id` which are of one variant of a method, both empty where the record does not say. What
    is damaged (a record, or a file of its run) is named and left out, and so is a record without a
    seal, unless `unsealed`. Of several records with one run_id the first is kept; one that
    disagrees with it on the result is named among the damaged. Raises FileNotFoundError for a root
    that does not exist.
    """
    roots = list(roots)
    rows: dict[str, dict[str, Any]] = {}
    damaged: list[tuple[Path, str]] = []
    for path, record in _read_all(find_records(roots), unsealed):
        if isinstance(record, str):
            damaged.append((path, record))
            continue
        if record.get("debug"):
            damaged.append((path, DEBUG))
            continue
        row = _as_row(record, path.parent)
        first = rows.setdefault(record["run_id"], row)
        if _result(first) != _result(row):
            damaged.append((path, f"has the run_id of {first['folder']}, but another result"))
    return Collected(_as_frame([*rows.values()]), damaged, find_unfinished(roots))


def tabulate(records: Iterable[tuple[Mapping[str, Any], Path]]) -> pd.DataFrame:
    """Records that are read already, each with its folder, as `collect` has them."""
    return _as_frame([_as_row(record, folder) for record, folder in records])


def _read_all(paths: list[Path], unsealed: bool) -> Iterator[tuple[Path, dict[str, Any] | str]]:
    """Each record, or why it is left out."""
    for path in paths:
        try:
            record = read_record(path, unsealed)
        except RecordError as error:
            yield path, error.reason
        else:
            yield path, find_damage(path.parent, record) or record


def _result(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return record["metric"]["value"], record["mask_hash"], record["cell_id"]


def _as_row(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    ids = (identify_recipe(record.get(name)) for name in ("recipe", "method"))
    own = (str(folder), is_sealed(record), *ids)
    return {**record, **dict(zip(OWN_COLUMNS, own, strict=True))}


def _as_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        empty = pd.DataFrame(columns=[*_LEAVES, *OWN_COLUMNS])
        return empty.astype({"sealed": bool})
    apart = ("integrity", *WHOLE_COLUMNS)
    frame = pd.json_normalize([{n: v for n, v in row.items() if n not in apart} for row in rows])
    whole = {name: pd.Series([row[name] for row in rows]) for name in WHOLE_COLUMNS}
    seeds = {
        "seeds.split": frame["seeds.split"].fillna(0) if "seeds.split" in frame else 0,
        "seeds.calibration": frame.get("seeds.calibration"),
    }  # records without them are of the one split there was, and of calibration by the seed
    kinds = {"seed": int, "seeds.split": int, "seeds.calibration": float}
    numbers = dict.fromkeys((name for name in NUMERIC if name in frame), float)
    typed = frame.assign(**whole, **seeds).astype(numbers | kinds)
    return typed.copy()  # in one piece again: readers add columns to it


_LEAVES = [name for name, words in FIELDS.items() if not words.startswith("an object")]


def find_finished(
    roots: Iterable[str | Path], unsealed: bool = False
) -> tuple[list[FinishedRun], list[str]]:
    """Complete runs at or below `roots`, and in a line each what could not be used.

    Raises FileNotFoundError for a root that does not exist.
    """
    runs, problems = [], []
    for path in find_records(roots):
        try:
            runs.append(open_run(path.parent, unsealed=unsealed))
        except RunError as error:
            problems.append(str(error))
    return runs, problems


def find_unfinished(roots: Iterable[str | Path]) -> list[tuple[Path, str]]:
    """Folders at or below `roots` that have a status and no record, with their state."""
    found: dict[str, tuple[Path, str]] = {}
    for root in map(Path, roots):
        for folder, files in _walk(root):
            if STATUS in files and RECORD not in files:
                path = Path(folder)
                found.setdefault(os.path.realpath(path), (path, _read_state(path / STATUS)))
    return sorted(found.values())


def _read_state(path: Path) -> str:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        state = None
    return str(state) if state in _STATES else "in an unknown state"
