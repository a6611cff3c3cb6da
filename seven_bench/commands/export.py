"""`seven-bench export RUN --to packed|csr|nm|onnx`: a finished run's model, outside."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

TARGETS = {
    "packed": "one small safetensors file: a bit a weight, and the values that live",
    "csr": "a CPU model whose linear layers skip zeros where that is measured to be faster",
    "nm": "2:4 on an NVIDIA GPU that supports it (a run with pattern=nm_2_4)",
    "onnx": "an ONNX file with the zeros in it (extra `onnx`)",
}
_EPILOG = """\
Every export is checked: its logits are held against those of the run's model, and a file that does
not agree is not left behind. csr, nm and onnx are timed beside the dense model, at the batch sizes
given; what was measured goes into the run's record, under `efficiency`, and so into the report.
Measure on a machine that does nothing else.

examples:
  seven-bench export outputs/runs/digits/vit_digits/seven_pre/s0.9 --to packed
  seven-bench export outputs/runs/glue-sst2 --to csr --batch 1 32 128
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 1 after one line for each thing that went wrong."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if odd := [size for size in given.batch if size < 1]:
        parser.error(f"--batch {odd[0]}: allowed is a whole number from 1")
    from seven_bench.export.runs import export_run, print_table
    from seven_bench.results.collect import find_finished

    problems: list[str] = []
    try:
        runs, problems = find_finished(given.runs)
    except OSError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    if not runs and not problems:
        problems.append("no finished run was found there")
    done = []
    for run in runs:
        try:
            done.append(export_run(run, given.to, given.batch, given.data_root))
        except (OSError, ValueError) as error:
            problems.append(f"{run.folder}: {str(error).splitlines()[0]}")
    if done:
        print_table(done)
    for problem in problems:
        print(f"export: {problem}", file=sys.stderr)
    return 1 if problems else 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="seven-bench export",
        description="Write the models of finished runs in a form that profits from their zeros.",
        epilog="targets:\n"
        + "".join(f"  {name:8}{what}\n" for name, what in TARGETS.items())
        + "\n"
        + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--to", required=True, choices=list(TARGETS), help="see below")
    parser.add_argument(
        "--batch", nargs="+", type=int, default=[1, 32], metavar="B",
        help="batch sizes to time (default: 1 32)",
    )  # fmt: skip
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data lie now (default: as in the run)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
