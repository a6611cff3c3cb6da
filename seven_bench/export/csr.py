"""A CPU model whose pruned linear layers take the form that is measured fastest, layer by layer."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seven_bench.export.forms import (
    CompactLinear,
    OneDnnLinear,
    SparseLinear,
    candidates,
    make_form,
)
from seven_bench.measure.latency import Seconds, time_in_turns
from seven_bench.store.tensors import read_tensors, write_tensors

FORMAT = "seven_bench.csr/1"
MARGIN = 0.92  # of the dense time: below it another form is worth having
DENSE = "dense"


@dataclass(frozen=True)
class Choice:
    """What was measured of a layer at one shape: dense, and the fastest of the other forms.

    `tried` are all forms (of CSR the best chunk), timed in turns; `dense` and `best` were timed
    again, by themselves.
    """

    name: str
    rows: int
    dense: Seconds
    best: Seconds
    form: str
    chunk: int
    tried: dict[str, Seconds]

    @property
    def faster(self) -> bool:
        """By more than a margin, and by more than the turns differ: the quartiles lie apart."""
        clear = self.best.high < self.dense.low
        return clear and self.best.median < MARGIN * self.dense.median

    @property
    def taken(self) -> str:
        """The form that the layer takes."""
        return self.form if self.faster else DENSE


def choose(
    model: nn.Module, names: Iterable[str], forward: Callable[[], Any], repeats: int = 9
) -> list[Choice]:
    """Measures every linear layer that holds one of the weights `names`, on what it is fed.

    Layers of one shape, one number of rows and nearly one sparsity (to 1%; of rows and of columns
    as well) are measured once.

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
        value, lives = inputs[name], layer.weight.detach() != 0
        shares = (lives.float(), lives.any(0).float(), lives.any(1).float())
        key = (*lives.shape, value.numel(), *(round(100 * float(s.mean())) for s in shares))
        if key not in known:
            known[key] = _measure(name, layer, value, repeats)
        choices.append(replace(known[key], name=name))
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
    ways: dict[tuple[str, int], Callable[[], Any]] = {(DENSE, 0): _called(layer, value)}
    for key, other in candidates(layer, rows).items():
        ways[key] = _called(other, value)
    seconds = _timed(ways, repeats)
    order = sorted(seconds, key=lambda way: (seconds[way].median, way))
    tried = {form: seconds[form, chunk] for form, chunk in reversed(order)}
    fastest = next(way for way in order if way[0] != DENSE)
    # once more by themselves: the best of several is the luckiest as well
    again = _timed({way: ways[way] for way in ((DENSE, 0), fastest)}, repeats)
    return Choice(name, rows, again[DENSE, 0], again[fastest], *fastest, tried)


def _timed(
    ways: dict[tuple[str, int], Callable[[], Any]], repeats: int
) -> dict[tuple[str, int], Seconds]:
    named = {f"{form} {chunk}": way for (form, chunk), way in ways.items()}
    return dict(zip(ways, time_in_turns(named, repeats).values(), strict=True))


def _called(layer: Callable[..., Any], value: Tensor) -> Callable[[], Any]:
    return lambda: layer(value)


def make_sparse(model: nn.Module, choices: Iterable[Choice]) -> nn.Module:
    """Puts layers in the form that was clearly faster, in place; returns the model."""
    for choice in choices:
        if choice.faster:
            _replace(model, choice.name.removesuffix(".weight"), choice.form, choice.chunk)
    return model


def make_onednn(model: nn.Module) -> nn.Module:
    """Puts every plain linear layer into the hands of oneDNN, in place; returns the model."""
    for path, layer in list(model.named_modules()):
        if type(layer) is nn.Linear:  # a subclass may do more than multiply
            _replace(model, path, OneDnnLinear.form)
    return model


def _replace(model: nn.Module, path: str, form: str, chunk: int = 0) -> None:
    parent, _, child = path.rpartition(".")
    layer = model.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"{path} is no linear layer")
    setattr(model.get_submodule(parent), child, make_form(form, layer, chunk))


def count_forms(model: nn.Module) -> str:
    """How many of its linear layers are in which form, the most first: `12 csr, 2 dense`."""
    linear = (m for m in model.modules() if isinstance(m, SparseLinear | CompactLinear | nn.Linear))
    counts = Counter(str(getattr(layer, "form", DENSE)) for layer in linear)
    return ", ".join(f"{count} {form}" for form, count in counts.most_common())


