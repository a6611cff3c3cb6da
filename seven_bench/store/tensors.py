"""Safetensors files that are either whole or absent, and readable as any other file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.store.atomic import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def write_tensors(
    tensors: dict[str, Tensor],
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> Path:
    """Writes `tensors` (contiguous, none a view of another) to `path`, atomically.

    The same tensors and metadata make the same bytes.

    Raises: OSError, with the path, when the disk refuses.
    """
    from safetensors.torch import save_file

    return _write(save_file, tensors, Path(path), metadata)


def write_arrays(
    arrays: dict[str, NDArray[Any]],
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> Path:
    """As `write_tensors`, of contiguous NumPy arrays, without torch."""
    from safetensors.numpy import save_file

    return _write(save_file, arrays, Path(path), metadata)


def _write(
    save: Callable[..., None], tensors: Any, path: Path, metadata: dict[str, str] | None
) -> Path:
    from safetensors import SafetensorError

    with replacing(path) as draft:
        try:
            save(tensors, draft, metadata)
        except SafetensorError as error:  # its only reason to refuse tensors: the disk
            if "os error 28" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise OSError(errno.EIO, str(error), str(path)) from error
        _sort_metadata(draft)
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


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a file. Raises ValueError, with the path, when it is not a whole one."""
    with read_tensors(path) as (tensors, _):
        return tensors


@contextmanager
def read_tensors(
    path: str | os.PathLike[str], kind: str | None = None, framework: str = "pt"
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Tensors and metadata of a file, to be read in the block.

    Args:
        kind: what its metadata must give as `format`; None: anything.
        framework: "pt": torch tensors; "np": NumPy arrays, without torch.

    Raises: ValueError with the path, for whatever is wrong with the file, here or in the block.
        FileNotFoundError.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework) as file:
            metadata = file.metadata() or {}
            if kind is not None and metadata.get("format") != kind:
                raise ValueError(f"its format is not {kind}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        yield tensors, metadata
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises its own type, which is no public name
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: {reason}") from error
