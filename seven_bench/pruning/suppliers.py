"""What scores need beyond the weights, supplied batch by batch while a model is scored.

A score names its needs; each has a supplier below, made once and then called with every batch. It
returns what it supplies by the need's name (and `grads`, where it has them). A new need is a row of
`seven_bench.pruning.needs.NEEDS` and a function here that `supplies` it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from seven_bench.pruning.needs import NEEDS
from seven_bench.pruning.prunable import Params
from seven_bench.pruning.pruner import Pruner
from seven_bench.pruning.scores import Linearisation, zeros

Loss = Callable[[Any], Tensor]
Supply = Callable[[Any], dict[str, Params]]


@dataclass(frozen=True)
class ScoringContext:
    """A model being scored: what suppliers work on.

    `dense` holds the start's weights; `params`, the model's own, have the removed ones at zero.
    `given` are the masks that a method takes from elsewhere, none for most.
    `reduce` takes the mean of what is gathered over the processes that share a batch, `examples`
    parts a batch into batches of one.
    """

    model: nn.Module
    params: Params
    dense: Params
    loss: Loss
    batches: Iterable[Any]
    pruner: Pruner
    reduce: Callable[[Params], Params]
    examples: Callable[[Any], list[Any]]
    given: Params = field(default_factory=dict)


Supplier = Callable[[ScoringContext], Supply]
SUPPLIERS: dict[str, Supplier] = {}


def supplies(need: str) -> Callable[[Supplier], Supplier]:
    """Registers the supplier of a row of `NEEDS`."""

    def register(supplier: Supplier) -> Supplier:
        if need not in NEEDS or need in SUPPLIERS:
            raise ValueError(f"need={need!r}: no row of NEEDS, or supplied already")
        SUPPLIERS[need] = supplier
        return supplier

    return register


def gradients(loss: Tensor, params: Params, create_graph: bool = False) -> Params:
    """The gradient of a scalar loss, per parameter.

    Raises: ValueError when it is no scalar, not finite, or a parameter takes no part in the loss.
    """
    if loss.numel() != 1:
        raise ValueError(f"the loss of a batch is one number, not of shape {[*loss.shape]}")
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss on a calibration batch is {float(loss.detach())}")
    parts = torch.autograd.grad(
        loss, list(params.values()), create_graph=create_graph, allow_unused=True
    )
    grads = {}
    for name, gradient in zip(params, parts, strict=True):
        if gradient is None:
            raise ValueError(f"{name} takes no part in the loss: it cannot be scored")
        grads[name] = gradient
    return grads


@supplies("gradients")
def _gradients(context: ScoringContext) -> Supply:
    return lambda batch: {"grads": context.reduce(gradients(context.loss(batch), context.params))}


@supplies("given_masks")
def _given_masks(context: ScoringContext) -> Supply:
    if context.given.keys() != context.params.keys():
        raise ValueError("a method that takes masks from elsewhere was given none of these weights")
    return lambda _: {"given_masks": context.given}


def hessian_gradient(loss: Tensor, params: Params, direction: Params) -> Params:
    """H v, by differentiating the product of the gradient with a constant v.

    Fused attention kernels have no second derivative: call the loss inside `second_order`.
    """
    grads = gradients(loss, params, create_graph=True)
    product = sum((grads[name] * direction[name]).sum() for name in params)
    return gradients(torch.as_tensor(product), params)


def second_order() -> Any:
    """Attention by plain matrix products, which can be differentiated twice."""
    return sdpa_kernel(SDPBackend.MATH)


@supplies("hessian_gradient")
def _hessian_gradient(context: ScoringContext) -> Supply:
    """Two passes: g over all batches, then H g batch by batch with that one g."""
    mean, count = zeros(context.params), 0
    with second_order():
        for count, batch in enumerate(context.batches, 1):  # noqa: B007
            for name, gradient in gradients(context.loss(batch), context.params).items():
                mean[name] += gradient
    mean = context.reduce({name: total / count for name, total in mean.items()})

    def supply(batch: Any) -> dict[str, Params]:
        with second_order():
            product = hessian_gradient(context.loss(batch), context.params, mean)
        return {"grads": mean, "hessian_gradient": context.reduce(product)}

    return supply


@supplies("example_squares")
def _example_squares(context: ScoringContext) -> Supply:
    """Each example by itself: a batch's gradient would let examples cancel."""

    def supply(batch: Any) -> dict[str, Params]:
        squares, parts = zeros(context.params), context.examples(batch)
        for part in parts:
            for name, gradient in gradients(context.loss(part), context.params).items():
                squares[name].addcmul_(gradient, gradient, value=1 / len(parts))
        return {"example_squares": context.reduce(squares)}

    return supply


