"""Which weights may be removed (a table row per model family), and what sparsity is stated over.

Biases, norms, embeddings, positional tables and classifiers are never prunable. The pooler and the
patch embedding are, when asked for. A new family is a new row of `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Parameter names of one architecture, as regular expressions over the module's own names.

    `encoder` matches the weights of the encoder's linear layers, `qkv` those among them that hold
    query, key and value stacked along the rows; `pooler` and `patch_embedding` are the optional
    groups; `embeddings` matches what the non-embedding count leaves out; `head` is what a task puts
    on top, never prunable.
    """

    name: str
    encoder: str
    embeddings: str
    qkv: str = ""
    pooler: str = ""
    patch_embedding: str = ""
    head: str = ""

    def is_head(self, name: str) -> bool:
        return _matches(self.head, name)

    def is_embedding(self, name: str) -> bool:
        return _matches(self.embeddings, name)


def _matches(pattern: str, name: str) -> bool:
    return bool(pattern) and re.search(rf"(^|\.){pattern}$", name) is not None


FAMILIES = (
    Family(
        name="timm_vit",
        encoder=r"blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])\.weight",
        qkv=r"attn\.qkv\.weight",
        patch_embedding=r"patch_embed\.proj\.weight",
        embeddings=r"(cls_token|reg_token|dist_token|pos_embed|patch_embed\..*)",
        head=r"(head|head_dist|fc_norm)\..*",
    ),
    Family(
        name="bert",
        encoder=r"encoder\.layer\.\d+\.(attention\.self\.(query|key|value)|attention\.output\.dense"
        r"|intermediate\.dense|output\.dense)\.weight",
        pooler=r"pooler\.dense\.weight",
        embeddings=r"embeddings\..*",
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
        patch_embedding=r"vision_model\.embeddings\.patch_embedding\.weight",
        embeddings=r"(text|vision)_model\.embeddings\..*",
        head=r"(text_projection\.weight|visual_projection\.weight|logit_scale)",
    ),
)
OPTIONS = ("pooler", "patch_embedding")


def family_of(model: nn.Module) -> Family:
    """The row of `FAMILIES` whose encoder weights the model has.

    Raises: ValueError when no row matches: the model has no prunable weights that we know of.
    """
    # peft puts a layer's own weight one level down
    names = [name.replace(".base_layer.", ".") for name, _ in model.named_parameters()]
    for family in FAMILIES:
        if any(_matches(family.encoder, name) for name in names):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ValueError(
        f"model {type(model).__name__} has no prunable weights: known families are {known}; "
        "a new family is a row of FAMILIES in seven_bench/pruning/prunable.py"
    )


def prunable_parameters(model: nn.Module, include: Iterable[str] = ()) -> Params:
    """The weights that may be removed, by the module's own parameter names, in module order.

    Args:
        model: a plain timm or transformers model (tied parameters appear once).
        include: optional groups to add to the encoder's linear weights, of `OPTIONS`.

    Raises:
        ValueError: unknown family or option, or an option that this family does not have.
    """
    family = family_of(model)
    patterns = [family.encoder]
    for option in include:
        if option not in OPTIONS:
            raise ValueError(f"prunable.include={option!r}: allowed are {', '.join(OPTIONS)}")
        pattern = getattr(family, option)
        if not any(_matches(pattern, name) for name, _ in model.named_parameters()):
            raise ValueError(f"prunable.include={option!r}: {type(model).__name__} has none")
        patterns.append(pattern)
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if any(_matches(pattern, name) for pattern in patterns)
    }


def denominators(model: nn.Module, prunable: Params) -> dict[str, int]:
    """Sizes, in weights, of the four sets over which papers state sparsity.

    `prunable` is what this run may remove, `encoder` the encoder's linear weights,
    `non_embedding` all parameters but embeddings, `model` all parameters.
    """
    family = family_of(model)
    named = list(model.named_parameters())
    return {
        "prunable": sum(p.numel() for p in prunable.values()),
        "encoder": sum(p.numel() for n, p in named if _matches(family.encoder, n)),
        "non_embedding": sum(p.numel() for n, p in named if not _matches(family.embeddings, n)),
        "model": sum(p.numel() for _, p in named),
    }


def encoder_names(model: nn.Module) -> set[str]:
    """Names of the encoder's linear weights, whatever options add to the prunable ones."""
    pattern = family_of(model).encoder
    return {name for name, _ in model.named_parameters() if _matches(pattern, name)}


def layer_counts(model: nn.Module, masks: Params) -> dict[str, dict[str, int]]:
    """Kept and total weights per layer, a stacked qkv weight reported as its three thirds.

    Returns: `{layer: {"kept": int, "total": int}}`; a layer is a parameter name without `.weight`.
    """
    pattern = family_of(model).qkv
    counts: dict[str, dict[str, int]] = {}
    for name, mask in masks.items():
        layer = name.removesuffix(".weight")
        parts = {layer: mask}
        if _matches(pattern, name):
            stem = layer.removesuffix("qkv")
            parts = dict(zip((stem + "q", stem + "k", stem + "v"), mask.chunk(3), strict=True))
        for part, living in parts.items():
            counts[part] = {"kept": int(living.count_nonzero()), "total": living.numel()}
    return counts
