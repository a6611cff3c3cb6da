"""Files that are either whole or absent. Every file of a run and of a report is written here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DRAFT = ".tmp"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """The path of a draft, which takes the place of `path` when the block ends well.

    A reader sees the old file or the new one, never a part. Makes missing parent folders. However
    the block ends, no draft stays, but where the process is killed: see `remove_drafts`.

    Raises: OSError, with `path`, when the disk refuses.
    """
    path = Path(path)
    # An own name instead of tempfile: mkstemp's files are private to their user, and results
    # are meant to be read by the whole group on a cluster.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_DRAFT}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch(exist_ok=False)
        mode = draft.stat().st_mode
        yield draft
        draft.chmod(mode)  # some libraries put a private file of their own in its place
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError as error:  # a failed write names no file, an open the draft, a move two files
        named = {str(error.filename or draft), str(error.filename2 or "")}
        if error.errno is None or str(draft) not in named:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def replace_file(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path` as `replacing` does."""
    with replacing(path) as draft:
        draft.write_bytes(data)


def remove_drafts(folder: Path) -> None:
    """Removes what a killed process left of files in `folder`, which nobody may be writing to."""
    for draft in folder.glob(f".*{_DRAFT}"):
        draft.unlink(missing_ok=True)
