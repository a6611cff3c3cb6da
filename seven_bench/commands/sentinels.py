"""`seven-bench sentinels RUNS`: what finished runs keep of steady and noisy weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.commands.options import (
    add_plugins,
    add_unsealed,
    declare_plugins,
    print_left_out,
    print_problems,
)
from seven_bench.errors import ConfigError

if TYPE_CHECKING:
    from seven_bench.results.sentinel_rows import SentinelRow
    from seven_bench.running.sentinel_analysis import Analysed

SPLITS = ("validation", "test")  # held out of training: no score has seen them
EPILOG = """\
Gradients are taken on the validation split (or the test split), which no method scores on and no
weight is trained on, in full batches. Where it is small, batches are drawn from it several times
over, in a new order each time: what noise alone would show is told of the distinct examples, not of
the batches. A run that is analysed already with the same settings is left as it is.

examples:
  seven-bench sentinels outputs
  seven-bench sentinels outputs/runs/digits --batches 256 --batch-size 16
  seven-bench report outputs --out outputs/report     # shows it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="folders to search for finished runs"
    )
    parser.add_argument(
        "--batches", type=int, default=64, metavar="N", help="batches (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="B", help="examples a batch (default: that of training)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, default=SPLITS[0], help="examples (default: %(default)s)"
    )
    parser.add_argument("--dropout", action="store_true", help="leave dropout on")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    add_plugins(parser)
    add_unsealed(parser)


def main(options: argparse.Namespace) -> int:
    """Analyses what it can. Returns 1 after one line for each thing that went wrong."""
    declare_plugins(options)
    if options.batches < 4:
        raise ConfigError(f"--batches {options.batches}: allowed is a whole number from 4")
    if options.batch_size is not None and options.batch_size < 1:
        raise ConfigError(f"--batch-size {options.batch_size}: allowed is a whole number from 1")
    from seven_bench.running.sentinel_analysis import Options, analyse, find_runs, group_runs

    runs, problems = find_runs(options.runs, options.unsealed)
    if not runs:
        problems.append("no finished, pruned run was found there")
    chosen = Options(
        options.batches, options.batch_size, options.split, options.dropout, options.device
    )
    analyses: list[tuple[Analysed, dict[str, Any]]] = []
    for group in group_runs(runs):
        try:
            analyses += analyse(group, chosen)
        except (OSError, ValueError) as error:
            problems.append(f"{group[0].folder}: {str(error).splitlines()[0]}")
    _print_table(analyses)
    print_left_out((), [run.folder for run in runs if not run.sealed])
    print_problems(problems)
    return 1 if problems else 0


def _print_table(analyses: Sequence[tuple[Analysed, dict[str, Any]]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from seven_bench.results.collect import tabulate
    from seven_bench.results.groups import split_groups
    from seven_bench.results.sentinel_rows import tabulate_analyses
    from seven_bench.results.tables import format_sparsity
    from seven_bench.terminal import console as make_console

    groups = split_groups(tabulate((run.record, run.folder) for run, _ in analyses))
    console = make_console()
    for found in tabulate_analyses(groups, {str(run.folder): of for run, of in analyses}):
        table = Table(
            title=Text(found.title, style="bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
        )
        for head in _HEADS:
            table.add_column(head, justify="left" if head == "method" else "right")
        for row in found.rows:
            table.add_row(format_sparsity(row.sparsity), Text(row.method), *_tell(row))
        console.print(table)
        for line in found.doubts:
            console.print(line, style="yellow", highlight=False, markup=False)
        caption = f"Share kept near the cut. {found.caption}\n"
        console.print(caption, style="dim", highlight=False, markup=False)


_HEADS = (
    *("sparsity", "method", "sentinels", "temporary", "GSNR kept", "by sensitivity"),
    *("c kept", "seeds"),
)


def _tell(row: SentinelRow) -> list[str]:
    return [
        *(f"{100 * share:.1f} %" for share in row.cut),
        f"{row.gsnr:.3f}",
        f"{row.by_sensitivity:.3f}",
        f"{row.evenness:.3f}",
        str(row.seeds),
    ]