def shorten_names(names: Iterable[str]) -> str:
    """Names that differ in their first number alone as one: `layer.0-3,5.query`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
        begin, end = found.span(1) if found else (len(name), len(name))
        numbers.setdefault((name[:begin], name[end:]), []).extend([int(found[1])] if found else [])
    return ", ".join(f"{head}{_ranges(at)}{tail}" for (head, tail), at in numbers.items())


def _ranges(numbers: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in ranges)


def tell_choices(choices: Iterable[Choice], changed: bool = True) -> list[dict[str, Any]]:
    """Plain numbers for a record: one entry for what was measured once, with the layers that it
    was measured for; seconds of each form as median, quartiles below and above.

    Args:
        choices: of `choose`.
        changed: whether the layers took what was chosen for them; False: all stayed dense.
    """
    entries: dict[int, list[Choice]] = {}
    for choice in choices:
        entries.setdefault(id(choice.tried), []).append(choice)
    told = []
    for same in entries.values():
        first = same[0]
        paths = [choice.name.removesuffix(".weight") for choice in same]
        entry: dict[str, Any] = {
            "layers": shorten_names(paths), "count": len(paths), "rows": first.rows,
            "form": first.taken if changed else DENSE,
        }  # fmt: skip
        for form, s in (first.tried | {DENSE: first.dense, first.form: first.best}).items():
            entry |= {form: s.median, f"{form}_low": s.low, f"{form}_high": s.high}
        told.append(entry)
    return told


def save_sparse(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Writes a model that `make_sparse` has been over, atomically.

    Of a CSR layer the file holds `NAME.crow`, `NAME.col` (int32), `NAME.values` and its bias; of a
    compacted one `NAME.rows`, `NAME.columns` (int32: which they are), `NAME.values` [rows,
    columns] and its bias; any other as the plain model has it. Its metadata hold `format` and
    `layers`, JSON: form, shape and chunk by name.
    """
    tensors = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    layers: dict[str, Any] = {}
    for name, layer in model.named_modules():
        parts: dict[str, Tensor] = {}
        if isinstance(layer, SparseLinear):
            csr = layer.weight
            parts = {"crow": csr.crow_indices(), "col": csr.col_indices(), "values": csr.values()}
            layers[name] = {"form": layer.form, "shape": list(csr.shape), "chunk": layer.chunk}
        elif isinstance(layer, CompactLinear):
            parts = {
                "rows": layer.rows.int(), "columns": layer.columns.int(), "values": layer.weight,
            }  # fmt: skip
            layers[name] = {"form": layer.form, "shape": list(layer.shape)}
        elif isinstance(layer, OneDnnLinear):
            layers[name] = {"form": layer.form}
        if parts and layer.bias is not None:
            parts["bias"] = layer.bias
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in parts.items()}
    return write_tensors(tensors, path, {"format": FORMAT, "layers": json.dumps(layers)})


def load_sparse(
    model: nn.Module, path: str | os.PathLike[str], forms: Collection[str] | None = None
) -> nn.Module:
    """Loads what `save_sparse` wrote into the plain model, in place; returns it.

    Args:
        forms: only layers in one of these are put into it, the others stay dense. None: all.

    Raises: ValueError when the file is not such a file, or another model's.
    """
    with read_tensors(path, FORMAT) as (tensors, metadata):
        layers: dict[str, Any] = json.loads(metadata["layers"])
        state = model.state_dict()
        for name, told in layers.items():
            told.setdefault("form", SparseLinear.form)  # the only one that there was at first
            if (weight := _whole(told, name, tensors)) is not None:
                state[f"{name}.weight"] = weight
        model.load_state_dict({**state, **tensors}, strict=True)
        for name, told in layers.items():
            if forms is None or told["form"] in forms:
                _replace(model, name, told["form"], told.get("chunk", 0))
    return model


def stored_forms(path: str | os.PathLike[str]) -> list[str]:
    """The forms that layers of a file of `save_sparse` take. Raises: ValueError, as above."""
    with read_tensors(path, FORMAT) as (_, metadata):
        layers: dict[str, Any] = json.loads(metadata["layers"])
        return sorted({told.get("form", SparseLinear.form) for told in layers.values()})


def _whole(told: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> Tensor | None:
    """The weight with its zeros, of what a file holds of it, which is taken out of `tensors`."""
    if told["form"] == SparseLinear.form:
        crow, col, values = (tensors.pop(f"{name}.{part}") for part in ("crow", "col", "values"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
            csr = torch.sparse_csr_tensor(crow, col, values, told["shape"], check_invariants=True)
        return csr.to_dense()
    if told["form"] == CompactLinear.form:
        rows, columns, values = (
            tensors.pop(f"{name}.{part}") for part in ("rows", "columns", "values")
        )
        whole = values.new_zeros(told["shape"])
        whole[rows.long()[:, None], columns.long()] = values
        return whole
    return None