def blocks(names: Iterable[str]) -> list[list[str]]:
    """Parameter names by Transformer block, in order: what is common up to the first number."""
    by_block: dict[str, list[str]] = {}
    for name in names:
        block = re.match(r".*?\.\d+\.", name)
        by_block.setdefault(block.group() if block else name, []).append(name)
    return list(by_block.values())


@supplies("activations")
def _activations(context: ScoringContext) -> Supply:
    return _block_after_block(context, "activations", lambda inputs: inputs.square().sum(0))


@supplies("grams")
def _grams(context: ScoringContext) -> Supply:
    return _block_after_block(context, "grams", lambda inputs: inputs.T @ inputs)


def _block_after_block(
    context: ScoringContext, need: str, of: Callable[[Tensor], Tensor]
) -> Supply:
    """Shows a score something of each layer's inputs, block after block: each sees inputs that the
    blocks pruned before it have made.

    All of it happens before the first batch is counted as a step; nothing is left to supply then.

    Raises: ValueError on a weight whose layer was not called by itself.
    """
    pruner = context.pruner
    for names in blocks(context.params):
        for batch in context.batches:
            with torch.no_grad(), input_sums(context, names, batch, of) as sums:
                context.loss(batch)
            if unseen := [name for name in names if name not in sums]:
                raise ValueError(
                    f"{unseen[0]}: what it is multiplied with is not seen, for its module computes "
                    f"several products at once; a score that needs {need} cannot prune it"
                )
            size = len(context.examples(batch))
            means = context.reduce({name: total / size for name, total in sums.items()})
            pruner.observe(context.dense, supplied={need: means})
        update = pruner.proposed(context.dense)
        weights = update.weights or context.dense
        with torch.no_grad():
            for name in names:
                torch.mul(weights[name], update.masks[name], out=context.params[name].data)
    return lambda _: {}


