"""An elementwise update of a score's state: in place, one pass over memory, not one an operation.

`torch.compile` reaches that floor but costs seconds once, so it is used from `COMPILED_FROM`
weights on. Below, and where nothing can be compiled, the same function runs operation by operation
over chunks that stay in a core's cache. Size alone decides, and on a CPU both give the same bits,
as long as the function leaves out what does not round each product and sum by itself: `sqrt`
(MKL's errs in the last bit and is slow on denormals; take `rsqrt` and `reciprocal`), `lerp`,
`addcmul`, `alpha=`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from seven_bench.pruning.prunable import Params

log = logging.getLogger(__name__)

COMPILED_FROM = 5_000_000  # weights
CHUNK = 1 << 18  # 1 MiB of float32


class Fused:
    """`update(*tensors, *constants)` for every parameter.

    Args:
        update: a module's function, elementwise over flat tensors of one length (one from each
            group of the call) and then numbers; it writes into those tensors that are state.

    `path` says which way it ran last: "compiled" or "eager"; None before the first call.
    """

    def __init__(self, update: Callable[..., None]) -> None:
        self.update = update
        self.path: str | None = None
        self._compiles: dict[torch.device, bool] = {}

    @torch.no_grad()
    def __call__(self, *groups: Params, constants: tuple[float, ...] = ()) -> None:
        """Updates. `groups` are in the order of `update`'s tensors and agree in names and shapes;
        those written to are contiguous.
        """
        rows = [[group[name].detach().reshape(-1) for group in groups] for name in groups[0]]
        size = sum(row[0].numel() for row in rows)
        large = size >= COMPILED_FROM
        path = "compiled" if large and self._can_compile(rows[0], constants) else "eager"
        if path != self.path:
            level = logging.INFO if large else logging.DEBUG  # small ones are always eager
            log.log(level, "%s of %s weights: %s", self.update.__name__, f"{size:,}", path)
        self.path = path
        for row in rows:
            if self.path == "compiled":
                _compiled(self.update)(*row, *constants)
                continue
            chunks: Any = [tensor.split(CHUNK) for tensor in row]  # type: ignore[no-untyped-call]
            for chunk in zip(*chunks, strict=True):
                self.update(*chunk, *constants)

    def _can_compile(self, row: list[torch.Tensor], constants: tuple[float, ...]) -> bool:
        device = row[0].device
        if device not in self._compiles:
            probe = [tensor[:64].clone() for tensor in row]
            self._compiles[device] = _compiles(self.update, probe, constants)
        return self._compiles[device]


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
