"""How often the host waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

SAID = "called a synchronizing CUDA operation"


def host_waits(work: Callable[[], object]) -> int:
    """How often the host waits for the GPU during a call, as torch's debug mode counts it."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum(SAID in str(warning.message) for warning in found)
