"""2:4 weights for the tensor cores of an NVIDIA GPU (Ampere or later)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

OLDEST = (8, 0)  # compute capability
DTYPE = torch.bfloat16


def odd_group(weight: Tensor) -> bool:
    """Whether some four weights in a row of [out, in] have more than two that are not 0."""
    if weight.dim() != 2 or weight.shape[1] % 4:
        return True
    return bool((weight.reshape(-1, 4).count_nonzero(dim=1) > 2).any())


def check_semi_structured(model: nn.Module, names: Iterable[str]) -> None:
    """Raises ValueError, in one line, when the weights `names` are not 2:4, or no GPU can do it."""
    for name in names:
        if odd_group(model.get_parameter(name).detach()):
            raise ValueError(f"{name} is not 2:4 sparse: prune with pattern=nm_2_4 sparsity=0.5")
    if not torch.cuda.is_available():
        raise ValueError(
            "2:4 needs an NVIDIA GPU of compute capability 8.0 or later; there is none"
        )
    if torch.cuda.get_device_capability() < OLDEST:
        raise ValueError(f"{torch.cuda.get_device_name()} cannot do 2:4: it needs 8.0 or later")


def make_semi_structured(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """The model in bfloat16 on the GPU with its 2:4 linear weights compressed, in place.

    Raises: ValueError as `check_semi_structured`.
    """
    names = list(names)
    check_semi_structured(model, names)
    model.to("cuda", DTYPE)
    for name in names:
        weight = model.get_parameter(name).detach()
        compressed = torch.sparse.to_sparse_semi_structured(weight)
        layer = model.get_submodule(name.removesuffix(".weight"))
        layer.weight = nn.Parameter(compressed, requires_grad=False)
    return model
