"""`python -m tests.benchmarks [GROUP ...]`."""

from __future__ import annotations

import importlib
import sys
import time

from tests.benchmarks import timing

GROUPS = ("step", "selection", "state", "loop", "inference", "batches")


def main(chosen: list[str]) -> None:
    odd = [name for name in chosen if name not in GROUPS]
    if odd:
        sys.exit(f"error: no group {odd[0]}; known are {', '.join(GROUPS)}")
    for name in chosen or GROUPS:
        began = time.perf_counter()
        rows = importlib.import_module(f"tests.benchmarks.{name}").rows()
        timing.write(name, rows)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    print(timing.table())


if __name__ == "__main__":
    main(sys.argv[1:])
