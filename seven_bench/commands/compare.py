"""`seven-bench compare PAPER RESULTS`: our runs beside a paper's numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seven_bench.commands.options import add_results, add_unsealed, print_left_out
from seven_bench.errors import ConfigError
from seven_bench.settings.conf import conf_dir

if TYPE_CHECKING:
    from seven_bench.results.comparison import Comparison
    from seven_bench.results.published import Paper

GATE = "dense"  # the file of dense baselines, which every other paper's rows are checked against

EPILOG = """\
verdicts:
  matched                            our mean is within the tolerance of the published value
  not matched                        it is not
  not matched by our reconstruction  it is not, and the method has no released code
  not comparable                     the setting differs in what matters: another model, start,
                                     split, pattern, distribution or fine-tuning, a subset of the
                                     data, distillation on one side, epochs by more than a factor
                                     of 2, or dense runs of ours that miss the published ones
  too few seeds to tell              the tolerance is wider than five points
  one seed: +0.4 points              one seed has no spread: no verdict
Tolerance: what chance explains. It is built of the published standard deviation and number of
seeds (where none is printed, a known spread of the task or ours, whichever is larger), our standard
error, and the error of reading a figure, so that a perfect reproduction is "not matched" with a
chance of 0.05 at most, however many seeds there are. What differs is listed below the table.

Ordering claims ("seven_pre above snip at 0.8 on MNLI") are tested by flipping the signs of the
differences of paired seeds, corrected by Holm over all claims that have runs. Only runs of one
recipe are paired; where the seeds could not reject whatever they showed, the words are "too few
seeds to test".

examples:
  python -m seven_bench experiment=paper/seven_mrpc_sst2 output_root=outputs
  seven-bench compare seven outputs
  seven-bench compare seven outputs --task glue/mrpc --out seven.md
  seven-bench compare dense outputs
"""


def main(options: argparse.Namespace) -> int:
    """Prints the comparison, and writes it where that is asked for."""
    from seven_bench.results.collect import collect
    from seven_bench.results.comparison import FORMATS, compare_paper, limit_paper

    if options.out is not None and options.out.suffix not in FORMATS:
        raise ConfigError(f"--out {options.out}: allowed are {', '.join(FORMATS)}")
    paper, gate = _read_papers(options.paper)
    paper = limit_paper(paper, options.task)
    collected = collect(options.results, options.unsealed)
    print_left_out(collected.damaged, collected.unsealed)
    if collected.records.empty:
        where = ", ".join(map(str, options.results))
        raise ConfigError(f"no record that can be read in {where}")
    comparison = compare_paper(paper, gate, collected.records, conf_dir())
    _print(comparison, options.all)
    if options.out is not None:
        from seven_bench.store.atomic import replace_file

        replace_file(options.out, FORMATS[options.out.suffix](comparison).encode())
        rows, claims = len(comparison.rows), len(comparison.claims)
        print(f"all {rows} rows and {claims} claims in {options.out}")
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    from seven_bench.results.published import list_papers

    known = ", ".join(list_papers(conf_dir() / "paper"))
    parser.add_argument(
        "paper",
        metavar="PAPER",
        help=f"one of {known}; or a .yaml file of that form",
    )
    add_results(parser)
    parser.add_argument(
        "--task",
        nargs="+",
        metavar="TASK",
        help="these tasks only: fewer claims need fewer seeds; to be chosen before looking",
    )
    parser.add_argument("--all", action="store_true", help="print rows without runs too")
    add_unsealed(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write everything to FILE: .tex, .md, .csv or .html",
    )


def _read_papers(name: str) -> tuple[Paper, Paper | None]:
    from seven_bench.results.published import PaperError, list_papers, read_paper

    folder = conf_dir() / "paper"
    if name.endswith((".yaml", ".yml")):
        paper = read_paper(name)
    elif name in (known := list_papers(folder)):
        paper = read_paper(folder / f"{name}.yaml")
    else:
        raise PaperError(f"{name}: no such paper; known are {', '.join(known)}")
    return paper, None if name == GATE else read_paper(folder / f"{GATE}.yaml")


def _print(comparison: Comparison, everything: bool) -> None:
    from rich.markup import escape

    from seven_bench.results.comparison import to_terminal, write_sheet
    from seven_bench.terminal import console as make_console

    console, sheet = make_console(), write_sheet(comparison, everything)
    for table in to_terminal(sheet):
        console.print(table)
    for letter, words in (*sheet.notes, *sheet.commands):
        console.print(f"[bold]{letter}[/bold]  {escape(words)}", highlight=False, soft_wrap=True)
    console.print(f"\n{escape(sheet.about)}", highlight=False, style="dim")
    if sheet.missing:
        console.print(escape(sheet.missing), highlight=False, soft_wrap=True)
