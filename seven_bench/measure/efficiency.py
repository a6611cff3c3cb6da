"""The `efficiency` of a record: what the zeros are worth in MACs and in bytes.

Seconds are not among it: a mask alone changes no dense speed. `seven-bench export`
measures what a sparse model takes, and adds it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load
from torch import nn

from seven_bench.measure.flops import CONVENTION, count_macs
from seven_bench.pruning import MaskSet
from seven_bench.store.packed import save_packed

Batch = dict[str, Any]  # what a task's data gives, tensors by name


def efficiency(
    model: nn.Module,
    logits: Callable[[nn.Module, Batch], Any],
    example: Batch,
    masks: MaskSet,
    model_file: Path,
) -> dict[str, Any]:
    """MACs of one example, and bytes of the model's file three ways, each really written.

    Args:
        model: with the effective weights, on the device of `example`.
        logits: what a model answers to a batch.
        example: a batch of one.
        masks: over the prunable weights.
        model_file: the model's safetensors file; the others are written beside it, and removed.

    Returns: `input`, the example's shapes in words; `macs`, `dense` and `masked`, with their
        convention; `bytes`: `dense`, the file as it is, `zstd`, under zstd at its default level,
        `packed`, as `seven_bench.store.packed` writes it.
    """
    model.eval()
    params = {name: p for name, p in model.named_parameters() if name in masks}
    macs = count_macs(lambda: logits(model, example), params, masks)
    return {
        "input": describe(example),
        "macs": {"convention": CONVENTION, "dense": macs.dense, "masked": macs.masked},
        "bytes": file_sizes(model_file, masks),
    }


def file_sizes(model_file: Path, masks: MaskSet) -> dict[str, int]:
    """Bytes of a model's file: `dense`, `zstd` and `packed`; what is written is removed again."""
    draft = model_file.with_name(f".{model_file.name}.{os.getpid()}.measured")
    try:
        content = model_file.read_bytes()
        with pa.CompressedOutputStream(str(draft), "zstd") as stream:
            stream.write(content)
        zstd = draft.stat().st_size
        save_packed(load(content), masks, draft)
        packed = draft.stat().st_size
    finally:
        draft.unlink(missing_ok=True)
    return {"dense": len(content), "zstd": zstd, "packed": packed}


def describe(batch: Batch, prefix: str = "") -> str:
    """The shapes of what a model is fed, as "pixel_values 1x3x32x32"."""
    parts = []
    for name, value in batch.items():
        if isinstance(value, dict):
            parts.append(describe(value, f"{name} "))
        elif torch.is_tensor(value) and value.dim() > 1 and name in ("pixel_values", "input_ids"):
            parts.append(f"{prefix}{name} {'x'.join(map(str, value.shape))}")
    return ", ".join(parts)
