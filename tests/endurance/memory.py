"""60 runs in one process: its memory at the end is that after run 5, within 3 %.

`python -m tests.endurance.memory FOLDER` is that process; it tells its memory after each run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.endurance.sweep import ROOT, command, environment

RUNS, EARLY = 60, 5
MORE = 0.03
GIVEN = ("pruner=seven_dyn,seven_pre,snip,platon", "sparsity=0.8,0.9,0.95", "seed=range(5)")
WORD = "resident: "


def check(folder: Path) -> None:
    given = command(folder, *GIVEN, module="tests.endurance.memory")
    done = subprocess.run(given, capture_output=True, text=True, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith(WORD))
    found = [int(line.removeprefix(WORD)) / 2**20 for line in lines]
    assert len(found) == RUNS, f"{len(found)} runs"
    some = ", ".join(f"{found[run - 1]:.0f}" for run in (1, 5, 10, 20, 40, 60))
    print(f"  MiB after run 1, 5, 10, 20, 40, 60: {some}")
    early, late = found[EARLY - 1], found[-1]
    assert late <= (1 + MORE) * early, f"{early:.0f} MiB after run {EARLY}, {late:.0f} at the end"


def _main() -> None:
    import psutil

    from seven_bench.__main__ import main
    from seven_bench.commands import run

    real, process = run.perform, psutil.Process()

    def perform(composed: object) -> object:
        value = real(composed)
        print(f"{WORD}{process.memory_info().rss}", file=sys.stderr, flush=True)
        return value

    run.perform = perform
    sys.exit(main())


if __name__ == "__main__":
    _main()
