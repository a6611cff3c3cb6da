"""Whether a run's files are those that it wrote."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seven_bench.store.files import LARGE, SEALED


def fingerprints(folder: Path, names: Iterable[str] = SEALED) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of those files that are there, for `integrity.files` of a record."""
    there = [name for name in names if (folder / name).is_file()]
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in there
    }


def find_damage(folder: Path, record: Mapping[str, Any], weights: bool = False) -> str | None:
    """What is wrong with the files of a sealed record, in a line; None where nothing is.

    Args:
        weights: read the weights' files too, to the last bit; else their size is looked at.
    """
    for name, written in ((record.get("integrity") or {}).get("files") or {}).items():
        if "/" in name or name in ("", ".", ".."):
            return f"its seal names {name!r}, which is no file of its folder"
        whole = weights or name not in LARGE
        if (fault := _find_fault(f"{folder}/{name}", written, whole)) is not None:
            return f"{name} {fault}"
    return None


def _find_fault(path: str, written: Mapping[str, Any], whole: bool) -> str | None:
    try:
        there = os.stat(path)
        if not stat.S_ISREG(there.st_mode):
            return "is not a file"
        if there.st_size != written["bytes"]:
            return f"has {there.st_size:,} bytes of {written['bytes']:,}"
        if whole and _sha256(path) != written["sha256"]:
            return "does not fit its checksum"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None


def _sha256(path: str | Path) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
