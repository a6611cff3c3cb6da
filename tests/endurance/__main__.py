"""`python -m tests.endurance [PART ...]`. Exit code 1 when something does not hold."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

PARTS = {
    "kills": "24 runs, killed ten times over: the same results, and nothing is trained twice",
    "damage": "cut and flipped records, masks, weights, checkpoints: found, said, done again",
    "launchers": "24 runs under every launcher: the same masks and metrics; the time of each",
    "memory": "60 runs in one process: the memory that it takes does not grow",
    "signals": "30 signals at random moments under every launcher; full disks; two at once",
    "fuzz": "records, configs and Parquet files changed at random: no traceback, hang or lie",
    "records": "5,000 records: collected, reported, opened and filtered in a browser",
}


def main(given: list[str]) -> int:
    options = _parse(given)
    if options.case is not None:
        from tests.endurance.fuzz import again

        with tempfile.TemporaryDirectory(prefix="endurance_case_") as folder:
            again(Path(folder), options.case)
        return 0
    failed = []
    for name in options.parts or PARTS:
        print(f"{name}: {PARTS[name]}", flush=True)
        more = {"minutes": options.minutes, "seed": options.seed} if name == "fuzz" else {}
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=f"endurance_{name}_") as folder:
            try:
                importlib.import_module(f"tests.endurance.{name}").check(Path(folder), **more)
            except AssertionError as error:
                failed.append(name)
                print(f"  does not hold: {error}", flush=True)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    print(f"does not hold: {', '.join(failed)}" if failed else "all of it holds")
    return 1 if failed else 0


def _parse(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.endurance")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzz")
    parser.add_argument("--seed", type=int, default=0, help="of fuzz: other cases")
    parser.add_argument("--case", type=int, help="this one of fuzz again, with its traceback")
    options = parser.parse_args(given)
    if odd := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no part {odd[0]}; known are {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
