"""The record of one run, `result.json`: how it is written, and what a reader may rely on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seven_bench.store.atomic import replace_file

SCHEMA_VERSION = 1


class RecordError(ValueError):
    """A record that cannot be used. `reason` says why, in one line."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)  # both kept in args, so that the error can be pickled
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Kind(NamedTuple):
    """What a field may hold: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_layer(layer: Any) -> bool:
    if not isinstance(layer, dict):
        return False
    kept, total = layer.get("kept", -1), layer.get("total", -1)
    return _is_count(kept) and _is_count(total) and bool(kept <= total)


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


ANYTHING = Kind("anything", lambda value: True)
TEXT = Kind("text", lambda value: isinstance(value, str) and value != "")
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number from 0", _is_count)
NUMBER = Kind("a finite number", _is_number)
AMOUNT = Kind("a finite number from 0", lambda value: _is_number(value) and value >= 0)
FRACTION = Kind("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
MAPPING = Kind("an object", lambda value: isinstance(value, dict))
LAYERS = Kind(
    "an object of {kept, total} counts with kept <= total",
    lambda value: isinstance(value, dict) and all(map(_is_layer, value.values())),
)

#: Every field of schema 1. All must be present; further ones are welcome and kept.
FIELDS: dict[str, Kind] = {
    **dict.fromkeys(("run_id", "cell_id", "task", "model", "start", "pruner"), TEXT),
    **dict.fromkeys(("timing", "distribution", "pattern", "control", "finetune"), _or_null(TEXT)),
    "seed": COUNT,
    "sparsity.target": FRACTION,
    **{
        f"sparsity.{of}": _or_null(FRACTION)
        for of in ("prunable", "encoder", "non_embedding", "model")
    },
    **{f"params.{of}": _or_null(COUNT) for of in ("prunable", "kept", "model")},
    "layers": _or_null(LAYERS),
    "metric.name": TEXT,
    "metric.value": _or_null(NUMBER),
    "metric.higher_is_better": FLAG,
    "metric.split": TEXT,
    "metric.epoch": _or_null(ANYTHING),
    "metrics": MAPPING,
    "mask_hash": _or_null(TEXT),
    **{
        f"cost.example_equivalents.{of}": _or_null(AMOUNT)
        for of in ("scoring", "training", "rounds", "start", "total")
    },
    **{
        f"cost.seconds.{of}": _or_null(AMOUNT)
        for of in ("scoring", "training", "evaluation", "total")
    },
    "cost.peak_memory_bytes": _or_null(AMOUNT),
    "efficiency": _or_null(MAPPING),
    "environment.versions": _or_null(MAPPING),
    **{f"environment.{of}": ANYTHING for of in ("git", "hardware", "threads", "deterministic")},
}

_MISSING = object()


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
    plain["integrity"] = {**plain.get("integrity", {}), "record": _digest(plain)}
    write_json(path, plain)
    return plain


def _digest(record: dict[str, Any]) -> str:
    """SHA-256 of a parsed record but for the place that its own checksum stands in."""
    integrity = {n: value for n, value in record.get("integrity", {}).items() if n != "record"}
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


def read_record(path: str | Path) -> dict[str, Any]:
    """Read one `result.json` and check every field of schema 1.

    Raises RecordError with a one-line reason when the file is unreadable, cut short, not a
    record, of another schema, holds a value its field may not have (such as a NaN metric), or was
    altered after it was written.
    """
    try:
        record: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(path, f"is not whole or not JSON ({reason})") from error
    if problem := find_problem(record):
        raise RecordError(path, problem)
    integrity = record.get("integrity", {})  # records of before have none
    if not isinstance(integrity, dict):
        raise RecordError(path, f"integrity is {_show(integrity)}, expected an object")
    if integrity and integrity.get("record") != _digest(record):
        raise RecordError(path, "does not fit its checksum: it was altered after it was written")
    return record


def find_problem(record: Any) -> str | None:
    """Return the first thing wrong with a parsed record, in one line; None where it is sound."""
    if not isinstance(record, dict):
        return f"holds a {type(record).__name__} instead of an object"
    version = record.get("schema_version", _MISSING)
    if version is _MISSING:
        return "schema_version is missing"
    if version != SCHEMA_VERSION:
        return f"has schema_version {_show(version)}; this reader knows {SCHEMA_VERSION}"
    for name, kind in FIELDS.items():
        value = _look_up(record, name)
        if value is _MISSING:
            return f"{name} is missing"
        if not kind.holds(value):
            return f"{name} is {_show(value)}, expected {kind.words}"
    kept, prunable = record["params"]["kept"], record["params"]["prunable"]
    if kept is not None and prunable is not None and kept > prunable:
        return f"params.kept is {kept}, more than params.prunable, {prunable}"
    return None


def _look_up(record: dict[str, Any], name: str) -> Any:
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
