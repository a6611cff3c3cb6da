"""`seven-bench sentinels RUNS`: what finished runs keep of steady and noisy weights.

Runs of one task, model, start and seed are analysed together, in one pass over the data at the
weights that they began from. Each run's folder gets a `sentinels.json`, which the report shows;
`seven_bench.results.sentinel_rows` has its schema.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seven_bench.results.collect import FinishedRun
    from seven_bench.results.sentinel_rows import SentinelRow
    from seven_bench.settings.identity import Config

SPLITS = ("validation", "test")  # held out of training: no score has seen them
ORDER_SEED = 104_729  # added to the run's seed: the order of examples is that of nothing else

_EPILOG = """\
Gradients are taken on the validation split (or the test split), which no method scores on and no
weight is trained on, in full batches. Where it is small, batches are drawn from it several times
over, in a new order each time: what noise alone would show is told of the distinct examples, not of
the batches. A run that is analysed already with the same settings is left as it is.

examples:
  seven-bench sentinels outputs
  seven-bench sentinels outputs/runs/digits --batches 256 --batch-size 16
  seven-bench report outputs --out outputs/report     # shows it
"""


@dataclass(frozen=True)
class Options:
    """How gradients are taken. `batch_size` None: that of the run's own training."""

    batches: int = 64
    batch_size: int | None = None
    split: str = SPLITS[0]
    dropout: bool = False
    device: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 1 after one line for each thing that went wrong."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.batches < 4:
        parser.error(f"--batches {given.batches}: allowed is a whole number from 4")
    if given.batch_size is not None and given.batch_size < 1:
        parser.error(f"--batch-size {given.batch_size}: allowed is a whole number from 1")
    options = Options(given.batches, given.batch_size, given.split, given.dropout, given.device)
    try:
        runs, problems = find_runs(given.runs)
    except OSError as error:
        print(f"sentinels: {error}", file=sys.stderr)
        return 1
    if not runs:
        problems.append("no finished, pruned run was found there")
    analyses: list[tuple[FinishedRun, dict[str, Any]]] = []
    for group in group_runs(runs):
        try:
            analyses += analyse(group, options)
        except (OSError, ValueError) as error:
            problems.append(f"{group[0].folder}: {str(error).splitlines()[0]}")
    _print_table(analyses)
    for problem in problems:
        print(f"sentinels: {problem}", file=sys.stderr)
    return 1 if problems else 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="seven-bench sentinels",
        description="Analyse what the masks of finished runs keep of steady and of noisy weights.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    return parser


def find_runs(roots: Sequence[Path]) -> tuple[list[FinishedRun], list[str]]:
    """The pruned runs at or below `roots`, and what could not be used.

    Raises FileNotFoundError for a root that does not exist.
    """
    from seven_bench.results.collect import find_finished
    from seven_bench.results.groups import DENSE

    found, problems = find_finished(roots)
    runs = []
    for run in found:
        if run.record["pruner"] != DENSE:
            # Runs may have moved since: their root is where they lie now.
            root = run.folder.parents[len(Path(run.record["run_id"]).parts)]
            runs.append(replace(run, config={**run.config, "output_root": str(root)}))
    return runs, problems


