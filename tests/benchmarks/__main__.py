"""`python -m tests.benchmarks [GROUP ...]`."""

from __future__ import annotations

import importlib
import sys
import time

import torch

from tests.benchmarks import page, timing

GROUPS = ("step", "selection", "state", "loop", "inference", "batches", "second_order", "smaller")
GPU, PAGE = "gpu", "page"  # by name alone


def main(chosen: list[str]) -> None:
    known = (*GROUPS, GPU, PAGE)
    odd = [name for name in chosen if name not in known]
    if odd:
        sys.exit(f"error: no group {odd[0]}; known are {', '.join(known)}")
    if GPU in chosen and not torch.cuda.is_available():
        sys.exit("error: gpu: no CUDA device")
    for name in (name for name in chosen or GROUPS if name != PAGE):
        began = time.perf_counter()
        rows = importlib.import_module(f"tests.benchmarks.{name}").rows()
        timing.write(name, rows)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    if PAGE in chosen:
        page.write(GROUPS)
    print(timing.table())


if __name__ == "__main__":
    main(sys.argv[1:])
