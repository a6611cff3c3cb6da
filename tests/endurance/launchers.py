"""The sweep under every launcher that is installed: equal results; wall time against one by one."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

from tests.endurance.sweep import left, same, sweep

LAUNCHERS = {
    "parallel": "hydra_plugins.hydra_joblib_launcher",
    "ray_local": "hydra_plugins.hydra_ray_launcher",
    "slurm_local": "hydra_plugins.hydra_submitit_launcher",
}


def check(folder: Path) -> None:
    basic = _timed(folder / "basic")
    print(f"  one by one: {basic:.0f} s; 1 thread a run")
    wanted = left(folder / "basic")
    for name, plugin in LAUNCHERS.items():
        if find_spec("hydra_plugins") is None or find_spec(plugin) is None:
            print(f"  {name}: not installed")
            continue
        seconds = _timed(folder / name, f"hydra/launcher={name}")
        same(left(folder / name), wanted)
        print(f"  {name}: {seconds:.0f} s, {basic / seconds:.2f} times as fast; all files equal")


def _timed(root: Path, *more: str) -> float:
    began = time.perf_counter()
    sweep(root, *more)
    return time.perf_counter() - began
