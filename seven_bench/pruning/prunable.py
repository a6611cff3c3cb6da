"""Which weights may be removed (a table row per model family), and what sparsity is stated over.

Biases, norms, embeddings, positional tables and classifiers are never prunable. The pooler and the
patch embedding are, when asked for. A new family is a new row of `FAMILIES`; a model of which a row
matches a part alone is refused, unless a pattern of the user's own says what is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor, nn

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Parameter names of one architecture, as regular expressions over the module's own names.

    `encoder` matches the weights of the encoder's linear layers, `qkv` those among them that hold
    query, key and value stacked along the rows; `pooler` and `patch_embedding` are the optional
    groups; `embeddings` matches what the non-embedding count leaves out; `head` is what a task puts
    on top, never prunable. `convolutions` are those of the encoder, which stay whole: a model with
    others is none of the family.
    """

    name: str
    encoder: str
    embeddings: str
    qkv: str = ""
    pooler: str = ""
    patch_embedding: str = ""
    head: str = ""
    convolutions: str = ""

    def is_head(self, name: str) -> bool:
        return _matches(self.head, name)

    def is_embedding(self, name: str) -> bool:
        return _matches(self.embeddings, name)


def _matches(pattern: str, name: str) -> bool:
    return bool(pattern) and re.search(rf"(^|\.){pattern}$", name) is not None


FAMILIES = (
    Family(
        name="timm_vit",
        encoder=r"blocks\.\d+\.(attn\.(qkv|[qkv]_proj|proj)|mlp\.(fc[12]|fc1_[gx]))\.weight",
        qkv=r"attn\.qkv\.weight",
        pooler=r"attn_pool\.(q|kv|proj|mlp\.fc[12])\.weight",
        patch_embedding=r"patch_embed\.proj\.weight",
        embeddings=r"(cls_token|reg_token|dist_token|pos_embed|patch_embed\..*)",
        head=r"(head|head_dist|fc_norm)\..*",
    ),
    Family(
        name="cait",
        encoder=r"(blocks\.\d+\.attn\.(qkv|proj_[lw])|blocks_token_only\.\d+\.attn\.[qkv]"
        r"|(blocks|blocks_token_only)\.\d+\.(attn\.proj|mlp\.fc[12]))\.weight",
        qkv=r"attn\.qkv\.weight",
        patch_embedding=r"patch_embed\.proj\.weight",
        embeddings=r"(cls_token|pos_embed|patch_embed\..*)",
        head=r"head\..*",
    ),
    Family(
        name="swin",
        encoder=r"layers\.\d+\.(blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])|downsample\.reduction)\.weight",
        qkv=r"attn\.qkv\.weight",
        patch_embedding=r"patch_embed\.proj\.weight",
        embeddings=r"(patch_embed\..*|attn\.(relative_position_bias_table|cpb_mlp\..*))",
        head=r"head\..*",
    ),
    Family(
        name="bert",
        encoder=r"encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.dense"
        r"|intermediate\.dense|output\.dense)\.weight",
        pooler=r"pooler\.dense\.weight",
        embeddings=r"embeddings(_project)?\..*",
        head=r"(classifier|qa_outputs)\..*",
    ),
    Family(
        name="deberta",
        encoder=r"encoder\.layer\.\d+\.(attention\.self\.((query|key|value|pos_key|pos_query|in|pos|pos_q)_proj)"
        r"|attention\.output\.dense|intermediate\.dense|output\.dense)\.weight",
        pooler=r"pooler\.dense\.weight",
        embeddings=r"(embeddings|encoder\.rel_embeddings)\..*",
        head=r"(classifier|qa_outputs)\..*",
        convolutions=r"encoder\.conv\.conv\.weight",
    ),
    Family(
        name="mpnet",
        encoder=r"encoder\.layer\.\d+\.(attention\.attn\.[qkvo]|intermediate\.dense|output\.dense)\.weight",
        pooler=r"pooler\.dense\.weight",
        embeddings=r"(embeddings|encoder\.relative_attention_bias)\..*",
        head=r"(classifier|qa_outputs)\..*",
    ),
    Family(
        name="distilbert",
        encoder=r"transformer\.layer\.\d+\.(attention\.[qkv]_lin|attention\.out_lin|ffn\.lin[12])\.weight",
        embeddings=r"embeddings\..*",
        head=r"(pre_classifier|classifier|qa_outputs)\..*",
    ),
    Family(
        name="clip",
        encoder=r"(text|vision)_model\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])\.weight",
        pooler=r"vision_model\.head\.(attention\.(in_proj_weight|out_proj\.weight)|mlp\.fc[12]\.weight)",
        patch_embedding=r"vision_model\.embeddings\.patch_embedding\.weight",
        embeddings=r"(text|vision)_model\.embeddings\..*",
        head=r"((text_projection|visual_projection|text_model\.head)\.(weight|bias)|logit_scale|logit_bias)",
    ),
)
OPTIONS = ("pooler", "patch_embedding")
SHARED = r"albert_layer_groups\."  # one weight, many layers: gone from one, gone from all


