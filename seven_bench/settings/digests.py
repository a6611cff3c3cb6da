"""Content digests of files, each file read once: later its digest is looked up.

A digest is kept under what the file system says of a file: device, inode, size, and the times of
its last change to the nanosecond. Times that programs may set (mtime) are not trusted alone: the
inode's own (ctime) moves with every write and with every setting of mtime, and a file put in the
place of another has another inode. What was changed in the last two seconds is not kept, so that a
clock too coarse to tell two writes apart does no harm.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seven_bench.store.atomic import replace_file

FRESH = 2 * 10**9  # nanoseconds
MOST = 1_000  # digests that a process remembers
_remembered: dict[tuple[str, str], str] = {}


def cache_folder() -> Path:
    """`SEVEN_BENCH_CACHE`, else `seven_bench` in the user's cache folder."""
    given = os.environ.get("SEVEN_BENCH_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(home) / "seven_bench"


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in this order. Raises OSError."""
    files = list(paths)

    def whole() -> str:
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + b"\0" + _content(path).digest())
        return digest.hexdigest()

    return _kept(files, "", 64, whole)


def content_digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each file's content, in hexadecimal, in this order. Raises OSError."""
    files = list(paths)
    size = max(0, 65 * len(files) - 1)
    each = _kept(files, "-each", size, lambda: " ".join(_content(p).hexdigest() for p in files))
    return each.split()


def remembered(files: list[Path], kind: str, make: Callable[[], str]) -> str:
    """What `make` says of the content of files, once in this process while they stand as they do.

    Args:
        kind: what is made of them, if not always the same.
    """
    before = _stamp(files)
    key = (kind, before[0])
    if key not in _remembered:
        found = make()
        if _stamp(files) != before or time.time_ns() - before[1] <= FRESH:
            return found
        if len(_remembered) >= MOST:
            _remembered.clear()
        _remembered[key] = found
    return _remembered[key]


def _content(path: Path) -> Any:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256")


def _kept(files: list[Path], kind: str, size: int, make: Callable[[], str]) -> str:
    """What was found of these files before, if they stand as they did then; else it is made."""
    before = _stamp(files)
    known = cache_folder() / "digests" / f"{before[0]}{kind}"
    with suppress(OSError, ValueError):
        if len(kept := known.read_text("ascii")) == size:
            return kept
    found = make()
    if _stamp(files) == before and time.time_ns() - before[1] > FRESH:
        with suppress(OSError):  # without room or leave to keep it, it is taken again next time
            replace_file(known, found.encode("ascii"))
    return found


def _stamp(files: list[Path]) -> tuple[str, int]:
    """A key for these files as they are, and when the last of them changed, in nanoseconds."""
    key, newest = hashlib.sha256(), 0
    for path in files:
        s = os.stat(path)
        stamp = (str(path), s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        key.update(repr(stamp).encode())
        newest = max(newest, s.st_mtime_ns, s.st_ctime_ns)
    return key.hexdigest(), newest
