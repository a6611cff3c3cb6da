"""What one run in a process must not leave behind for the next, and what is recorded of it."""

from __future__ import annotations

import gc
import itertools
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

PACKAGES = (
    "torch", "pytorch-lightning", "hydra-core", "omegaconf", "timm", "transformers",
    "torchmetrics", "safetensors", "numpy",
)  # fmt: skip
LEFT_BEHIND = (
    "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
_begun = itertools.count()  # runs of this process
COMPILE_SWITCH = "TORCH_COMPILE_DISABLE"


def reset_process(seed: int, threads: int, deterministic: bool) -> None:
    """Puts the process into the state that a run begins in, whatever ran in it before.

    Args:
        seed: of the three global generators; data order and scoring have generators of their own.
        threads: CPU threads of torch.
        deterministic: refuse operations that do not repeat bit for bit.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "RANK" not in os.environ:
        for name in LEFT_BEHIND:
            os.environ.pop(name, None)
    # read at the first product on a GPU: a later run of the process may be the first to ask for it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    switches: Any = torch.utils.deterministic
    switches.fill_uninitialized_memory = False  # we read none
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = deterministic
    if "timm.layers" in sys.modules:
        sys.modules["timm.layers"].set_fused_attn(True)
    _free(next(_begun))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    pl.seed_everything(seed, workers=True, verbose=False)


def _free(run: int) -> None:
    """Frees what runs before this one left. Models, trainers and optimizers refer to each other in
    circles, and Python by itself waits for some twenty small runs, however large their tensors. It
    does not look again at what stands when the second run begins, which are modules: that is most
    of the time that it takes.
    """
    if run:
        gc.collect()
    if run == 1:
        gc.freeze()


def random_state() -> dict[str, Any]:
    """The state of the three global generators (and the GPUs'), for `restore_random_state`.

    Tensors and plain values alone, so that a checkpoint of it loads with `weights_only`.
    """
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Gives the generators the state that `random_state` returned."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])


@contextmanager
def uncompiled(wanted: bool) -> Iterator[None]:
    """Inside, nothing is compiled, where that is wanted: few steps never earn back what it takes.
    It is told by torch's own switch, which other runs of the process do not see.
    """
    before = os.environ.get(COMPILE_SWITCH)
    if wanted and before is None:
        os.environ[COMPILE_SWITCH] = "1"
    try:
        yield
    finally:
        if wanted and before is None:
            os.environ.pop(COMPILE_SWITCH, None)


def environment(threads: int, deterministic: bool, outside: dict[str, str]) -> dict[str, Any]:
    """Versions (those of packages from `outside` as given), code and hardware, for the record."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "versions": {**versions, **outside},
        "git": _git_commit(),
        "hardware": torch.cuda.get_device_name() if _on_gpu() else _processor(),
        "threads": threads,
        "deterministic": deterministic,
    }


def _git_commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x{len(names)}" if names else platform.machine()


def _on_gpu() -> bool:
    """Whether anything since `reset_process` has been on a GPU; there may be one left alone."""
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0


def peak_memory_bytes() -> int:
    """The largest memory this run has taken on a GPU, or this process on a CPU."""
    if _on_gpu():
        return int(torch.cuda.max_memory_allocated())
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
