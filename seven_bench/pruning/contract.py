"""What a score must keep to, checked where it is called: a score that breaks it is an error of one
line that names the method, never a mask.

The scores of an update: one tensor for each prunable weight, of its shape and on its device, of a
real floating type, and finite (what sorts them looks at that). A score writes to nothing that it is
shown: torch's version counters tell that of every operation but writes past them (`.data`, NumPy),
which a sample of `SAMPLE` weights a tensor finds at each update. Both cost microseconds a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from seven_bench.pruning.prunable import Params

SAMPLE = 16


def check_tensors(method: str, what: str, tensors: Any, params: Params) -> None:
    """Checks what a score gave back, as `scores` or as `weights`, for each of `params`.

    Raises: ValueError naming the method and the tensor.
    """
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{method}: its {what} are {_kind(tensors)}, not tensors by name")
    if odd := [name for name in tensors if name not in params]:
        raise ValueError(f"{method}: it gave {what} for {odd[0]}, which is no prunable weight")
    if lacking := [name for name in params if name not in tensors]:
        raise ValueError(f"{method}: it gave no {what} for {lacking[0]}")
    for name, parameter in params.items():
        tensor = tensors[name]
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{method}: its {what} of {name} are {_kind(tensor)}, not a tensor")
        if tensor.shape != parameter.shape:
            shapes = f"{tuple(tensor.shape)}, the weight's is {tuple(parameter.shape)}"
            raise ValueError(f"{method}: its {what} of {name} have the shape {shapes}")
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{method}: its {what} of {name} are {kind}, not floating numbers")
        if tensor.device != parameter.device:
            places = f"{tensor.device}, the weight on {parameter.device}"
            raise ValueError(f"{method}: its {what} of {name} are on {places}")


@contextmanager
def unchanged(
    method: str, params: Params, *others: Params, sampled: bool = False
) -> Iterator[None]:
    """Inside, a score is called that must leave all these tensors as they are.

    Args:
        sampled: look at some of the values of `params` too.

    Raises: ValueError naming the method and the tensor that was written to.
    """
    named = [(name, tensor) for group in (params, *others) for name, tensor in group.items()]
    versions = [tensor._version for _, tensor in named]
    values = _sample(params) if sampled else None
    yield
    after = [tensor._version for _, tensor in named]
    moved = [n for (n, _), old, new in zip(named, versions, after, strict=True) if old != new]
    if values is not None and not moved and not torch.equal(_sample(params), values):
        moved = ["the weights"]
    if moved:
        raise ValueError(f"{method}: its score changes {moved[0]} in place; it may only look at it")


def _sample(params: Params) -> Tensor:
    """Copies of some values of each tensor, as bytes: what is no number equals itself, too."""
    parts = []
    with torch.no_grad():
        for tensor in params.values():
            flat = tensor if tensor.is_contiguous() else tensor.reshape(-1)
            n = flat.numel()
            step = max(1, n // SAMPLE)
            parts.append(flat.as_strided((-(-n // step),), (step,)))  # one operation, not three
        return torch.cat(parts).view(torch.uint8)


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
