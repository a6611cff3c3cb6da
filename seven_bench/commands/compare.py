"""`seven-bench compare paper=seven RESULTS`: our runs beside a paper's numbers."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.settings.identity import conf_dir

if TYPE_CHECKING:
    from seven_bench.results.published import Paper
    from seven_bench.results.verdicts import Checked, CheckedClaim, Difference

GATE = "dense"  # the file of dense baselines, which every other paper's rows are checked against

_EPILOG = """\
verdicts:
  matched                            our mean is within the tolerance of the published value
  not matched                        it is not
  not matched by our reconstruction  it is not, and the method has no released code
  not comparable                     the setting differs in what matters: another model, start,
                                     split, pattern, distribution or fine-tuning, a subset of the
                                     data, distillation on one side, epochs by more than a factor
                                     of 2, or dense runs of ours that miss the published ones
Tolerance: twice the published standard deviation, 0.3 points at least (MRPC 2.4, RTE 3.2, CoLA 1.4,
SST-2 0.72); 1 point for values read off a figure. What differs is listed below the table.

Ordering claims ("seven_pre above snip at 0.8 on MNLI") are tested by flipping the signs of the
differences of paired seeds, corrected by Holm over all claims that have runs; where the seeds
could not reject whatever they showed, the words are "too few seeds to test".

