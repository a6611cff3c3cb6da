"""Files of a finished sweep, and of one at work, cut short or with a bit turned over."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.endurance.sweep import ROOT, command, environment, left, same, sweep

NAMES = ("result.json", "masks.safetensors", "config.yaml")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def check(folder: Path) -> None:
    given = ("pruner=seven_dyn,snip", "sparsity=0.8", "seed=0,1,2")
    root = folder / "sweep"
    sweep(root, *given)
    whole = left(root)
    runs = [path.parent for path in sorted(root.rglob("result.json")) if "/dense/" not in str(path)]
    cases = [(name, way) for name in NAMES for way in (cut, flip)]
    for (name, way), run in zip(cases, runs, strict=True):
        way(run / name)
    said = sweep(root, *given)
    assert f"{len(runs)} runs: 0 done, {len(runs)} to do" in said, said
    for (name, way), run in zip(cases, runs, strict=True):
        (line,) = (line for line in said.splitlines() if line.startswith(f"damaged: {run}:"))
        print(f"  {way.__name__:4} {line.removeprefix(f'damaged: {run}: ')}")
        assert name in line
    same(left(root), whole)
    _weights(root, whole, given)
    for way in (cut, flip):
        _checkpoint(folder / way.__name__, way, given, whole)


def _weights(root: Path, whole: dict[str, tuple[object, ...]], given: tuple[str, ...]) -> None:
    """A dense start's weights are read whole by whoever begins from them."""
    dense, *_ = sorted((root / "runs/digits").rglob("dense/s0/*"))
    flip(dense / "model.safetensors")
    for run in (root / "runs/digits/vit_digits/snip").rglob("seed0-*"):
        shutil.rmtree(run)
    said = sweep(root, *given)
    assert "model.safetensors does not fit its checksum" in said, said
    print("  flip model.safetensors of the dense start: does not fit its checksum; done again")
    same(left(root), whole)


def _checkpoint(
    root: Path,
    way: Callable[[Path], None],
    given: tuple[str, ...],
    whole: dict[str, tuple[object, ...]],
) -> None:
    line = command(root, *given, "trainer.checkpoint_every=0.3")
    process = subprocess.Popen(
        line, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (found := [p for p in root.rglob("last.ckpt") if "/seven_dyn/" in str(p)]):
        assert time.monotonic() < deadline and process.poll() is None, "there was no checkpoint"
        time.sleep(0.02)
    process.kill()
    process.wait()
    way(found[0])
    said = sweep(root, *given)
    told = [line for line in said.splitlines() if "last.ckpt cannot be read" in line]
    assert told and "training starts anew" in told[0], said
    print(f"  {way.__name__:4} {told[0][told[0].index('last.ckpt') :]}")
    same(left(root), whole)
