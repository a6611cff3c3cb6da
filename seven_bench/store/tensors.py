"""Safetensors files that are either whole or absent, and readable as any other file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    tensors: dict[str, Tensor],
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> Path:
    """Writes `tensors` (contiguous, none a view of another) to `path`, atomically.

    The same tensors and metadata make the same bytes.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # safetensors' own files are private to their user
        save_file(tensors, partial, metadata)
        _sort_metadata(partial)
        partial.chmod(mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _sort_metadata(path: Path) -> None:
    """safetensors writes metadata in an order that changes from process to process."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:  # the same entries take the same room
            raise ValueError(f"{path}: its header cannot be put in order")
        file.seek(8)
        file.write(text.ljust(size))


@contextmanager
def read_tensors(
    path: str | os.PathLike[str], kind: str
) -> Iterator[tuple[dict[str, Tensor], dict[str, str]]]:
    """Tensors and metadata of a file whose metadata's `format` is `kind`; to be read in the block.

    Raises: ValueError with the path, for whatever is wrong with the file, here or in the block.
        FileNotFoundError.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise ValueError(f"its format is not {kind}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        yield tensors, metadata
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own type, which is no public name
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: {reason}") from error