def group_runs(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs that begin from the same weights of the same task, model and seed."""
    from seven_bench.settings.identity import dense_start, identify

    groups: dict[tuple[str, ...], list[FinishedRun]] = {}
    for run in runs:
        config = run.config
        dense = config["start"]["kind"] == "dense"
        start = identify(dense_start(config)).run_id if dense else run.record["start"]
        names = (config["output_root"], run.record["task"], run.record["model"], start)
        groups.setdefault((*names, str(run.record["seed"])), []).append(run)
    return list(groups.values())


def analyse(
    runs: Sequence[FinishedRun], options: Options
) -> list[tuple[FinishedRun, dict[str, Any]]]:
    """Analyse runs of one start, write a file into each folder, and return what they hold.

    Raises ValueError or OSError when the start, the data or a mask cannot be used.
    """
    import torch
    from pytorch_lightning.utilities import move_data_to_device

    from seven_bench.data.making import make_data
    from seven_bench.measure.gradient_noise import (
        Ranked,
        measure_moments,
        measure_weights,
        noise_floor,
        summarise_mask,
    )
    from seven_bench.results.sentinel_rows import SENTINELS_FORMAT
    from seven_bench.running.run import prunable, recipe_of
    from seven_bench.settings.building import build
    from seven_bench.settings.identity import threads
    from seven_bench.store.files import MASKS, SENTINELS
    from seven_bench.store.masks import load_masks
    from seven_bench.store.record import write_json
    from seven_bench.training.environment import reset_process
    from seven_bench.training.start import starting_model

    first = runs[0].config
    recipe = recipe_of(first)
    batch_size = options.batch_size or recipe.batch_size
    wanted = {
        "split": options.split,
        "batches": options.batches,
        "batch_size": batch_size,
        "dropout": options.dropout,
    }
    done = [(run, _read_current(run, wanted)) for run in runs]
    todo = [run for run, found in done if found is None]
    finished = [(run, found) for run, found in done if found is not None]
    if not todo:
        return finished
    reset_process(first["seed"], threads(first), first["trainer"]["deterministic"])
    data = make_data(first, recipe.batch_size)
    data.setup()
    start, start_record = _find_start(first)
    model = starting_model(first, start_record)
    module = build(first["task"]["module"], model=model, recipe=recipe)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    module.to(device)
    params = {name: p for run in todo for name, p in prunable(run.config, model).items()}
    size = data.size(options.split)
    batches = held_out_batches(size, options.batches, batch_size, first["seed"] + ORDER_SEED)
    examples, floor = min(size, options.batches * batch_size), noise_floor(batches)
    split = data.splits[options.split]
    moved = (move_data_to_device(split[batch], device) for batch in batches)
    moments = measure_moments(model, params, module.loss, moved, dropout=options.dropout)
    ranked: dict[tuple[str, ...], Ranked] = {}  # methods may differ in what they may prune
    for run in todo:
        masks = load_masks(run.folder / MASKS)
        names = tuple(masks)
        if odd := [name for name in names if name not in params]:
            raise ValueError(f"{run.folder}: its masks name {odd[0]}, which is not prunable")
        if names not in ranked:
            ranked[names] = Ranked.of(measure_weights(params, moments, names))
        kept = torch.cat([mask.reshape(-1) for mask in masks.values()])
        found = {
            "format": SENTINELS_FORMAT,
            "run_id": run.record["run_id"],
            "mask_hash": run.record["mask_hash"],
            "start": start,
            "data": {**wanted, "examples": examples},
            "noise_floor": floor,
            **summarise_mask(ranked[names], kept),
        }
        write_json(run.folder / SENTINELS, found)
        finished.append((run, found))
    return finished


def _read_current(run: FinishedRun, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The analysis that is there already, if it is of these masks and settings."""
    from seven_bench.results.sentinel_rows import read_sentinels

    try:
        found = read_sentinels(run.folder)
    except ValueError:
        return None
    if found is None or found.get("mask_hash") != run.record["mask_hash"]:
        return None
    return found if wanted.items() <= found["data"].items() else None


def _find_start(config: Config) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is told of the start, and the record of a dense one."""
    from seven_bench.settings.identity import dense_start, identify
    from seven_bench.store.run_folder import RunFolder

    kind = config["start"]["kind"]
    if kind != "dense":
        return {"kind": kind, "run_id": None}, None
    identity = identify(dense_start(config))
    record = RunFolder(identity.folder(config["output_root"])).record(weights=True)
    if record is None:
        raise ValueError(f"the dense start {identity.run_id} is not there, or not whole")
    return {"kind": kind, "run_id": identity.run_id}, record


def held_out_batches(size: int, count: int, batch_size: int, seed: int) -> list[list[int]]:
    """`count` full batches of places in a split of `size` examples, in a new order each time they
    run out.

    Raises: ValueError when the split has no whole batch.
    """
    import torch

    if size < batch_size:
        raise ValueError(f"{size} examples in batches of {batch_size}: there is no whole batch")
    generator = torch.Generator().manual_seed(seed)
    batches: list[list[int]] = []
    while len(batches) < count:
        order = torch.randperm(size, generator=generator).tolist()
        whole = range(0, size - batch_size + 1, batch_size)
        batches += [order[first : first + batch_size] for first in whole]
    return batches[:count]


def _print_table(analyses: Sequence[tuple[FinishedRun, dict[str, Any]]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from seven_bench.results.sentinel_rows import average_sentinels, describe_data, doubt
    from seven_bench.results.tables import format_sparsity
    from seven_bench.terminal import console as make_console

    settings: dict[tuple[str, ...], dict[tuple[float, str], list[dict[str, Any]]]] = {}
    for run, found in analyses:
        title = tuple(str(run.record[name]) for name in ("task", "model", "start"))
        key = (-run.record["sparsity"]["target"], run.record["pruner"])
        settings.setdefault(title, {}).setdefault(key, []).append(found)
    console = make_console()
    for title, cells in settings.items():
        table = Table(
            title=Text(" \N{MIDDLE DOT} ".join(title), style="bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
        )
        for head in _HEADS:
            table.add_column(head, justify="left" if head == "method" else "right")
        rows = [average_sentinels(key[1], -key[0], found) for key, found in sorted(cells.items())]
        for row in rows:
            table.add_row(format_sparsity(row.sparsity), Text(row.method), *_tell(row))
        console.print(table)
        told = describe_data([analysis for found in cells.values() for analysis in found])
        for line in filter(None, map(doubt, rows)):
            console.print(line, style="yellow", highlight=False)
        console.print(f"Share kept near the cut. {told}\n", style="dim", highlight=False)


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


if __name__ == "__main__":
    sys.exit(main())
