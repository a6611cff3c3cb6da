"""`python -m tests.gpu [PYTEST ARGUMENTS]`: checks, and where they hold, measures."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch

CHECKED = ("tests/gpu", "tests/export/test_semi_structured.py")
WORKERS = max(1, min(8, (os.cpu_count() or 1) // 2))


def main(arguments: list[str]) -> int:
    if not torch.cuda.is_available():
        print("error: no CUDA device: nothing can be checked or measured", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    # versions beside the tested ones warn of their own; these checks are about results
    checks = [
        "pytest",
        "-o",
        "filterwarnings=default",
        "-n",
        str(WORKERS),
        "--dist",
        "worksteal",
        *CHECKED,
    ]
    for what in ([*checks, *arguments], ["tests.benchmarks", "gpu", "page"]):
        began = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", *what]).returncode
        print(f"{what[0]}: {time.perf_counter() - began:.0f} s", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
