"""What a score and a mask occupy: bytes a weight in memory while pruning, bits a weight on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from seven_bench.store.masks import write_masks
from tests.benchmarks.models import SHAPES
from tests.benchmarks.step import METHODS, Training
from tests.benchmarks.timing import Row


def rows() -> list[Row]:
    """State of each method after two steps on MiniLM, and the file of its masks."""
    torch.set_num_threads(2)
    found = []
    for method in METHODS:
        training = Training(SHAPES["MiniLM"], method)
        for _ in range(2):
            training.dense_step()
            training.pruning_step()
        masks = training.pruner.masks
        held = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in _tensors(vars(training.pruner.method.score), masks)
        }
        bound = 13 if method == "seven" else None
        name = f"{method}: state and mask in memory, bytes a prunable weight"
        found.append(Row(name, sum(held.values()) / masks.total, "B", bound))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.safetensors"
        write_masks(masks, path)
        bits = 8 * path.stat().st_size / masks.total
    return [*found, Row("masks.safetensors, bits a weight", bits, "bits", 1.1)]


def _tensors(*values: object) -> list[torch.Tensor]:
    """Every tensor inside of dicts, however deep."""
    found: list[torch.Tensor] = []
    for value in values:
        if torch.is_tensor(value):
            found.append(value)
        elif isinstance(value, dict):
            found += _tensors(*value.values())
    return found
