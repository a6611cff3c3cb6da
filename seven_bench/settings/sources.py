"""Where a task's data comes from, and a fingerprint of it. Needs no torch."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seven_bench.errors import ConfigError
from seven_bench.settings.model import Source

WHOLE = 64 << 20  # files up to this size are hashed whole, larger ones in samples
SAMPLE = 1 << 20


def local_files(source: Source, data_root: str | None, task: str) -> dict[str, Path]:
    """The local files of a task by split; empty when it comes from the hub.

    Args:
        source: `package` and `file` (a file inside an installed package) or `hub` (a data set's
            name there), `config` and `files` (by the hub's split, below `data_root`: a Parquet
            file, or a folder of Parquet files or of a folder a class).

    Raises: ConfigError when a package or file is missing, naming it.
    """
    if source.package is not None and source.file is not None:
        spec = find_spec(source.package)
        if spec is None or spec.origin is None:
            package = {"sklearn": "scikit-learn"}.get(source.package, source.package)
            raise ConfigError(f"task={task} needs a package: pip install {package}")
        return {"all": Path(spec.origin).parent / source.file}
    if data_root is None:
        return {}
    files = {split: Path(data_root) / name for split, name in source.files.items()}
    for path in files.values():
        if not path.exists():
            raise ConfigError(
                f"data_root={data_root}: task={task} needs {path}, which is not there; without "
                f"data_root it comes from the hub ({source.hub})"
            )
    return files


def fingerprint(source: Source, data_root: str | None, task: str) -> str:
    """A short hash of the data itself, the same wherever the files lie.

    Of a folder of images the names are hashed, not a million files.
    """
    files = local_files(source, data_root, task)
    if not files:
        return f"hub:{'/'.join(filter(None, (source.hub, source.config)))}"
    digest = hashlib.sha256()
    for split, path in sorted(files.items()):
        parquet = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        for file in parquet:
            digest.update(f"{split}:{file.stat().st_size}:".encode())
            _feed(digest, file)
        if not parquet:
            for folder in sorted(path.iterdir()):
                names = sorted(os.listdir(folder)) if folder.is_dir() else []
                digest.update(f"{split}:{folder.name}:{' '.join(names)}".encode())
    return digest.hexdigest()[:16]


def _feed(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            digest.update(file.read())
            return
        for offset in range(0, size, max(SAMPLE, size // 64)):
            file.seek(offset, os.SEEK_SET)
            digest.update(file.read(SAMPLE))
