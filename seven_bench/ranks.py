"""Several processes at work on one run: who this one is, means over all, proof that all agree."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PRIME = 65_521  # the places of a checksum repeat; products stay within 64 bits


def world() -> int:
    """How many processes share this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them, from 0; process 0 writes the files."""
    return dist.get_rank() if world() > 1 else 0


def mean_(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replaces each tensor by its mean over the processes; all then hold the same bits."""
    if world() > 1:
        for tensor in tensors.values():
            dist.all_reduce(tensor)
            tensor.div_(world())
    return tensors


def gathered(value: Any) -> list[Any]:
    """A small value of every process, in order of rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in any process."""
    if world() == 1:
        return flag
    up = torch.tensor(int(flag), device=device)
    dist.all_reduce(up, dist.ReduceOp.MAX)
    return bool(up)


def require_same(what: str, value: str) -> None:
    """Raises RuntimeError when processes hold different values: they would part from each other."""
    if len(set(gathered(value))) > 1:
        raise RuntimeError(f"the {world()} processes of this run hold different {what}")


def checksum(tensors: dict[str, Tensor]) -> str:
    """Of float32 tensors, bit for bit: the sum of their bits as whole numbers, and one weighted by
    place. Made where they lie, in three passes: nothing is copied but two numbers a tensor.
    """
    sums = []
    for tensor in tensors.values():
        bits = tensor.detach().contiguous().view(torch.int32).flatten().long()
        weights = torch.arange(bits.numel(), device=bits.device).remainder_(PRIME).add_(1)
        sums += [bits.sum(), weights.mul_(bits).sum()]
    return str(torch.stack(sums).tolist())
