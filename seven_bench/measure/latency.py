"""How long a forward pass takes: warmed up, repeated, taking turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

BUSY = 0.35  # of a core at work for others, before a measurement begins


def median_seconds(
    ways: Mapping[str, Callable[[], Any]], repeats: int = 15, warm: int = 3
) -> dict[str, float]:
    """Median seconds of a call of each way.

    They take turns, so that a slow moment of the machine hits all of them. A GPU is waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for turn in range(warm + repeats):
            for name, way in ways.items():
                _wait()
                began = time.perf_counter()
                way()
                _wait()
                if turn >= warm:
                    seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def busy_cores(seconds: float = 0.5) -> float | None:
    """Cores that others keep busy, measured over a moment; None where it cannot be told."""
    try:
        before = _busy_ticks()
        time.sleep(seconds)
        return (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
    except (OSError, ValueError, IndexError):
        return None


def _busy_ticks() -> float:
    with open("/proc/stat") as file:
        user, nice, system = file.readline().split()[1:4]
    return float(user) + float(nice) + float(system)