@contextmanager
def input_sums(
    context: ScoringContext, names: Sequence[str], batch: Any, of: Callable[[Tensor], Tensor]
) -> Iterator[Params]:
    """Fills a dict with `of` each layer's inputs, float32 [tokens, d_in], in a forward pass.

    Tokens that the batch's attention mask leaves out do not count.
    """
    sums: Params = {}
    texts = batch.get("prompts", batch) if isinstance(batch, Mapping) else {}
    padding = texts.get("attention_mask")
    owner = {id(context.params[name]): name for name in names}

    def watch(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        seen, name = inputs[0].float(), owner[id(layer.weight)]
        if isinstance(layer, nn.Conv2d):
            windows: Any = (layer.kernel_size, layer.dilation, layer.padding, layer.stride)
            seen = F.unfold(seen, *windows).transpose(1, 2)
        if padding is not None and padding.shape == seen.shape[:-1]:
            seen = seen[padding.bool()]
        total = of(seen.reshape(-1, seen.shape[-1]))
        sums[name] = sums.get(name, torch.zeros_like(total)) + total

    layers = [m for m in context.model.modules() if id(getattr(m, "weight", None)) in owner]
    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


@supplies("linear_gradient")
def _linear_gradient(context: ScoringContext) -> Supply:
    linearisation = context.pruner.method.score.linearisation

    def supply(batch: Any) -> dict[str, Params]:
        with linearised(context.model, linearisation):
            total = context.loss(batch)
            grads = torch.autograd.grad(total, list(context.params.values()), allow_unused=True)
        flow = {
            name: torch.zeros_like(p, dtype=torch.float64) if gradient is None else gradient
            for (name, p), gradient in zip(context.params.items(), grads, strict=True)
        }
        return {"linear_gradient": context.reduce(flow)}

    return supply


@contextmanager
def linearised(model: nn.Module, linearisation: Linearisation) -> Iterator[None]:
    """Inside, the model is linear with weights |w|, in float64, and a loss is its mean output.

    Norms, activations and divisions by tensors pass their input on, positions are 0, the images'
    pixels and all embeddings are 1; attention and biases are what `linearisation` says.
    """
    linear = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    kept = {id(m.weight) for m in linear}
    if linearisation.biases == "absolute":
        kept |= {id(m.bias) for m in linear if m.bias is not None}
    before = {parameter: parameter.data for parameter in model.parameters()}
    try:
        for parameter, data in before.items():
            double = data.double()
            parameter.data = double.abs() if id(parameter) in kept else torch.zeros_like(double)
        with _Linear(linearisation.attention):
            yield
    finally:
        for parameter, data in before.items():
            parameter.data = data


class _Linear(TorchFunctionMode):
    NORMS = ("layer_norm", "rms_norm", "batch_norm", "group_norm", "normalize")
    IDENTITY = frozenset((*NORMS, "gelu", "relu", "silu", "tanh", "dropout", "float"))
    DIVISION = frozenset(("div", "true_divide", "__truediv__"))

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.attention = attention

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in self.IDENTITY or (name in self.DIVISION and torch.is_tensor(args[1])):
            return args[0]
        if name == "scaled_dot_product_attention":
            if self.attention == "softmax":  # a mask of added numbers is float32 still
                return func(*map(_doubled, args), **{k: _doubled(v) for k, v in kwargs.items()})
            query, key, value = args[:3]
            return query + key.mean(-2, keepdim=True) + value.mean(-2, keepdim=True)
        if name == "sigmoid":  # of activations such as x * sigmoid(1.702 x)
            return torch.ones_like(args[0])
        if name == "embedding":
            weight = args[1]
            return torch.ones(*args[0].shape, weight.shape[1], dtype=weight.dtype).to(weight.device)
        if name == "linear":
            return func(args[0].double(), *args[1:], **kwargs)
        if name == "conv2d":
            return func(torch.ones_like(args[0], dtype=args[1].dtype), *args[1:], **kwargs)
        if name in ("cross_entropy", "mse_loss", "binary_cross_entropy_with_logits"):
            return args[0].mean()
        if name == "softmax" and self.attention != "softmax":
            raise ValueError("linearised scoring needs attention by scaled_dot_product_attention")
        return func(*args, **kwargs)


def _doubled(argument: Any) -> Any:
    """A tensor of floating numbers in float64, anything else as it is."""
    floating = torch.is_tensor(argument) and argument.is_floating_point()
    return argument.double() if floating else argument


def tempered(loss: Loss, temperature: float) -> Loss:
    """The loss with logits divided by a temperature wherever a cross-entropy is taken.

    It raises ValueError where none is: the temperature would do nothing.
    """

    def softened(batch: Any) -> Tensor:
        with _Tempered(temperature) as mode:
            value = loss(batch)
        if not mode.taken:
            raise ValueError(
                f"calibration.temperature={temperature:g}: the task's loss has no cross-entropy, "
                "so it would do nothing; allowed is null"
            )
        return value

    return softened


class _Tempered(TorchFunctionMode):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature, self.taken = temperature, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") == "cross_entropy":
            args, self.taken = (args[0] / self.temperature, *args[1:]), True
        return func(*args, **(kwargs or {}))
