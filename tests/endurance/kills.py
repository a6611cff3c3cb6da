"""A sweep that is killed at random moments, and started again each time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

from tests.endurance.sweep import ROOT, RUNS, command, environment, left, same, sweep

KILLS = 10
MOMENTS = (5.0, 20.0)  # seconds after a start


def check(folder: Path) -> None:
    sweep(folder / "whole")
    root, account = folder / "killed", folder / "account"
    chance = random.Random(0)
    moments = []
    while len(moments) < KILLS:
        moment = chance.uniform(*MOMENTS)
        assert _live(root, account, moment) is None, f"done before kill {len(moments) + 1}"
        moments.append(moment)
        with account.open("a") as file:
            for record in root.rglob("result.json"):
                file.write(f"done 0 {record.parent}\n")
    assert _live(root, account, None) == 0
    whole = left(folder / "whole")
    assert len(whole) == RUNS + 3
    same(left(root), whole)
    trained, repeated, resumed = _count(account.read_text().splitlines())
    print(f"  killed after {', '.join(f'{moment:.1f}' for moment in moments)} s")
    print(f"  {len(whole)} runs equal those of the undisturbed sweep, byte for byte")
    print(f"  {trained} steps, {repeated} of them again from the last checkpoint ({resumed} times)")


def _live(root: Path, account: Path, seconds: float | None) -> int | None:
    """The exit code of one life of the sweep; None when it was killed."""
    line = command(root, "trainer.checkpoint_every=1", module="tests.endurance.counted")
    process = subprocess.Popen(
        line, cwd=ROOT, env=environment(ACCOUNT=str(account)), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _count(lines: list[str]) -> tuple[int, int, int]:
    """Steps trained, those trained again, and how often; asserts that no more than need be were."""
    last: dict[str, int] = {}
    written: dict[str, int] = defaultdict(int)
    done: set[str] = set()
    trained = repeated = resumed = 0
    for line in lines:
        what, number, run = line.split(" ", 2)
        step = int(number)
        if what == "done":
            done.add(run)
        elif what == "written":
            written[run] = step
        else:
            trained += 1
            assert run not in done, f"{run} was finished, and trained again"
            if step != last.get(run, -1) + 1:
                assert step == written[run], (
                    f"{run}: step {step} after {last[run]}, not a checkpoint"
                )
                repeated += last[run] + 1 - step
                resumed += 1
            last[run] = step
    assert trained > repeated
    return trained, repeated, resumed
