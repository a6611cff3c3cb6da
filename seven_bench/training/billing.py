"""What training on an example is worth, in forward passes of the plain model.

3 where everything is trained: a gradient costs twice what a forward pass does. Where something is
frozen what is computed is counted: no gradient of its weights, nothing below the lowest that is
trained, and LoRA's additions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from seven_bench.data.task_data import TaskData
from seven_bench.training.environment import random_state, restore_random_state
from seven_bench.training.module import TaskModule

WHOLE = 3.0


def freezes(module: TaskModule) -> bool:
    """Whether some weights are left as they are."""
    return module.finetune.name not in ("full", "llrd")


def count_step(module: TaskModule, data: TaskData) -> int:
    """Operations of the loss of a batch and of its gradient, as the module is trained."""
    return _count(module, data, backward=True)


def count_forward(module: TaskModule, data: TaskData) -> int:
    """Operations of the loss of the same batch alone."""
    return _count(module, data, backward=False)


def _count(module: TaskModule, data: TaskData, backward: bool) -> int:
    (batch,) = data.calibration_batches(1, module.recipe.batch_size, 0)
    device = next(module.model.parameters()).device
    moved: Any = module.transfer_batch_to_device(batch, device, 0)
    state = random_state()
    with (
        sdpa_kernel(SDPBackend.MATH),  # products that the counter knows on every device
        torch.set_grad_enabled(backward),
        FlopCounterMode(display=False) as counter,
    ):
        loss = module.loss(moved)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
    module.zero_grad()
    restore_random_state(state)
    return int(counter.get_total_flops())
