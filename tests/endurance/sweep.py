"""The sweep of all parts: 24 runs on digits, and the three dense ones that they begin from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from seven_bench.store.record import read_record

ROOT = Path(__file__).parents[2]
RUNS = 24
GIVEN = (
    "-m", "pruner=seven_dyn,seven_pre,snip,platon", "sparsity=0.8,0.95", "seed=0,1,2",
    "trainer.threads=1", "logger=none", "progress=false",
)  # fmt: skip
FILES = ("masks.safetensors", "model.safetensors", "metrics.csv")


def command(root: Path, *more: str, module: str = "seven_bench") -> list[str]:
    """The sweep's command line, writing below `root`."""
    settings = {word.split("=")[0]: word for word in (*GIVEN, f"output_root={root}", *more)}
    return [sys.executable, "-m", module, *settings.values()]


def sweep(root: Path, *more: str) -> str:
    """Runs it to its end; returns what it printed."""
    done = subprocess.run(
        command(root, *more), capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **more}


def left(root: Path) -> dict[str, tuple[Any, ...]]:
    """What matters of every run below `root`: masks, weights and curves as bytes, and metrics."""
    found = {}
    for path in sorted(root.rglob("result.json")):
        record = read_record(path)
        files = tuple((path.parent / name).read_bytes() for name in FILES)
        found[record["run_id"]] = (record["metrics"], record["mask_hash"], *files)
    return found


def same(found: dict[str, tuple[Any, ...]], wanted: dict[str, tuple[Any, ...]]) -> None:
    """Asserts that two sweeps have left the same, byte for byte."""
    assert found.keys() == wanted.keys(), f"other runs: {sorted(found.keys() ^ wanted.keys())[:3]}"
    for name, values in wanted.items():
        for what, ours, theirs in zip(
            ("metrics", "hash", *FILES), found[name], values, strict=True
        ):
            assert ours == theirs, f"{name}: {what} differ"