examples:
  python -m seven_bench experiment=paper/seven_mrpc_sst2 output_root=outputs
  seven-bench compare paper=seven outputs
  seven-bench compare paper=seven outputs --task glue/mrpc --out seven.md
  seven-bench compare paper=dense outputs
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 1 after one line that says what is wrong."""
    options = build_parser().parse_args(argv)
    from seven_bench.results.published import PaperError

    if options.out is not None and options.out.suffix not in (".md", ".csv"):
        print(f"compare: --out {options.out}: allowed are .md and .csv", file=sys.stderr)
        return 1
    try:
        paper, gate = _read_papers(options.paper)
        paper = _limit(paper, options.task)
        rows, claims = _check(paper, gate, options.results)
    except (OSError, PaperError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    _print_tables(paper, rows, claims, options.all)
    if options.out is not None:
        from seven_bench.store.atomic import replace_file

        write = _to_csv if options.out.suffix == ".csv" else _to_markdown
        replace_file(options.out, write(paper, rows, claims).encode())
        print(f"all {len(rows)} rows and {len(claims)} claims in {options.out}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from seven_bench.results.published import list_papers

    known = ", ".join(list_papers(conf_dir() / "paper"))
    parser = argparse.ArgumentParser(
        prog="seven-bench compare",
        description="Hold the records of runs against a paper's published numbers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paper",
        metavar="paper=NAME",
        type=lambda text: text.removeprefix("paper="),
        help=f"one of {known}; or a .yaml file of that form",
    )
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="folders to search for result.json, or such files",
    )
    parser.add_argument(
        "--task",
        nargs="+",
        metavar="TASK",
        help="these tasks only: fewer claims need fewer seeds; to be chosen before looking",
    )
    parser.add_argument("--all", action="store_true", help="print rows without runs too")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write everything to FILE, .md or .csv"
    )
    return parser


def _read_papers(name: str) -> tuple[Paper, Paper | None]:
    from seven_bench.results.published import PaperError, list_papers, read_paper

    folder = conf_dir() / "paper"
    if name.endswith((".yaml", ".yml")):
        paper = read_paper(name)
    elif name in (known := list_papers(folder)):
        paper = read_paper(folder / f"{name}.yaml")
    else:
        raise PaperError(f"paper={name}: known are {', '.join(known)}")
    return paper, None if name == GATE else read_paper(folder / f"{GATE}.yaml")


def _limit(paper: Paper, tasks: Sequence[str] | None) -> Paper:
    from dataclasses import replace

    if not tasks:
        return paper
    known = {row.task for row in paper.rows}
    if unknown := [task for task in tasks if task not in known]:
        raise ValueError(f"--task {unknown[0]}: {paper.name} has {', '.join(sorted(known))}")
    return replace(
        paper,
        rows=tuple(row for row in paper.rows if row.task in tasks),
        claims=tuple(claim for claim in paper.claims if claim.above.task in tasks),
    )


def _check(
    paper: Paper, gate: Paper | None, roots: Sequence[Path]
) -> tuple[list[Checked], list[CheckedClaim]]:
    from seven_bench.results.collect import collect
    from seven_bench.results.verdicts import check_claims, check_rows, split_cells

    collected = collect(roots)
    for path, reason in collected.damaged:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    if collected.records.empty:
        raise ValueError(f"no record that can be read in {', '.join(map(str, roots))}")
    cells = split_cells(collected.records)
    return check_rows(paper, cells, gate), check_claims(paper, cells)


# ---- Words


_HEADS = (
    "task",
    "method",
    "sparsity",
    "metric",
    "ours (n)",
    "published",
    "gap",
    "within",
    "verdict",
)
_CLAIM_HEADS = ("claim", "seeds", "gain", "95 % interval", "p, Holm", "in words")


class _Notes:
    """Lists of differences, each once, under a letter: a, b, ..., z, aa, ab, ..."""

    def __init__(self) -> None:
        self.letters: dict[tuple[Difference, ...], str] = {}

    def name(self, differences: tuple[Difference, ...]) -> str:
        if not differences:
            return ""
        if differences not in self.letters:
            number, letters = len(self.letters), ""
            while number >= 0:
                number, rest = divmod(number, 26)
                letters, number = chr(97 + rest) + letters, number - 1
            self.letters[differences] = letters
        return self.letters[differences]

    def lines(self) -> list[tuple[str, str]]:
        return [(letter, _tell_differences(found)) for found, letter in self.letters.items()]


def _tell_differences(differences: Iterable[Difference]) -> str:
    return "; ".join(difference.words for difference in differences)


def _value(value: float, metric: str) -> str:
    from seven_bench.results.tables import format_value

    return format_value(value, metric)


def _signed(value: float, metric: str) -> str:
    text = _value(value, metric)
    return text if text.startswith("-") or not math.isfinite(value) else f"+{text}"


def _tell_row(checked: Checked) -> list[str]:
    from seven_bench.results.tables import MISSING, PLUS_MINUS, format_sparsity

    row, ours = checked.row, checked.ours
    spread = f" {PLUS_MINUS} {_value(ours.std, row.metric)}" if ours.n > 1 else ""
    published = row.bound + ("~" if row.approximate else "") + _value(row.value, row.metric)
    if row.std is not None:
        published += f" {PLUS_MINUS} {_value(row.std, row.metric)}"
    return [
        row.task,
        row.method,
        MISSING if row.sparsity is None else format_sparsity(row.sparsity),
        row.metric,
        f"{_value(ours.mean, row.metric)}{spread} ({ours.n})" if ours.n else MISSING,
        published,
        _signed(checked.gap, row.metric),
        _value(row.tolerance, row.metric),
        checked.verdict,
    ]


def _tell_claim(checked: CheckedClaim) -> list[str]:
    from seven_bench.results.tables import MISSING

    metric = checked.claim.above.metric
    interval = (
        f"{_signed(checked.low, metric)} to {_signed(checked.high, metric)}"
        if math.isfinite(checked.low)
        else MISSING
    )
    return [
        _say_claim(checked),
        str(checked.pairs),
        _signed(checked.gain, metric),
        interval,
        f"{checked.p:.3g}" if math.isfinite(checked.p) else MISSING,
        checked.words + _say_setting(checked.differences),
    ]


def _say_claim(checked: CheckedClaim) -> str:
    from seven_bench.results.tables import format_sparsity

    above, below, by = checked.claim.above, checked.claim.below, checked.claim.by
    margin = f" by more than {_value(by, above.metric)}" if by else ""
    at = f" at {format_sparsity(above.sparsity)}" if above.sparsity is not None else ""
    return f"{above.method} above {below.method}{margin}{at} on {above.task}"


def _say_setting(differences: Iterable[Difference]) -> str:
    matters = any(difference.matters for difference in differences)
    return ", in another setting" if matters else ""


def _describe(paper: Paper) -> str:
    return (
        f"{paper.source}. Percentages in points; gap: ours minus published; ours: mean and sample "
        "standard deviation over seeds."
    )


def _missing(rows: Sequence[Checked]) -> str | None:
    """How much of the paper has no runs, and the commands that would make some."""
    from seven_bench.results.verdicts import NO_RUNS

    absent = [checked.row for checked in rows if checked.verdict == NO_RUNS]
    if not absent:
        return None
    experiments = sorted({row.experiment for row in absent if row.experiment is not None})
    made = "; ".join(f"python -m seven_bench experiment={name}" for name in experiments)
    text = f"{len(absent)} of {len(rows)} published rows have no runs here."
    return text + (f" What the suite can run of them: {made}" if made else "")


# ---- Output


def _print_tables(
    paper: Paper, rows: Sequence[Checked], claims: Sequence[CheckedClaim], everything: bool
) -> None:
    from rich.markup import escape

    from seven_bench.results.verdicts import NO_RUNS
    from seven_bench.terminal import console as make_console

    console, notes = make_console(), _Notes()
    shown = [checked for checked in rows if everything or checked.verdict != NO_RUNS]
    if shown:
        lines = [(*_tell_row(item), notes.name(item.differences)) for item in shown]
        console.print(_to_table(paper.title, (*_HEADS, "note"), lines, "llrlrrrrll"))
    tested = [item for item in claims if everything or item.words != NO_RUNS]
    if tested:
        lines = [(*_tell_claim(item), notes.name(item.differences)) for item in tested]
        console.print(_to_table("Claims of order", (*_CLAIM_HEADS, "note"), lines, "lrrrrll"))
    for letter, words in notes.lines():
        console.print(f"[bold]{letter}[/bold]  {escape(words)}", highlight=False, soft_wrap=True)
    console.print(f"\n{escape(_describe(paper))}", highlight=False, style="dim")
    if (missing := _missing(rows)) is not None:
        console.print(escape(missing), highlight=False, soft_wrap=True)


def _to_table(title: str, heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for head, side in zip(heads, sides, strict=True):
        table.add_column(head, justify="right" if side == "r" else "left", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def _to_markdown(paper: Paper, rows: Sequence[Checked], claims: Sequence[CheckedClaim]) -> str:
    notes = _Notes()
    parts = [f"# {_escape(paper.title)}", _escape(_describe(paper))]
    lines = [(*_tell_row(item), notes.name(item.differences)) for item in rows]
    if lines:
        parts.append(_markdown_table((*_HEADS, "note"), lines, "llrlrrrrll"))
    if claims:
        lines = [(*_tell_claim(item), notes.name(item.differences)) for item in claims]
        parts.append("## Claims of order")
        parts.append(_markdown_table((*_CLAIM_HEADS, "note"), lines, "lrrrrll"))
    if notes.letters:
        parts.append("## What differs in the setting")
        parts.append(
            "\n".join(f"* **{letter}**: {_escape(words)}" for letter, words in notes.lines())
        )
    if (missing := _missing(rows)) is not None:
        parts.append(_escape(missing))
    return "\n\n".join(parts) + "\n"


def _markdown_table(heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    ruler = ["---:" if side == "r" else "---" for side in sides]
    table = [heads, ruler, *([_escape(text) for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _escape(text: str) -> str:
    for character in ("\\", "|", "<", "*", "_", "~"):
        text = text.replace(character, f"\\{character}")
    return text


_ABOUT = (
    *("source", "locator", "kind", "task", "model", "method", "split", "metric", "start"),
    *("sparsity", "denominator", "pattern", "distribution", "finetune", "epochs", "lr"),
    *("batch_size", "schedule", "kd", "seeds", "note"),
)
_PUBLISHED = ("bound", "approximate", "value", "std", "tolerance")
_OURS = (
    "below",
    "by",
    "ours",
    "ours_std",
    "ours_n",
    "gap",
    "low",
    "high",
    "p",
    "verdict",
    "differs",
)


def _to_csv(paper: Paper, rows: Sequence[Checked], claims: Sequence[CheckedClaim]) -> str:
    """One line a row ("value") and one a claim ("order"), numbers in the record's unit.

    Of a claim `method` is the one above, `gap` the gain, and `ours_n` the shared seeds.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ("check", *_ABOUT, *_PUBLISHED, *_OURS), lineterminator="\n")
    writer.writeheader()
    for checked in rows:
        line = {name: getattr(checked.row, name) for name in (*_ABOUT, *_PUBLISHED)}
        line |= {"check": "value", "ours": checked.ours.mean, "ours_std": checked.ours.std}
        line |= {"ours_n": checked.ours.n, "gap": checked.gap, "verdict": checked.verdict}
        line["differs"] = _tell_differences(checked.differences)
        writer.writerow(_blank(line))
    for item in claims:
        line = {name: getattr(item.claim.above, name) for name in _ABOUT}
        line |= {"check": "order", "below": item.claim.below.method, "by": item.claim.by}
        line |= {"ours_n": item.pairs, "gap": item.gain, "low": item.low, "high": item.high}
        line |= {"p": item.p, "verdict": item.words + _say_setting(item.differences)}
        line["differs"] = _tell_differences(item.differences)
        writer.writerow(_blank(line))
    return text.getvalue()


def _blank(line: dict[str, Any]) -> dict[str, Any]:
    """A CSV has no NaN: what is not there is empty."""
    return {
        name: "" if isinstance(value, float) and math.isnan(value) else value
        for name, value in line.items()
    }


if __name__ == "__main__":
    sys.exit(main())