def family_of(model: nn.Module) -> Family:
    """The row of `FAMILIES` whose encoder weights the model has; of several, that with most.

    Raises: ValueError when no row matches: the model has no prunable weights that we know of; or
        its layers share their weights.
    """
    # peft puts a layer's own weight one level down
    names = tuple(name.replace(".base_layer.", ".") for name, _ in model.named_parameters())
    if any(re.search(SHARED, name) for name in names):
        raise ValueError(
            f"model {type(model).__name__}: its layers share their weights, so what a weight is to "
            "one of them has no score; it cannot be pruned"
        )
    family = _family_of(names, FAMILIES)
    if family is not None:
        return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(
        f"model {type(model).__name__} has no prunable weights: known families are {known}; "
        "a new family is a row of FAMILIES in seven_bench/pruning/prunable.py"
    )


@lru_cache(maxsize=64)
def _family_of(names: tuple[str, ...], families: tuple[Family, ...]) -> Family | None:
    found = [sum(_matches(family.encoder, name) for name in names) for family in families]
    return families[found.index(max(found))] if any(found) else None


def prunable_parameters(
    model: nn.Module,
    include: Iterable[str] = (),
    pattern: str | None = None,
    *,
    partly: bool = False,
) -> Params:
    """The weights that may be removed, by the module's own parameter names, in module order.

    Args:
        model: a plain timm or transformers model (tied parameters appear once).
        include: optional groups to add to the encoder's linear weights, of `OPTIONS`.
        pattern: a regular expression; the weights of linear layers and convolutions in whose names
            it is found take the place of the family's (but for the head's, which stay).
        partly: take a family whose rule leaves out weights of the encoder, instead of refusing it.

    Raises:
        ValueError: unknown family or option, an option that this family does not have, a pattern
            that is none or is found nowhere, weights of the encoder that the family's rule leaves
            out, or weights that are not [out, in].
    """
    named = dict(model.named_parameters())
    family = family_of(model)
    if pattern is not None:
        params = _matching(model, family, pattern)
    else:
        params = {name: p for name, p in named.items() if _matches(family.encoder, name)}
        if not partly:
            _refuse_left_out(model, family)
    for option in include:
        if option not in OPTIONS:
            raise ValueError(f"prunable.include={option!r}: allowed are {', '.join(OPTIONS)}")
        group = {n: p for n, p in named.items() if _matches(getattr(family, option), n)}
        if not group:
            raise ValueError(f"prunable.include={option!r}: {type(model).__name__} has none")
        params |= group
    _refuse_other_layouts(model, params)
    return {name: parameter for name, parameter in named.items() if name in params}


def has_option(model: nn.Module, option: str) -> bool:
    """Whether the model has the weights of an optional group, of `OPTIONS`."""
    group = getattr(family_of(model), option)
    return any(_matches(group, name) for name, _ in model.named_parameters())


