"""Run folders with all their files, and the ways in which they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from seven_bench.store import files
from seven_bench.store.integrity import fingerprints
from seven_bench.store.predictions import Predictions, write_predictions
from seven_bench.store.record import write_record
from tests.results.synthetic import make_record, write_masks

#: What a run leaves and its record seals.
EVERY = (files.RECORD, *files.SEALED)


def write_whole(folder: Path, **changes: Any) -> Path:
    """A sealed run with every file, made up; other numbers for another seed."""
    record = make_record(**changes)
    draw = np.random.default_rng(record["seed"])
    folder.mkdir(parents=True)
    config = {"seed": record["seed"], "task": {"name": record["task"]}, "note": "x" * 64}
    (folder / files.CONFIG).write_text(yaml.safe_dump(config))
    (folder / files.STATUS).write_text('{"state": "done", "heartbeat": 1}')
    (folder / files.CURVES).write_text(f"step,loss\n1,{draw.random():.9f}\n")
    write_masks(folder / files.MASKS, {"a.weight": draw.random((8, 8)) < 0.5})
    probabilities = draw.dirichlet([1.0] * 3, 32)
    kept = Predictions.of_classes(draw.integers(0, 3, 32), probabilities, "made up")
    write_predictions(kept, folder / files.PREDICTIONS)
    weights = draw.random((8, 8 + record["seed"]), dtype=np.float32)
    save_file({"a.weight": weights}, folder / files.MODEL)
    save_file({"a.weight": weights + 1}, folder / files.REWIND)
    write_record(folder / files.RECORD, {**record, "integrity": {"files": fingerprints(folder)}})
    return folder


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path, other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """That of another, sound run in its place."""
    path.write_bytes(other.read_bytes())


def pipe(path: Path, other: Path) -> None:
    """Something that never ends, and is no file."""
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGES: tuple[Callable[[Path, Path], None], ...] = (cut, flip, empty, remove, swap, pipe)
