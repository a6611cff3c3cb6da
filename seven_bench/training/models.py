"""Plain transformers models of a stated shape, with random weights and the head of a task.

timm's models need no help: a model's YAML names its class. All are float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

HEADS = ("classification", "span")


def text_model(*, head: str, classes: int, model_type: str, **shape: Any) -> nn.Module:
    """An encoder of texts.

    Args:
        head: "classification" (`classes` outputs; 1 is a regression) or "span" (start and end).
        classes: outputs of the classifier.
        model_type: transformers' name of the architecture, as "bert".
        shape: what its configuration takes.

    Raises: ValueError on an unknown head, or a setting that the architecture does not have.
    """
    from transformers import AutoConfig

    if head not in HEADS:
        raise ValueError(f"head={head}: allowed are {', '.join(HEADS)}")
    labels = {"num_labels": classes} if head == "classification" else {}
    config = AutoConfig.for_model(model_type, **shape, **labels)
    return from_config(_text_class(head), config)


def clip_model(
    *, text: dict[str, Any], vision: dict[str, Any], model_type: str = "clip", **shape: Any
) -> nn.Module:
    """CLIP's two towers (Radford et al. 2021, arXiv 2103.00020), or SigLIP's (Zhai et al. 2023,
    arXiv 2303.15343), of the shapes given; CLIP's has a `projection_dim`.

    Raises: ValueError on another `model_type`.
    """
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    kinds: dict[str, tuple[Any, Any]] = {
        "clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel),
    }  # fmt: skip
    if model_type not in kinds:
        raise ValueError(f"model_type={model_type}: allowed are {', '.join(kinds)}")
    config, model = kinds[model_type]
    return from_config(model, config(text_config=text, vision_config=vision, **shape))


def _text_class(head: str) -> Any:
    import transformers

    return {
        "classification": transformers.AutoModelForSequenceClassification,
        "span": transformers.AutoModelForQuestionAnswering,
    }[head]


def from_config(kind: Any, config: Any) -> nn.Module:
    """A model of a class of transformers, with random weights in float32."""
    build = getattr(kind, "from_config", None) or kind._from_config
    model: nn.Module = build(config, dtype=torch.float32)
    return model
