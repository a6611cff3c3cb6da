"""`python -m tests.endurance [PART ...]`. Exit code 1 when something does not hold."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path

PARTS = {
    "kills": "24 runs, killed ten times over: the same results, and nothing is trained twice",
    "damage": "cut and flipped records, masks, weights, checkpoints: found, said, done again",
    "launchers": "24 runs under every launcher: the same masks and metrics; the time of each",
    "records": "5,000 records: collected, reported, opened and filtered in a browser",
}


def main(chosen: list[str]) -> int:
    if odd := [name for name in chosen if name not in PARTS]:
        sys.exit(f"error: no part {odd[0]}; known are {', '.join(PARTS)}")
    failed = []
    for name in chosen or PARTS:
        print(f"{name}: {PARTS[name]}", flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=f"endurance_{name}_") as folder:
            try:
                importlib.import_module(f"tests.endurance.{name}").check(Path(folder))
            except AssertionError as error:
                failed.append(name)
                print(f"  does not hold: {error}", flush=True)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    print(f"does not hold: {', '.join(failed)}" if failed else "all of it holds")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
