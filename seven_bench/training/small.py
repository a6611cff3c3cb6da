"""Small dense models, which controls train in the place of a pruned one.

`pruner.small` says which: of less width, from random weights, or of less depth, layers of the
start's model. Sizes follow from the settings alone: they are counted on models without storage.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from seven_bench.errors import ConfigError
from seven_bench.measure.flops import count_macs
from seven_bench.pruning import Params, kept_count, prunable_parameters
from seven_bench.pruning.prunable import family_of
from seven_bench.settings.building import build
from seven_bench.settings.model import Settings
from seven_bench.settings.node import Target
from seven_bench.training.models import from_config

#: Where each family has its layers, one stack a tower.
STACKS = {
    "timm_vit": ("blocks",),
    "bert": ("encoder.layer",),
    "distilbert": ("transformer.layer",),
    "clip": ("text_model.encoder.layers", "vision_model.encoder.layers"),
}


_FOUND: dict[str, Chosen] = {}  # a search takes a second, and a run asks several times


@dataclass(frozen=True)
class Tower:
    """The sizes of one stack of layers: width, heads, width of the MLPs."""

    width: int
    heads: int
    mlp: int


@dataclass(frozen=True)
class Chosen:
    """What a small model is: `towers`, or the `layers` that stay of each stack; how much it has of
    what was `asked`, and that.
    """

    asked: int
    reached: int
    towers: tuple[Tower, ...] = ()
    layers: tuple[tuple[int, ...], ...] = ()


def run_model(settings: Settings) -> nn.Module:
    """The plain model of a run, of random weights: a small one where the run is of one.

    Raises: ConfigError when no small model of this kind fits.
    """
    small = settings.pruner.small
    if small is None:
        model: nn.Module = build(settings.model.build)
        return model
    if small.kind == "depth":
        return keep_layers(build(settings.model.build), settings)
    return _of_width(settings, choose_small(settings).towers)


def keep_layers(model: nn.Module, settings: Settings) -> nn.Module:
    """The model, whole until now, with the layers that a run of `small.kind=depth` keeps."""
    return _of_depth(model, choose_small(settings).layers)


def tell_small(settings: Settings) -> dict[str, Any]:
    """What a record says of a small model."""
    small, found = settings.pruner.small, choose_small(settings)
    assert small is not None
    whole = whole_model(settings)
    told: dict[str, Any] = {"kind": small.kind, "match": small.match}
    told |= {"asked": found.asked, "reached": found.reached}
    if small.kind == "depth":
        depths = [len(stack) for stack in _stacks(whole)]
        return told | {"layers": [list(kept) for kept in found.layers], "of": depths}
    pairs = (found.towers, _towers(whole))
    (now, full) = ([[t.width, t.heads, t.mlp] for t in towers] for towers in pairs)
    return told | {"width_heads_mlp": now, "of": full}


def choose_small(settings: Settings) -> Chosen:
    """The small model that has as much as the pruned run keeps, or the most that fits below it.

    Raises: ConfigError where not even the smallest fits, or the family is not known here.
    """
    key = settings.model_dump_json(include={"model", "prunable", "pruner", "sparsity", "task"})
    if key not in _FOUND:
        _FOUND[key] = _choose(settings)
    return _FOUND[key]


def _choose(settings: Settings) -> Chosen:
    small, whole = settings.pruner.small, whole_model(settings)
    assert small is not None
    if (family := family_of(whole).name) not in STACKS:
        raise ConfigError(
            f"pruner={settings.pruner.name}: not with model={settings.model.name}, a {family}; "
            f"allowed are models of the families {', '.join(STACKS)}"
        )
    measure = _measure_params if small.match == "params" else _measure_macs
    asked = measure(settings, whole, settings.sparsity)
    search = _search_width if small.kind == "width" else _search_depth
    return search(settings, whole, asked, lambda model: measure(settings, model, 0.0))


def whole_model(settings: Settings) -> nn.Module:
    """The model that a small one stands for, without storage."""
    with torch.device("meta"):
        model: nn.Module = build(settings.model.build)
    return model


def prunable_of(settings: Settings, model: nn.Module) -> Params:
    """What a run that prunes could remove of a model."""
    prunable = settings.prunable
    return prunable_parameters(model, prunable.include, prunable.pattern, partly=True)


# ---- Measures


def _measure_params(settings: Settings, model: nn.Module, sparsity: float) -> int:
    """Prunable weights that are kept."""
    total = sum(parameter.numel() for parameter in prunable_of(settings, model).values())
    return kept_count(total, sparsity)


def _measure_macs(settings: Settings, model: nn.Module, sparsity: float) -> int:
    """MACs of one example without removed weights, of which every tensor has its share: an image,
    a text of the task's largest length, or one of each.
    """
    config: Any = getattr(model, "config", None)
    inputs: dict[str, torch.Tensor] = {}
    if settings.task.kind != "text":
        image, stored = settings.model.image, settings.task.image
        assert image is not None and stored is not None
        colours = 3 if settings.task.kind == "clip" else stored.channels
        inputs["pixel_values"] = torch.empty(1, colours, image.size, image.size, device="meta")
    if settings.task.kind != "image":
        longest = settings.task.max_length or config.text_config.max_position_embeddings
        inputs["input_ids"] = torch.zeros(1, longest, dtype=torch.long, device="meta")
    params = prunable_of(settings, model)
    kept = {name: kept_count(p.numel(), sparsity) for name, p in params.items()}
    masks = {n: torch.arange(p.numel()) < kept[n] for n, p in params.items() if sparsity}
    call = (lambda: model(*inputs.values())) if config is None else (lambda: model(**inputs))
    return count_macs(call, params, masks).masked


# ---- Less depth


def _stacks(model: nn.Module) -> list[Any]:
    """The lists of layers of a model."""
    prefix = getattr(model, "base_model_prefix", "")
    found = []
    for path in STACKS[family_of(model).name]:
        inner = getattr(model, prefix) if prefix and hasattr(model, prefix) else model
        found.append(inner.get_submodule(path))
    return found


def _of_depth(model: nn.Module, layers: Sequence[Sequence[int]]) -> nn.Module:
    for stack, kept in zip(_stacks(model), layers, strict=True):
        chosen = [stack[place] for place in kept]
        while len(stack):
            del stack[-1]
        stack.extend(chosen)
    if hasattr(model, "config"):
        for config, kept in zip(_configs(model), layers, strict=True):
            config.num_hidden_layers = len(kept)
    return model


def _evenly(count: int, depth: int) -> tuple[int, ...]:
    """So many layers of a stack, the first and the last among them."""
    if count == 1:
        return (0,)
    return tuple(math.floor(place * (depth - 1) / (count - 1) + 0.5) for place in range(count))


def _search_depth(
    settings: Settings, whole: nn.Module, asked: int, measure: Callable[[nn.Module], int]
) -> Chosen:
    depths = [len(stack) for stack in _stacks(whole)]
    deepest = max(depths)
    for count in range(deepest, 0, -1):
        shares = [max(1, count * depth // deepest) for depth in depths]
        layers = tuple(_evenly(*pair) for pair in zip(shares, depths, strict=True))
        if (reached := measure(_of_depth(whole_model(settings), layers))) <= asked:
            return Chosen(asked, reached, layers=layers)
    raise _too_sparse(
        settings, asked, reached, "a layer of each stack" if depths[1:] else "a layer"
    )


# ---- Less width


def _towers(model: nn.Module) -> tuple[Tower, ...]:
    if family_of(model).name == "timm_vit":
        vit: Any = model
        block = vit.blocks[0]
        return (Tower(vit.embed_dim, block.attn.num_heads, block.mlp.fc1.out_features),)
    return tuple(
        Tower(config.hidden_size, config.num_attention_heads, getattr(config, _mlp_name(config)))
        for config in _configs(model)
    )


def _configs(model: Any, config: Any = None) -> list[Any]:
    """The configurations of a model's towers, of transformers."""
    config = config or model.config
    if family_of(model).name == "clip":
        return [config.text_config, config.vision_config]
    return [config]


