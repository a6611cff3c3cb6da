"""Signals at random moments of sweeps, disks that are full at ten sizes, two sweeps on one folder.

The disk is a tmpfs of that size in a user namespace (`unshare`), which needs no rights; where the
system allows none, that is said and left out.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from tests.commands.test_signals import LAUNCHERS, living, states
from tests.endurance.sweep import ROOT, command, environment, left, same, sweep

MOMENTS = 30
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
GIVEN = (
    "pruner=snip", "start=init", "trainer.max_epochs=1,2", "seed=0,1", "sparsity=0.8",
    "trainer.checkpoint_every=0.2",
)  # fmt: skip
RUNS = 4
DISKS = (16, 64, 128, 256, 384, 512, 640, 768, 1024, 1536)  # KiB


def check(folder: Path) -> None:
    began = time.monotonic()
    sweep(folder / "whole", *GIVEN)
    seconds = time.monotonic() - began
    wanted = left(folder / "whole")
    assert len(wanted) == RUNS
    _two_at_once(folder / "two", wanted)
    _full_disks(folder, wanted)
    for launcher, plugin in LAUNCHERS:
        if plugin and (find_spec("hydra_plugins") is None or find_spec(plugin) is None):
            print(f"  {launcher}: {plugin} is not installed; not tried")
            continue
        _signals(folder / launcher, launcher, 1.2 * seconds, wanted)


def _start(root: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(root, *GIVEN, *more), cwd=ROOT, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _signals(
    root: Path, launcher: str, longest: float, wanted: dict[str, tuple[object, ...]]
) -> None:
    """Lives of one sweep, each ended by a signal; a sweep that comes to its end begins anew."""
    chance, codes, ends = random.Random(launcher), Counter[str](), 0
    killed = False  # such a run is told by its silence alone
    for number in range(MOMENTS):
        what = SIGNALS[number % len(SIGNALS)]
        process = _start(root, f"hydra/launcher={launcher}")
        time.sleep(chance.uniform(0.2, longest))
        if process.poll() is None:
            if what == signal.SIGINT:  # a terminal tells all of them
                os.killpg(process.pid, what)
            else:
                process.send_signal(what)
        try:
            output, errors = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:  # somebody holds its output, if it is gone itself
            raise AssertionError(f"{what.name}: no end; there are {living(root)}") from None
        code = process.returncode
        codes[f"{what.name} {code}"] += 1
        if code != 0:
            # before Python has set up what answers a signal, the system ends it
            allowed = {-what} if what == signal.SIGKILL else {128 + what, -what}
            assert code in allowed, f"{what.name}: exit code {code}\n{output}{errors}"
            if code == 128 + what:
                assert errors.count(f"interrupted by {what.name}:") == 1, errors
        assert "Traceback" not in errors or code == -what, errors
        end = time.monotonic() + 5
        while (orphans := living(root)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not orphans, f"{what.name}: {orphans[0]} lives on"
        found = states(root)
        assert "failed" not in found, f"{what.name}: {found}"
        killed = killed or what == signal.SIGKILL
        assert killed or code == -what or "running" not in found, f"{what.name}: {found}"
        if found.count("done") == RUNS:
            same(left(root), wanted)
            ends, killed = ends + 1, False
            shutil.rmtree(root)
    sweep(root, *GIVEN, f"hydra/launcher={launcher}")
    same(left(root), wanted)
    told = ", ".join(f"{name}: {count}" for name, count in sorted(codes.items()))
    print(f"  {launcher}: {MOMENTS} signals (exit codes: {told}), no orphan;")
    print(f"    {ends + 1} sweeps came to their end, each byte for byte as undisturbed")


def _two_at_once(root: Path, wanted: dict[str, tuple[object, ...]]) -> None:
    both = [_start(root), _start(root)]
    for process in both:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output + errors
        assert "Traceback" not in errors, errors
    same(left(root), wanted)
    print("  two sweeps on one folder at once: both end well, and nothing is run twice or lost")


#: A sweep on a disk of $1 KiB, what it says, then the same on one that is large enough.
SCRIPT = """
set -u
size=$1; disk=$2; out=$3; shift 3
mount -t tmpfs -o size=${size}k none "$disk" || exit 77
"$@" > "$out/told" 2>&1; echo $? > "$out/code"
(cd "$disk" && find . -type f -print0 | xargs -0 -r ls -s) > "$out/files"
cat $(find "$disk" -name status.json) > "$out/states" 2> "$out/none"
mount -o remount,size=64m none "$disk"
"$@" > "$out/again" 2>&1; echo $? > "$out/code2"
cp -a "$disk/." "$out/left"
"""


def _full_disks(folder: Path, wanted: dict[str, tuple[object, ...]]) -> None:
    disk = folder / "disk"
    disk.mkdir()
    full = 0
    for size in DISKS:
        out = folder / f"disk{size}"
        (out / "left").mkdir(parents=True)
        line = [str(size), str(disk), str(out), *command(disk, *GIVEN)]
        try:
            done = subprocess.run(
                ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", *line], cwd=ROOT, env=environment()
            )
        except FileNotFoundError:
            done = None
        if done is None or done.returncode in (1, 77):
            print("  full disks: this system lets nobody mount a tmpfs; not tried")
            return
        told, code = (out / "told").read_text(), (out / "code").read_text().strip()
        assert "Traceback" not in told, told
        if code != "0":
            full += 1
            assert "No space left on device" in told and str(disk) in told, told
        assert '"running"' not in (out / "states").read_text(), f"{size} KiB: still running"
        assert ".tmp" not in (out / "files").read_text(), f"{size} KiB: a partial file"
        assert (out / "code2").read_text().strip() == "0", (out / "again").read_text()
        same(left(out / "left"), wanted)
    assert full >= len(DISKS) // 2, f"only {full} of {len(DISKS)} disks were too small"
    print(f"  {len(DISKS)} disks of {DISKS[0]} to {DISKS[-1]} KiB, {full} too small: said with the")
    print("    path, no run left as running, no partial file; the same command then ends well")
