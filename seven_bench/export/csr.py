"""Linear layers that skip their zeros on a CPU: CSR weights, used where that is measured faster."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seven_bench.measure.latency import Seconds, median_seconds, time_in_turns
from seven_bench.store.tensors import read_tensors, write_tensors

FORMAT = "seven_bench.csr/1"
CHUNKS = (32, 64, 128, 256)  # rows at a time: what a layer reads and writes should stay in cache
MARGIN = 0.92  # of the dense time: below it a sparse layer is worth having


class SparseLinear(nn.Module):
    """`nn.Linear` with its weight in CSR: y = x W^T + b over the kept weights alone.

    Args:
        weight: [out, in], float32 on a CPU; its zeros are dropped.
        bias: [out] or None.
        chunk: rows of x that are multiplied at a time.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.weight = to_csr(weight)  # no buffer: a state dict of it would not be the plain one's
        self.bias = bias

    def forward(self, value: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        rows = value.reshape(-1, value.shape[-1])
        found = rows.new_empty(len(rows), self.weight.shape[0])
        parts = (torch.split(rows, self.chunk), torch.split(found, self.chunk))
        for source, target in zip(*parts, strict=True):
            target.copy_((self.weight @ source.t()).t())
        if self.bias is not None:
            found.add_(self.bias)
        return found.view(*value.shape[:-1], -1)


def to_csr(weight: Tensor) -> Tensor:
    """A weight without its zeros, int32 indices: what MKL multiplies without converting."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
        csr = weight.detach().float().cpu().to_sparse_csr()
        parts = (csr.crow_indices().int(), csr.col_indices().int(), csr.values())
        return torch.sparse_csr_tensor(*parts, csr.shape, check_invariants=False)


@dataclass(frozen=True)
class Choice:
    """What was measured of a layer at one shape: dense and sparse, the best chunk."""

    name: str
    rows: int
    dense: Seconds
    sparse: Seconds
    chunk: int

    @property
    def faster(self) -> bool:
        """By more than a margin, and by more than the turns differ: the quartiles lie apart."""
        clear = self.sparse.high < self.dense.low
        return clear and self.sparse.median < MARGIN * self.dense.median


def choose(
    model: nn.Module, names: Iterable[str], forward: Callable[[], Any], repeats: int = 9
) -> list[Choice]:
    """Measures every linear layer that holds one of the weights `names`, on what it is fed.

    Layers of one shape, one number of rows and nearly one sparsity (to 1%) are measured once.

    Args:
        model: the plain model, on a CPU.
        names: of its pruned weights.
        forward: calls the model; the layers see the rows that it brings them.
    """
    layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in names}
    linear = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    inputs = _inputs(linear, forward)
    known: dict[tuple[int, ...], Choice] = {}
    choices = []
    for name, layer in linear.items():
        value, weight = inputs[name], layer.weight
        share = round(100 * int(weight.count_nonzero()) / weight.numel())
        key = (*weight.shape, value.numel(), share)
        if key not in known:
            known[key] = _measure(name, layer, value, repeats)
        best = known[key]
        choices.append(Choice(name, best.rows, best.dense, best.sparse, best.chunk))
    return choices


def _inputs(layers: dict[str, nn.Linear], forward: Callable[[], Any]) -> dict[str, Tensor]:
    """What each layer was fed; a layer that is not called is an error of the caller's."""
    seen: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0].detach())
        )
        for name, layer in layers.items()
    ]
    with torch.inference_mode():
        forward()
    for hook in hooks:
        hook.remove()
    return seen


def _measure(name: str, layer: nn.Linear, value: Tensor, repeats: int) -> Choice:
    rows = value.numel() // value.shape[-1]
    ways: dict[str, Callable[[], Any]] = {
        "dense": lambda: F.linear(value, layer.weight, layer.bias)
    }
    for chunk in [c for c in CHUNKS if c < rows] or [rows]:
        ways[str(chunk)] = _called(SparseLinear(layer.weight, layer.bias, chunk), value)
    seconds = median_seconds(ways, repeats)
    fastest = min(seconds.keys() - {"dense"}, key=lambda chunk: (seconds[chunk], int(chunk)))
    # once more by themselves: the best of several is the luckiest as well
    again = time_in_turns({key: ways[key] for key in ("dense", fastest)}, repeats)
    return Choice(name, rows, again["dense"], again[fastest], int(fastest))


def _called(layer: Callable[..., Any], value: Tensor) -> Callable[[], Any]:
    return lambda: layer(value)


def make_sparse(model: nn.Module, choices: Iterable[Choice]) -> nn.Module:
    """Puts CSR layers in the place of those that were faster so, in place; returns the model."""
    for choice in choices:
        if choice.faster:
            _replace(model, choice.name, choice.chunk)
    return model


def _replace(model: nn.Module, name: str, chunk: int) -> None:
    path = name.removesuffix(".weight")
    parent, _, child = path.rpartition(".")
    layer = model.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{path} is no linear layer")
    bias = None if layer.bias is None else layer.bias.detach()
    setattr(model.get_submodule(parent), child, SparseLinear(layer.weight, bias, chunk))


def save_sparse(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Writes a model that `make_sparse` has been over, atomically.

    Of a sparse layer the file holds `NAME.crow`, `NAME.col` (int32), `NAME.values` and its bias;
    its metadata hold `format` and `layers`, JSON: shape and chunk by name.
    """
    tensors = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    layers: dict[str, Any] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, SparseLinear):
            weight = layer.weight
            layers[name] = {"shape": list(weight.shape), "chunk": layer.chunk}
            tensors[f"{name}.crow"] = weight.crow_indices().contiguous()
            tensors[f"{name}.col"] = weight.col_indices().contiguous()
            tensors[f"{name}.values"] = weight.values().contiguous()
            if layer.bias is not None:
                tensors[f"{name}.bias"] = layer.bias.contiguous()
    return write_tensors(tensors, path, {"format": FORMAT, "layers": json.dumps(layers)})


def load_sparse(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Loads what `save_sparse` wrote into the plain model, in place; returns it.

    Raises: ValueError when the file is not such a file, or another model's.
    """
    with read_tensors(path, FORMAT) as (tensors, metadata):
        layers: dict[str, Any] = json.loads(metadata["layers"])
        state = model.state_dict()
        for name, layer in layers.items():
            crow, col, values = (tensors.pop(f"{name}.{p}") for p in ("crow", "col", "values"))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
                csr = torch.sparse_csr_tensor(
                    crow, col, values, layer["shape"], check_invariants=True
                )
            state[f"{name}.weight"] = csr.to_dense()
        model.load_state_dict({**state, **tensors}, strict=True)
        for name, layer in layers.items():
            _replace(model, f"{name}.weight", layer["chunk"])
    return model
