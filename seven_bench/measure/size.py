"""What a mask leaves of a model: weights and the four sparsities."""

from __future__ import annotations

from typing import Any

from torch import nn

from seven_bench.pruning import MaskSet, Params, denominators, layer_counts
from seven_bench.pruning.prunable import encoder_names, left_out


def small_sizes(
    model: nn.Module, whole: nn.Module, params: Params, target: float, of: Params
) -> dict[str, Any]:
    """What `sizes` gives, of a small dense model that stands for a pruned one: fractions are of the
    `whole` model's weights that the small one lacks, and it has no layers to be compared.

    Args:
        model, params: the small model and its prunable weights.
        whole, of: the model that it stands for and the prunable weights of that; shapes suffice.
        target: the sparsity that was asked for.
    """
    own, total = denominators(model, params), denominators(whole, of)
    lacking = {name: 1 - own[name] / total[name] for name in total}
    return {
        "sparsity": {"target": target, **lacking},
        "params": {"prunable": total["prunable"], "kept": own["prunable"], "model": total["model"]},
        "layers": {},
    }


def sizes(model: nn.Module, masks: MaskSet, target: float) -> dict[str, Any]:
    """The `sparsity`, `params` and `layers` of a record, and the names of the weights that are
    `left_out` of what may be removed.

    Args:
        model: the plain model.
        masks: over its prunable weights.
        target: the sparsity that was asked for.
    """
    totals = denominators(model, dict(masks.items()))
    removed = masks.total - masks.kept
    in_encoder = encoder_names(model)
    encoder = {name: mask for name, mask in masks.items() if name in in_encoder}
    removed_in_encoder = sum(m.numel() - int(m.count_nonzero()) for m in encoder.values())
    return {
        "sparsity": {
            "target": target,
            "prunable": removed / totals["prunable"],
            "encoder": removed_in_encoder / totals["encoder"],
            "non_embedding": removed / totals["non_embedding"],
            "model": removed / totals["model"],
        },
        "params": {"prunable": masks.total, "kept": masks.kept, "model": totals["model"]},
        "layers": layer_counts(model, masks),
        "left_out": left_out(model, dict(masks.items())),
    }
