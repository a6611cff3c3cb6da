"""`seven-bench export RUN --to TARGET`: a finished run's model, outside."""

from __future__ import annotations

import argparse
from pathlib import Path

from seven_bench.commands.options import (
    add_plugins,
    add_unsealed,
    declare_plugins,
    print_left_out,
    print_problems,
)
from seven_bench.errors import ConfigError

TARGETS = {
    "packed": "one small safetensors file: a bit a weight, and the values that live",
    "csr": "a CPU model whose pruned linear layers take the form that is measured fastest: zeros\n"
    "          skipped (csr), empty rows and columns cut (compacted), dense by oneDNN, or as it is",
    "smaller": "a model without its removed heads and neurons (extra `smaller`; pattern=head, ...)",
    "nm": "2:4 on an NVIDIA GPU that supports it (a run with pattern=nm_2_4)",
    "hf": "a folder that transformers or timm open without this package, with a model card",
    "onnx": "an ONNX file with the zeros in it (extra `onnx`)",
    "latency": "no file: dense, dense by oneDNN, csr and smaller, where they are there, in turns",
}
EPILOG = (
    "targets:\n"
    + "".join(f"  {name:8}{what}\n" for name, what in TARGETS.items())
    + """
Every export is checked: its logits are held against those of the run's model, and a file that does
not agree is not left behind. smaller is up to three things: model.smaller.safetensors, which
`seven_bench.export.smaller.load_smaller` opens; model.smaller.pt2, a program of torch.export; and
model.smaller/, a folder for transformers, where its config can say the shape. All but packed
and hf are timed beside the dense model, at the batch sizes given; what was measured goes into the
run's record, under `efficiency`, and so into the report. Measure on a machine that does nothing
else. hf is the folder hf/: `from_pretrained`, or timm's `local-dir:`, opens it; its README.md says
how, and the command that puts it on the hub.

examples:
  seven-bench export outputs/runs/digits/vit_digits/seven_pre/s0.9 --to packed
  seven-bench export outputs/runs/glue-sst2 --to csr --batch 1 32 128
  seven-bench export outputs/runs/digits --to latency
  seven-bench export outputs/runs/glue-sst2 --to hf
"""
)


def main(options: argparse.Namespace) -> int:
    """Exports what it can. Returns 1 after one line for each thing that went wrong."""
    declare_plugins(options)
    if odd := [size for size in options.batch if size < 1]:
        raise ConfigError(f"--batch {odd[0]}: allowed is a whole number from 1")
    from seven_bench.export.runs import LATENCY, export_run, print_latencies, print_table
    from seven_bench.results.collect import find_finished

    runs, problems = find_finished(options.runs, options.unsealed)
    if not runs and not problems:
        problems.append("no finished run was found there")
    done = []
    for run in runs:
        try:
            done.append(export_run(run, options.to, options.batch, options.data_root))
        except (OSError, ValueError) as error:
            problems.append(f"{run.folder}: {str(error).splitlines()[0]}")
    if done:
        (print_latencies if options.to == LATENCY else print_table)(done)
    print_left_out((), [run.folder for run in runs if not run.sealed])
    print_problems(problems)
    return 1 if problems else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--to", required=True, choices=list(TARGETS), help="see below")
    parser.add_argument(
        "--batch", nargs="+", type=int, default=[1, 32], metavar="B",
        help="batch sizes to time (default: 1 32)",
    )  # fmt: skip
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data lie now (default: as in the run)"
    )
    add_plugins(parser)
    add_unsealed(parser)
