"""Many runs as one table: `seven-bench collect RESULTS --out records.parquet`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seven_bench.commands.options import add_unsealed, print_left_out
from seven_bench.errors import ConfigError
from seven_bench.store.atomic import replacing

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """\
A damaged record, and one without a seal, is named and left out.

examples:
  seven-bench collect outputs --out records.parquet
  seven-bench collect --wandb outputs/wandb --out curves.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument(
        "results", nargs="*", type=Path, help="folders of runs, or result.json files"
    )
    parser.add_argument("--wandb", type=Path, metavar="DIR", help="read offline W&B runs below DIR")
    parser.add_argument(
        "--out", type=Path, default=Path("records.parquet"), help=".parquet or .csv to write"
    )
    add_unsealed(parser)


def main(options: argparse.Namespace) -> int:
    """Writes the table. Raises ConfigError when nothing was found."""
    if not options.results and options.wandb is None:
        raise ConfigError("name folders of runs, or --wandb DIR")
    if options.out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {options.out}: allowed are .parquet and .csv")
    unsealed: list[Path] = []
    if options.wandb is not None:
        frame, left_out = _wandb_frame(options.wandb)
    else:
        from seven_bench.results.collect import collect

        collected = collect(options.results, options.unsealed)
        frame, left_out = collected.records, [(str(p), why) for p, why in collected.damaged]
        unsealed = collected.unsealed
    print_left_out(left_out, unsealed)
    if frame.empty:
        raise ConfigError("no complete run was found there")
    from seven_bench.results.spreadsheet import to_csv, write_parquet

    with replacing(options.out) as draft:
        if options.out.suffix == ".csv":
            draft.write_text(to_csv(frame), encoding="utf-8")
        else:
            write_parquet(frame, draft)
    more = f", {len(left_out)} left out" if left_out else ""
    print(f"{len(frame)} runs in {options.out}{more}")
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
