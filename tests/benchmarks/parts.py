"""Where the time of training goes: seconds by part, each without the parts inside it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop
from pytorch_lightning.loops.fetchers import _PrefetchDataFetcher
from pytorch_lightning.loops.fit_loop import _FitLoop

from seven_bench.training.epoch_loop import EpochLoop
from seven_bench.training.finetune import AdamW
from seven_bench.training.module import TaskModule
from seven_bench.training.pruned_steps import PrunedSteps

# the first three are all that a bare loop does
PARTS: dict[str, list[tuple[Any, str]]] = {
    "forward pass and loss": [(TaskModule, "training_step")],
    "backward pass": [(pl.LightningModule, "backward")],
    "optimizer": [(AdamW, "step")],
    "scores, masks and what is not finite": [
        (PrunedSteps, "before_step"), (PrunedSteps, "_after_step"),
    ],
    "clipping": [(TaskModule, "configure_gradient_clipping")],
    "learning rate": [(torch.optim.lr_scheduler.LambdaLR, "step")],
    "batches": [(_PrefetchDataFetcher, "__next__")],
    "validation": [(_EvaluationLoop, "run")],
    "hooks and counters": [(EpochLoop, "advance")],
    "ends of epochs, curves": [(_FitLoop, "run")],
}  # fmt: skip


@contextmanager
def parted() -> Iterator[Counter[str]]:
    """Seconds by part of what runs inside; what is built inside, and not before, is seen."""
    seconds: Counter[str] = Counter()
    inner: list[float] = []  # seconds of the parts inside those under way

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - began
                seconds[part] += spent - inner.pop()
                if inner:
                    inner[-1] += spent

        return call

    with ExitStack() as stack:
        for part, places in PARTS.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        yield seconds
