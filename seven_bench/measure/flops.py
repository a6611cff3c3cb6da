"""What a forward pass multiplies: dense, and without the removed weights.

One MAC is one multiplication with its addition (torch's own counter says 2 for it). Counted are
linear layers, convolutions, matrix products and attention: as the model calls them, before a
backend is chosen, so that a CPU and a GPU give the same number. Additions of biases, norms,
activations and softmax are left out, as the field does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

CONVENTION = "1 MAC = 1 multiplication + 1 addition; linear, convolution, attention"


@dataclass(frozen=True)
class Macs:
    """MACs of one call: `dense` as if nothing was removed, `masked` without removed weights."""

    dense: int
    masked: int


def count_macs(
    forward: Callable[[], Any], params: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> Macs:
    """MACs of one call of `forward`.

    Args:
        forward: calls the model.
        params: the weights that `masks` are about, the very tensors that the model uses.
        masks: bool, of the weights' shapes; a weight without a mask is whole.

    Raises: NotImplementedError on a product that is not known how to count.
    """
    counter = _Counter({id(params[name]): mask for name, mask in masks.items()})
    with torch.no_grad(), counter:
        forward()
    return Macs(counter.dense, counter.masked)


class _Counter(TorchFunctionMode):
    def __init__(self, masks: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.masks = masks
        self.dense = self.masked = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in UNKNOWN:
            raise NotImplementedError(f"MACs of {func.__name__} are not counted")
        if func in COUNTED:
            names, rule = COUNTED[func]
            inputs = dict(zip(names, args, strict=False)) | kwargs
            counted = rule(output, *(inputs[name] for name in names))
            for part in counted if isinstance(counted, list) else [counted]:
                self._add(*part)
        return output

    def _add(self, times: int, weight: Tensor | None, size: int, rows: slice = slice(None)) -> None:
        """`times` products with each of the `size` entries of (those rows of) `weight`, where it is
        one.
        """
        mask = self.masks.get(id(weight))
        self.dense += times * size
        self.masked += times * (size if mask is None else int(mask[rows].count_nonzero()))


Part = tuple[int, "Tensor | None", int] | tuple[int, "Tensor | None", int, slice]
Rule = Callable[..., Part | list[Part]]


def _linear(output: Tensor, value: Tensor, weight: Tensor) -> tuple[int, Tensor, int]:
    return value.numel() // value.shape[-1], weight, weight.numel()


def _convolution(output: Tensor, value: Tensor, weight: Tensor) -> tuple[int, Tensor, int]:
    return output.numel() // output.shape[-3], weight, weight.numel()  # once a place of the output


def _product(output: Tensor, left: Tensor, right: Tensor) -> tuple[int, None, int]:
    return output.numel(), None, left.shape[-1]


def _added_product(output: Tensor, added: Tensor, left: Tensor, right: Tensor) -> Any:
    return _product(output, left, right)


def _attention(output: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[int, None, int]:
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return pairs, None, query.shape[-1] + value.shape[-1]


def _multi_head(
    output: Any, query: Tensor, key: Tensor, projections: Tensor, last: Tensor
) -> list[Part]:
    """nn.MultiheadAttention as one call: query, key and value lie along the rows of one weight, and
    inputs are [tokens, batch, width].
    """
    width = query.shape[-1]
    asked, looked_at = (value.numel() // value.shape[-1] for value in (query, key))
    return [
        (asked, projections, width * width, slice(0, width)),
        (looked_at, projections, 2 * width * width, slice(width, 3 * width)),
        (asked * key.shape[0], None, 2 * width),
        (asked, last, last.numel()),
    ]


#: How a call is counted, by torch's function: its first arguments' names, and the rule.
COUNTED: dict[Any, tuple[tuple[str, ...], Rule]] = {
    F.linear: (("input", "weight"), _linear),
    F.conv2d: (("input", "weight"), _convolution),
    F.multi_head_attention_forward: (
        (
            "query",
            "key",
            "value",
            "embed_dim_to_check",
            "num_heads",
            "in_proj_weight",
            "in_proj_bias",
            "bias_k",
            "bias_v",
            "add_zero_attn",
            "dropout_p",
            "out_proj_weight",
        ),
        lambda output, *given: _multi_head(output, given[0], given[1], given[5], given[11]),
    ),
    F.scaled_dot_product_attention: (("query", "key", "value"), _attention),
    **dict.fromkeys((torch.matmul, torch.mm, torch.bmm), (("input", "other"), _product)),
    **dict.fromkeys(
        (Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm), (("self", "other"), _product)
    ),
    **dict.fromkeys((torch.addmm, torch.baddbmm), (("input", "left", "right"), _added_product)),
}
UNKNOWN = frozenset(
    (
        torch.einsum, torch.tensordot, torch.bilinear, F.bilinear, F.conv1d, F.conv3d,
        F.conv_transpose2d, torch.chain_matmul,
        torch.mv, torch.dot, torch.addmv, torch.addbmm, Tensor.__rmatmul__,
    )
)  # fmt: skip