def _mlp_name(config: Any) -> str:
    return "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim"


def _of_width(settings: Settings, towers: Sequence[Tower]) -> nn.Module:
    whole = whole_model(settings)
    if family_of(whole).name == "timm_vit":
        (tower,), target = towers, settings.model.build
        ratio = (tower.mlp + 0.5) / tower.width  # timm rounds down
        sizes = {"embed_dim": tower.width, "num_heads": tower.heads, "mlp_ratio": ratio}
        model: nn.Module = build(Target(path=target.path, arguments={**target.arguments, **sizes}))
        return model
    config = copy.deepcopy(whole.config)
    for tower, part in zip(towers, _configs(whole, config), strict=True):
        part.hidden_size, part.num_attention_heads = tower.width, tower.heads
        setattr(part, _mlp_name(part), tower.mlp)
    return from_config(type(whole), config)


def _search_width(
    settings: Settings, whole: nn.Module, asked: int, measure: Callable[[nn.Module], int]
) -> Chosen:
    """The widest model of the whole one's proportions, then MLPs as wide as what is left allows.

    Heads become fewer with the width, so that each keeps its size as nearly as may be.
    """
    full = _towers(whole)
    widest = max(tower.width for tower in full)

    def scaled(width: int) -> tuple[Tower, ...]:
        found = []
        for tower in full:
            own = max(1, tower.width * width // widest)
            heads = max(1, round(tower.heads * own / tower.width))
            own = max(1, own // heads) * heads
            found.append(Tower(own, heads, max(1, round(tower.mlp * own / tower.width))))
        return tuple(found)

    def count(towers: Sequence[Tower]) -> int:
        with torch.device("meta"):
            return measure(_of_width(settings, towers))

    low, high = 0, widest
    while low < high:  # the largest that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(scaled(middle)) <= asked else (low, middle - 1)
    if low == 0:
        raise _too_sparse(settings, asked, count(scaled(1)), "a model of width 1")
    towers = list(scaled(low))
    for place, tower in enumerate(towers):  # what it has grows evenly with the width of its MLPs
        here = count(towers)
        wider = [*towers[:place], Tower(tower.width, tower.heads, tower.mlp + 1)]
        step = count([*wider, *towers[place + 1 :]]) - here
        more = min((asked - here) // step, max(0, full[place].mlp - tower.mlp))
        towers[place] = Tower(tower.width, tower.heads, tower.mlp + more)
    return Chosen(asked, count(towers), towers=tuple(towers))


def _too_sparse(settings: Settings, asked: int, least: int, smallest: str) -> ConfigError:
    small = settings.pruner.small
    assert small is not None
    what = "MACs" if small.match == "macs" else "prunable weights"
    return ConfigError(
        f"sparsity={settings.sparsity:g}: pruner={settings.pruner.name} has {asked:,} {what} to "
        f"fill, and {smallest} has {least:,}: allowed is a smaller sparsity"
    )
