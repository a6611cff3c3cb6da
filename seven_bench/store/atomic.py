"""Files that are either whole or absent."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def replace_file(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    Makes missing parent folders. Raises OSError when the disk refuses; no partial file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # An own name instead of tempfile: mkstemp's files are private to their user, and results
    # are meant to be read by the whole group on a cluster.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
