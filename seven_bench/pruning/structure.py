"""What belongs to one head or one neuron in each family of models: the table, and its reading.

A unit is removed with all that it is made of. What is left of it would do nothing: without its
columns of the layer behind, its rows and biases reach no output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seven_bench.pruning.patterns import PATTERNS
from seven_bench.pruning.prunable import Params, family_of, prunable_parameters
from seven_bench.pruning.units import Group, Member, Structure, size_of


@dataclass(frozen=True)
class Coupling:
    """The units of one kind in one layer of a family.

    Names of modules are relative to the layer's, which `layer`, a regular expression, matches.
    `rows` lose a unit's rows (and biases), `columns` its columns. `heads` is where the module says,
    as its config has it, how many units there are; without it each row is one. `stacked` is how
    many parts lie along the rows. `sizes` are the module's further numbers that grow with the units
    (in proportion), which a smaller model has to be told; `single` are modules between the two that
    must do nothing, for a norm over all units sees what is removed.
    """

    kind: str
    layer: str
    rows: tuple[str, ...]
    columns: str
    heads: str = ""
    stacked: int = 1
    sizes: tuple[str, ...] = ()
    single: tuple[str, ...] = ()


_VIT, _BERT = r"blocks\.\d+", r"encoder\.layer\.\d+"
_DISTILBERT, _CLIP = r"transformer\.layer\.\d+", r"(text|vision)_model\.encoder\.layers\.\d+"
#: By the name of the family. A new family is a new row.
COUPLINGS: dict[str, tuple[Coupling, ...]] = {
    "timm_vit": (
        Coupling(
            "head", _VIT, ("attn.qkv",), "attn.proj", "attn.num_heads", 3, ("attn.attn_dim",),
            single=("attn.norm",),
        ),
        Coupling("neuron", _VIT, ("mlp.fc1",), "mlp.fc2", single=("mlp.norm",)),
    ),
    "bert": (
        Coupling(
            "head", _BERT, ("attention.self.query", "attention.self.key", "attention.self.value"),
            "attention.output.dense", "attention.self.num_attention_heads",
            sizes=("attention.self.all_head_size",),
        ),
        Coupling("neuron", _BERT, ("intermediate.dense",), "output.dense"),
    ),
    "distilbert": (
        Coupling(
            "head", _DISTILBERT, ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention.out_lin", "attention.n_heads",
        ),
        Coupling("neuron", _DISTILBERT, ("ffn.lin1",), "ffn.lin2"),
    ),
    "clip": (
        Coupling(
            "head", _CLIP, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "self_attn.out_proj", "self_attn.num_heads",
        ),
        Coupling("neuron", _CLIP, ("mlp.fc1",), "mlp.fc2"),
    ),
}  # fmt: skip


def coupled_layers(model: nn.Module) -> list[tuple[str, Coupling]]:
    """The layers of a model that have units, with how, in the order of its modules.

    Raises: ValueError when its family is not known.
    """
    family = family_of(model)
    return [
        (name, coupling)
        for name, _ in model.named_modules()
        for coupling in COUPLINGS.get(family.name, ())
        if re.search(rf"(^|\.){coupling.layer}$", name)
    ]


def structure_of(model: nn.Module, pattern: str) -> Structure:
    """The units of a model that a pattern asks for.

    Args:
        model: a plain model.
        pattern: of `PATTERNS`, one of those that are `coupled`.

    Raises: ValueError when the model has no such units, or they do not cover its layers.
    """
    kinds = PATTERNS[pattern].coupled
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    groups = []
    for layer, coupling in coupled_layers(model):
        if coupling.kind in kinds:
            _check_single(model, layer, coupling)
            members = tuple(_members(layer, coupling, shapes))
            units = _units(model, layer, coupling, shapes)
            name = f"{layer}.{coupling.kind}"
            size = size_of(shapes, members, units)
            groups.append(Group(name, coupling.kind, layer, units, size, members))
    if missing := [kind for kind in kinds if kind not in {group.kind for group in groups}]:
        raise ValueError(f"pattern={pattern}: {type(model).__name__} has no {missing[0]} to remove")
    return Structure(pattern, tuple(groups))


def structured_parameters(model: nn.Module, structure: Structure) -> Params:
    """The prunable weights of a model that lie in its units."""
    params = prunable_parameters(model)
    return {name: parameter for name, parameter in params.items() if name in structure.names}


def _members(layer: str, coupling: Coupling, shapes: Mapping[str, Any]) -> list[Member]:
    for part in (*coupling.rows, coupling.columns):
        if f"{layer}.{part}.weight" not in shapes:  # of a kin whose layers are made otherwise
            raise ValueError(f"{layer} has no {part}: its {coupling.kind}s cannot be removed")
    members = []
    for name in (f"{layer}.{part}" for part in coupling.rows):
        bias = f"{name}.bias" if f"{name}.bias" in shapes else None
        members.append(Member(f"{name}.weight", parts=coupling.stacked, bias=bias))
    return [*members, Member(f"{layer}.{coupling.columns}.weight", columns=True)]


def _units(model: nn.Module, layer: str, coupling: Coupling, shapes: Mapping[str, Any]) -> int:
    if coupling.heads:
        return int(attribute(model, f"{layer}.{coupling.heads}"))
    rows, columns = (
        shapes[f"{layer}.{coupling.rows[0]}.weight"][0],
        shapes[f"{layer}.{coupling.columns}.weight"][1],
    )
    if rows != columns:  # a gated layer
        raise ValueError(f"{layer}: {rows} rows of {coupling.rows[0]} make {columns} columns")
    return int(rows)


def attribute(model: nn.Module, path: str) -> Any:
    """A module's attribute by its dotted name."""
    module, _, name = path.rpartition(".")
    return getattr(model.get_submodule(module), name)


def _check_single(model: nn.Module, layer: str, coupling: Coupling) -> None:
    """Raises ValueError where a module looks at all units of a layer at once."""
    for part in coupling.single:
        module = dict(model.named_modules()).get(f"{layer}.{part}")
        if module is not None and not isinstance(module, nn.Identity):
            kind = f"{type(module).__name__} over all {coupling.kind}s of its layer"
            raise ValueError(f"{layer}.{part} is a {kind}: they cannot be removed one by one")


class CoupledBiases:
    """The biases of removed units, held at zero.

    Biases are never prunable: they have no score, no mask, no part in any count. But a unit is
    removed with its biases (those of query, key and value, of the first layer of a feed-forward
    part), so they are zero wherever its weights are, by the same masks, after every step. They have
    no effect on what the model computes: nothing reads them. A unit that an update brings back has
    its biases back from zero.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        self.structure = structure
        named = {name for group in structure.groups for m in group.members if (name := m.bias)}
        self.params = {name: p for name, p in model.named_parameters() if name in named}
        self._rows: Params = {}
        self._masks: Params | None = None

    @torch.no_grad()
    def apply_(self, masks: Params) -> None:
        """Zeroes, in place, the biases of units that `masks` have removed."""
        if self._masks is not masks:  # masks are never written to: an update makes new ones
            self._masks, self._rows = masks, self.structure.living_rows(masks)
        for name, parameter in self.params.items():
            parameter.mul_(self._rows[name])
