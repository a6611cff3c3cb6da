"""`trainer.compile=true`: a training step's forward and backward pass through `torch.compile`.

The plain model stays the one there is: its names, its weights, its masks. Scores, evaluation and
files never see the compiled one, so what needs a second derivative (of which compiled code has
none) works as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._dynamo import config as dynamo
from torch.fx.experimental import _config

from seven_bench.errors import ConfigError

shapes: Any = _config
# What is chosen by a measurement would differ from run to run, and from a run to its resumption.
OPTIONS: dict[str, Any] = {"deterministic": True, "shape_padding": False}


class Compiled:
    """A model whose calls are compiled within `at_work`.

    Args:
        model: plain, on its device.
        varying: whether batches differ in shape, as texts do: one code then serves all of them,
            whichever came first. Else there is one a shape.

    Raises: ConfigError where torch cannot compile.
    """

    def __init__(self, model: nn.Module, varying: bool) -> None:
        torch._dynamo.reset()  # what an earlier run of this process compiled counts towards a limit
        _probe(next(model.parameters()).device)
        self.model = model
        self._call = torch.compile(model._call_impl, dynamic=varying, options=OPTIONS)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Calls of the model are compiled here: what `nn.Module.compile` does, for a while."""
        model: Any = self.model
        model._compiled_call_impl = self._call
        try:
            # sizes that happen to be equal are not taken for one; never part of a run uncompiled
            with shapes.patch(use_duck_shape=False), dynamo.patch(fail_on_recompile_limit_hit=True):
                yield
        finally:
            model._compiled_call_impl = None


def _probe(device: torch.device) -> None:
    try:
        torch.compile(_twice, options=OPTIONS)(torch.ones(8, device=device))
    except Exception as error:  # no compiler, no Triton: torch raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"trainer.compile=true: torch cannot compile here ({reason}); allowed is false"
        ) from error


def _twice(value: torch.Tensor) -> torch.Tensor:
    return value + value
