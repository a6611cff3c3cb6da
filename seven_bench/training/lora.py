"""LoRA on masked layers (peft): what is added to a removed weight is masked too.

The function that is trained is that of the merged weights: W + mask * (B A) * alpha / rank. So
merging changes nothing, and removed weights are exactly 0 in it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners.lora import Linear, LoraModel
from torch import Tensor, nn

from seven_bench.pruning import MaskSet
from seven_bench.training.finetune import Finetune

NAME = "default"  # of peft's adapter


class MaskedLinear(Linear):
    """peft's linear layer, with a mask on what it adds. `mask` is bool, of the weight's shape."""

    mask: Tensor

    def effective_weight(self) -> Tensor:
        """The weight that this layer stands for."""
        up, down = self.lora_B[NAME], self.lora_A[NAME]
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        added = up.weight @ down.weight * self.scaling[NAME]
        weight: Tensor = self.plain.weight + added * self.mask
        return weight

    @property
    def plain(self) -> nn.Linear:
        """The layer as it was."""
        assert isinstance(self.base_layer, nn.Linear)
        return self.base_layer

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return F.linear(x, self.effective_weight(), self.plain.bias)


class Adapters:
    """LoRA's additions to a model, until `remove`: the model itself is changed meanwhile.

    Args:
        model: the plain model, pruned before.
        masks: over its prunable weights; those of linear layers get an addition.
        finetune: rank and alpha.
    """

    def __init__(self, model: nn.Module, masks: MaskSet, finetune: Finetune) -> None:
        kinds = dict(model.named_modules())
        names = [name.removesuffix(".weight") for name, _ in masks.items()]
        targets = [name for name in names if isinstance(kinds[name], nn.Linear)]
        config = LoraConfig(
            r=finetune.rank,
            lora_alpha=finetune.alpha,  # type: ignore[arg-type]
            target_modules=targets,
            lora_dropout=0.0,
        )
        config._register_custom_module({nn.Linear: MaskedLinear})
        self._tuner = LoraModel(model, config, NAME)
        by_name = dict(masks.items())
        for name in targets:
            layer = model.get_submodule(name)
            mask = by_name[f"{name}.weight"]
            layer.register_buffer("mask", mask)  # saved, for an interrupted run to go on with

    @torch.no_grad()
    def merged_state(self, model: nn.Module) -> dict[str, Tensor]:
        """The merged weights under the plain model's names."""
        layers = {n: m for n, m in model.named_modules() if isinstance(m, MaskedLinear)}
        state = {
            name.replace(".base_layer.", "."): value
            for name, value in model.state_dict().items()
            if ".lora_" not in name and name.removesuffix(".mask") not in layers
        }
        for name, layer in layers.items():
            state[f"{name}.weight"] = layer.effective_weight().detach()
        return state

    def remove(self) -> None:
        """Gives the model its own layers back, as they were: what was added is gone."""
        self._tuner.unload()
