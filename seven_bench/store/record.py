"""The record of one run, `result.json`: how it is written, and what a reader may rely on.

`schema.py` has its fields. Two of them are mappings from dotted keys of settings, as they are
typed, to plain values:

* `recipe`: all that decides the result and is neither method nor column: `trainer.lr`,
  `trainer.max_epochs`, `task.data.regression`, the build of the model, `finetune.rank`, those of a
  dense start's own training (`start.train.lr`), and by content `task.data_fingerprint`,
  `model.tokenizer` and `start.weights`. Runs of one recipe may stand in one table. `threads`,
  `accelerator`, `devices` and `deterministic` say on what machine, and part no runs.
* `method`: what the method is beside its name: `pruner.score`, `pruner.schedule`,
  `pruner.calibration.examples`, `prunable`, ... Two runs of one name whose methods differ are told
  apart by what differs.

A key of a recipe that came later stands there only where its value is not what older runs had.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seven_bench.store.atomic import replace_file

LARGEST_FILE = 64 << 20  # bytes of a record; ours have a few thousand
ALTERED = "does not fit its checksum: it was altered after it was written"
UNSEALED = "has no seal, so nobody can tell whether it is what was written; --unsealed reads it"


class RecordError(ValueError):
    """A record that cannot be used. `reason` says why, in one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)  # both kept in args, so that the error can be pickled
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as JSON, atomically: a reader finds the whole file or none.

    NumPy and torch scalars become numbers and paths become text. NaN and infinities, which JSON
    lacks, become null: in a record null means "not measured, or not finite".
    Raises TypeError naming the place of a value that JSON cannot hold.
    """
    text = json.dumps(_as_plain(obj, "value"), indent=2, allow_nan=False)
    replace_file(path, f"{text}\n".encode())


def write_record(path: str | Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record as `write_json` does, with a checksum of all of it in `integrity.record`.

    Returns it as it will be read.
    """
    plain: dict[str, Any] = _as_plain(record, "record")
    plain["integrity"] = {**(plain.get("integrity") or {}), "record": ""}
    plain["integrity"]["record"] = _digest(plain)
    write_json(path, plain)
    return plain


def _digest(record: dict[str, Any]) -> str:
    """SHA-256 of a parsed record but for the place that its own checksum stands in."""
    integrity = {n: value for n, value in record["integrity"].items() if n != "record"}
    text = json.dumps({**record, "integrity": integrity}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_plain(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy's and torch's scalars and arrays, without importing either
        return _as_plain(value.tolist(), place)
    raise TypeError(f"{place} is a {type(value).__name__}, which JSON cannot hold")


def validation_value(record: Mapping[str, Any], objective: str | None = None) -> float | None:
    """What a run returns to a tuner: a metric (null: the main one) on validation, never on test, of
    the epoch that is measured. None where none was taken: a run of no epochs, or an earlier one.
    """
    metric = record["metric"]
    found = (record.get("validation") or {}).get(metric["epoch"]) or {}
    value = found.get(objective or metric["name"])
    return None if value is None else float(value)


def read_record(path: str | Path, unsealed: bool = False) -> dict[str, Any]:
    """Read one `result.json`, check every field of its schema, and its seal.

    Args:
        unsealed: also one without a seal (`is_sealed` tells them apart).

    Raises RecordError with a one-line reason when the file is unreadable, cut short, not a
    record, of another schema, holds a value its field may not have (such as a NaN metric), was
    altered after it was written, or has no seal.
    """
    from seven_bench.store.schema import find_problem  # pydantic, where there is a record

    record: dict[str, Any] = _parse(path)
    if problem := find_problem(record):
        raise RecordError(path, problem)
    if is_sealed(record):
        if record["integrity"]["record"] != _digest(record):
            raise RecordError(path, ALTERED)
    elif not unsealed:
        raise RecordError(path, UNSEALED)
    return record


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Whether a record holds the checksums of what was written."""
    return record.get("integrity") is not None


def _parse(path: str | Path) -> Any:
    try:
        kind = os.stat(path)
        if not stat.S_ISREG(kind.st_mode):
            raise RecordError(path, "is not a file")
        if kind.st_size > LARGEST_FILE:
            raise RecordError(path, f"has {kind.st_size:,} bytes: it is no record")
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
        reason = str(error).splitlines()[0]
        raise RecordError(path, f"is not whole or not JSON ({reason})") from error
