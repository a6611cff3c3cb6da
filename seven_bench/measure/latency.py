"""How long a forward pass takes: warmed up, repeated, taking turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

USUAL_REPEATS = 15
BUSY = 0.35  # of a core at work for others, before a measurement begins


@dataclass(frozen=True)
class Seconds:
    """Of a call, over its repeats: the median, and the quartiles around it."""

    median: float
    low: float
    high: float


def median_seconds(
    ways: Mapping[str, Callable[[], Any]], repeats: int = USUAL_REPEATS, warm: int = 3
) -> dict[str, float]:
    """Median seconds of a call of each way, see `time_in_turns`."""
    found = time_in_turns(ways, repeats, warm)
    return {name: seconds.median for name, seconds in found.items()}


def time_in_turns(
    ways: Mapping[str, Callable[[], Any]], repeats: int = USUAL_REPEATS, warm: int = 3
) -> dict[str, Seconds]:
    """Seconds of a call of each way.

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
    return {name: _summary(values) for name, values in seconds.items()}


def _summary(values: list[float]) -> Seconds:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Seconds(median, low, high)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def busy_cores(seconds: float = 0.5) -> float | None:
    """Cores that others keep busy, measured over a moment; None where it cannot be told. This
    process' own threads, which may spin while they wait for work, are left out.
    """
    try:
        before, own = _busy_ticks(), time.process_time()
        time.sleep(seconds)
        busy = (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK")
        return max(0.0, busy - (time.process_time() - own)) / seconds
    except (OSError, ValueError, IndexError):
        return None


def _busy_ticks() -> float:
    with open("/proc/stat") as file:
        user, nice, system = file.readline().split()[1:4]
    return float(user) + float(nice) + float(system)