def _matching(model: nn.Module, family: Family, pattern: str) -> Params:
    """What a user's own pattern says may be removed."""
    try:
        searched = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"prunable.pattern={pattern!r}: {error}") from error
    layers = _layers(model)
    params: Params = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name in layers and searched.search(name) and not family.is_head(name)
    }
    if not params:
        raise ValueError(f"prunable.pattern={pattern!r}: no weight of a layer has such a name")
    return params


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ROWS_ARE_OUTPUTS = (nn.Linear, nn.MultiheadAttention, *_CONVOLUTIONS)  # weights [out, in, ...]
_PRODUCTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layer that each weight of a matrix product (or a convolution) belongs to, by its name.

    Tables that are looked up in and norms are left out.
    """
    layers: dict[str, nn.Module] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1 and name in _PRODUCTS:
                layers[f"{prefix}.{name}" if prefix else name] = module
    return layers


def layer_weights(model: nn.Module) -> list[str]:
    """Names of the weights of all linear layers and convolutions, in module order."""
    layers = _layers(model)
    return [name for name, _ in model.named_parameters() if name in layers]


def chosen_parameters(model: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> Params:
    """The weights of linear layers and convolutions that `wanted` (given a weight's name and its
    layer) says yes to, of a model of any family.

    Raises: ValueError when there are none, or they are not [out, in].
    """
    layers = _layers(model)
    named = dict(model.named_parameters())
    params: Params = {n: p for n, p in named.items() if n in layers and wanted(n, layers[n])}
    if not params:
        raise ValueError(f"none of the {len(layers)} weights of layers is chosen to be prunable")
    _refuse_other_layouts(model, params)
    return params


def encoder_names(model: nn.Module) -> set[str]:
    """Names of the encoder's linear weights, whatever may be pruned of them: all but the head's,
    the pooler's and the embeddings'.
    """
    family = family_of(model)
    outside = (family.head, family.pooler, family.embeddings)
    return {
        name
        for name, layer in _layers(model).items()
        if _matches(family.encoder, name)
        or not (isinstance(layer, _CONVOLUTIONS) or any(_matches(group, name) for group in outside))
    }


def left_out(model: nn.Module, prunable: Params) -> list[str]:
    """Names of the weights of matrix products and convolutions that stay whole, in order: those of
    the head and the embeddings are not told.
    """
    family = family_of(model)
    return [
        name
        for name in _layers(model)
        if name not in prunable and not family.is_head(name) and not family.is_embedding(name)
    ]


def _refuse_left_out(model: nn.Module, family: Family) -> None:
    known = (family.encoder, family.convolutions, family.patch_embedding, family.embeddings)
    outside = [
        name
        for name, layer in _layers(model).items()
        if isinstance(layer, _CONVOLUTIONS) and not family.is_head(name)
    ]
    names = sorted(
        name
        for name in {*encoder_names(model), *outside}
        if not any(_matches(group, name) for group in known)
    )
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(
            f"model {type(model).__name__} is no whole {family.name}: {', '.join(names[:3])}{more} "
            "would be left out; prunable.pattern=REGEX says what is meant"
        )


def _refuse_other_layouts(model: nn.Module, params: Params) -> None:
    layers = _layers(model)
    for name in params:
        layer = layers.get(name)
        if layer is not None and not isinstance(layer, _ROWS_ARE_OUTPUTS):
            raise ValueError(
                f"{name} is the weight of a {type(layer).__name__}, which may not be [out, in]: "
                "rows, columns and inputs would be confused, so it cannot be pruned"
            )


def denominators(model: nn.Module, prunable: Params) -> dict[str, int]:
    """Sizes, in weights, of the four sets over which papers state sparsity.

    `prunable` is what this run may remove, `encoder` the encoder's linear weights,
    `non_embedding` all parameters but embeddings, `model` all parameters.
    """
    family = family_of(model)
    named, encoder = list(model.named_parameters()), encoder_names(model)
    return {
        "prunable": sum(p.numel() for p in prunable.values()),
        "encoder": sum(p.numel() for n, p in named if n in encoder),
        "non_embedding": sum(p.numel() for n, p in named if not _matches(family.embeddings, n)),
        "model": sum(p.numel() for _, p in named),
    }


def stacked_names(model: nn.Module, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` whose weight holds query, key and value, one stacked on the other."""
    pattern = family_of(model).qkv
    return frozenset(name for name in names if _matches(pattern, name))


def layer_counts(model: nn.Module, masks: Params) -> dict[str, dict[str, int]]:
    """Kept and total weights per layer, a stacked qkv weight reported as its three thirds.

    Returns: `{layer: {"kept": int, "total": int}}`; a layer is a parameter name without `.weight`.
    """
    stacked = stacked_names(model, masks)
    counts: dict[str, dict[str, int]] = {}
    for name, mask in masks.items():
        layer = name.removesuffix(".weight")
        parts = {layer: mask}
        if name in stacked:
            stem = layer.removesuffix("qkv")
            parts = dict(zip((stem + "q", stem + "k", stem + "v"), mask.chunk(3), strict=True))
        for part, living in parts.items():
            counts[part] = {"kept": int(living.count_nonzero()), "total": living.numel()}
    return counts
