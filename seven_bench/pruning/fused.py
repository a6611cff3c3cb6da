"""An elementwise update of a score's state: in place, one pass over memory, not one an operation.

`torch.compile` reaches that floor but costs seconds once, so it is used from `COMPILED_FROM`
weights on. Below, and where nothing can be compiled, the same function runs operation by operation
over chunks that stay in a core's cache. Size alone decides, and on a CPU both give the same bits,
as long as the function leaves out what does not round each product and sum by itself: `sqrt`
(MKL's errs in the last bit and is slow on denormals; take `rsqrt` and `reciprocal`), `lerp`,
`addcmul`, `alpha=`. On a GPU a launch costs more than a tensor's update, and so does a call where
tensors are small: then all are updated as one, and what does not lie side by side (weights,
gradients) is copied so first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from seven_bench.pruning import device
from seven_bench.pruning.prunable import Params

log = logging.getLogger(__name__)

COMPILED_FROM = 5_000_000  # weights
CHUNK = 1 << 18  # 1 MiB of float32
SMALL = 1 << 15  # weights a tensor
PROBE = 1 << 18  # weights: code that is compiled for few of them runs on one thread ever after


class Fused:
    """`update(*tensors, *constants)` for every parameter.

    Args:
        update: a module's function, elementwise over flat tensors of one length (one from each
            group of the call) and then numbers; it writes into those tensors that are state.
        state: how many of the last groups are state.
        after: how many calls on so many weights come before one is compiled: who makes few of them
            does not wait for it.

    `path` says which way it ran last: "compiled" or "eager"; None before the first call.
    """

    def __init__(self, update: Callable[..., None], state: int, after: int = 0) -> None:
        self.update, self.state, self.after = update, state, after
        self.path: str | None = None
        self._calls = 0
        self._compiles: dict[torch.device, bool] = {}

    @torch.no_grad()
    def __call__(self, *groups: Params, constants: tuple[Any, ...] = ()) -> None:
        """Updates. `groups` are in the order of `update`'s tensors and agree in names and shapes;
        those written to are contiguous.
        """
        code = self.code(*groups, constants=constants)
        update = code or self.update
        if device.on_gpu(groups[0]) or (not code and _small(groups[0])):
            self._update_as_one(update, groups, constants)
            return
        if code:
            constants = as_held(constants)
        for name in groups[0]:
            row: Any = [_flat(group[name]) for group in groups]
            chunks = [(tensor,) if code else tensor.split(CHUNK) for tensor in row]
            for chunk in zip(*chunks, strict=True):
                update(*chunk, *constants)

    def code(self, *groups: Params, constants: tuple[Any, ...] = ()) -> Callable[..., None] | None:
        """The compiled update for these, or None where it runs operation by operation. On a CPU it
        takes masks as bytes and constants `as_held`.
        """
        size = sum(tensor.numel() for tensor in groups[0].values())
        large = size >= COMPILED_FROM
        self._calls += large
        compiled = large and self._calls > self.after and self._can_compile(groups, constants)
        path = "compiled" if compiled else "eager"
        if path != self.path:
            level = logging.INFO if large else logging.DEBUG  # small ones are always eager
            log.log(level, "%s of %s weights: %s", self.update.__name__, f"{size:,}", path)
        self.path = path
        return _compiled(self.update) if compiled else None

    def _update_as_one(
        self, update: Callable[..., None], groups: tuple[Params, ...], constants: tuple[Any, ...]
    ) -> None:
        for names in device.batches(groups[0]):
            parts = [[group[name] for name in names] for group in groups]
            whole = [_flat(device.joined(tensors)) for tensors in parts]
            update(*whole, *constants)
            for tensors, flat in zip(parts[-self.state :], whole[-self.state :], strict=True):
                if not device.share_memory(flat, tensors[0]):  # the state did not lie side by side
                    cut: Any = flat.split([t.numel() for t in tensors])  # type: ignore[no-untyped-call]
                    torch._foreach_copy_([t.view(-1) for t in tensors], list(cut))

    def _can_compile(self, groups: tuple[Params, ...], constants: tuple[Any, ...]) -> bool:
        if os.environ.get("TORCH_COMPILE_DISABLE") == "1":  # torch's own switch
            return False
        largest = max(groups[0], key=lambda name: groups[0][name].numel())
        row = [_flat(group[largest]) for group in groups]
        where = row[0].device
        if where not in self._compiles:
            probe = [tensor[:PROBE].clone() for tensor in row]
            if where.type == "cpu":
                constants = as_held(constants)
            self._compiles[where] = _compiles(self.update, probe, constants)
        return self._compiles[where]


def _small(params: Params) -> bool:
    """Whether a tensor by itself costs more than to be copied, and all stay in a core's cache."""
    size = sum(tensor.numel() for tensor in params.values())
    return size <= CHUNK and size < SMALL * len(params)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """[n]; masks of a CPU as bytes, for code that loads bools takes twice as long."""
    flat = tensor.detach().reshape(-1)
    return flat.view(torch.uint8) if flat.dtype == torch.bool and flat.is_cpu else flat


def as_held(constants: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers as compiled code takes them: else it would wrap each for each tensor."""
    return tuple(
        torch.tensor(c, dtype=torch.float64) if isinstance(c, float) else c for c in constants
    )


@cache
def _compiled(update: Callable[..., None]) -> Callable[..., None]:
    # one kernel for all lengths; no pool of compiler processes for it
    options: dict[str, Any] = {"compile_threads": 1}
    return torch.compile(update, dynamic=True, fullgraph=True, options=options)


def _compiles(update: Callable[..., None], probe: list[torch.Tensor], constants: Any) -> bool:
    """Whether the update can be compiled here, tried on a few copied elements."""
    # told on every machine without a GPU; not a warning that a filter would see
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        _compiled(update)(*probe, *constants)
    except Exception as error:  # no compiler, no Triton: torch raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("%s is not compiled (%s): the slower eager way", update.__name__, reason)
        return False
    return True
