"""Many runs as one table: `seven-bench collect RESULTS --out records.parquet`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seven_bench.store.atomic import replacing

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = """Collects the records of runs, or offline W&B runs, into one Parquet or CSV file.
A damaged record is named and left out."""


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 1 when nothing was found."""
    parser = argparse.ArgumentParser(prog="seven-bench collect", description=DESCRIPTION)
    parser.add_argument(
        "results", nargs="*", type=Path, help="folders of runs, or result.json files"
    )
    parser.add_argument("--wandb", type=Path, metavar="DIR", help="read offline W&B runs below DIR")
    parser.add_argument(
        "--out", type=Path, default=Path("records.parquet"), help=".parquet or .csv to write"
    )
    given = parser.parse_args(argv)
    if not given.results and given.wandb is None:
        parser.error("name folders of runs, or --wandb DIR")
    if given.out.suffix not in (".parquet", ".csv"):
        print(f"error: --out {given.out}: allowed are .parquet and .csv", file=sys.stderr)
        return 1
    if given.wandb is not None:
        frame, left_out = _wandb_frame(given.wandb)
    else:
        from seven_bench.results.collect import collect

        collected = collect(given.results)
        frame, left_out = collected.records, [(str(p), why) for p, why in collected.damaged]
    for path, why in left_out:
        print(f"left out: {path}: {why}", file=sys.stderr)
    if frame.empty:
        print("error: no complete run was found there", file=sys.stderr)
        return 1
    with replacing(given.out) as draft:
        if given.out.suffix == ".csv":
            frame.to_csv(draft, index=False)
        else:
            frame.to_parquet(draft, index=False)
    print(f"{len(frame)} runs in {given.out}" + (f", {len(left_out)} left out" if left_out else ""))
    return 0


def _wandb_frame(folder: Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    import pandas as pd

    from seven_bench.results.wandb_offline import read_offline_runs

    runs, unread = read_offline_runs(folder)
    rows = [
        {
            "name": run.name,
            "group": run.group,
            "job_type": run.job_type,
            "state": run.state,
            "exit_code": run.exit_code,
            "seed": run.config.get("seed"),
            "sparsity": run.config.get("sparsity"),
            **{k: v for k, v in run.summary.items() if k.startswith("final/")},
            "path": str(run.path),
        }
        for run in runs
    ]
    return pd.DataFrame(rows), [(str(path), why) for path, why in unread]


if __name__ == "__main__":
    sys.exit(main())
