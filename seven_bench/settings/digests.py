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
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from seven_bench.store.atomic import replace_file

FRESH = 2 * 10**9  # nanoseconds


def cache_folder() -> Path:
    """`SEVEN_BENCH_CACHE`, else `seven_bench` in the user's cache folder."""
    given = os.environ.get("SEVEN_BENCH_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(home) / "seven_bench"


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in this order. Raises OSError."""
    files = list(paths)
    before = _stamp(files)
    known = cache_folder() / "digests" / before[0]
    with suppress(OSError, ValueError):
        if len(kept := known.read_text("ascii")) == 64:
            return kept
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb", buffering=0) as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.name.encode() + b"\0" + content)
    found = digest.hexdigest()
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
