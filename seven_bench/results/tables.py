"""Methods by sparsities, one table a group, as Markdown, LaTeX and for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seven_bench.results.groups import Group, split_groups, tell_nested, tell_replicates
from seven_bench.results.recipes import find_differences
from seven_bench.results.statistics import Comparison, Summary, sampling_interval, summarise

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

MISSING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
MAJORITY = "majority class"

#: Words in a metric's name that make it a fraction to be shown as a percentage.
_PERCENTAGES = frozenset(
    {"accuracy", "acc", "top1", "top5", "em", "exact", "f1", "majority"}
    | {"mcc", "matthews", "pearson", "pearsonr", "spearman", "spearmanr"}
)
#: Those of them that are shares of test examples, with a binomial error.
_ACCURACIES = frozenset(("accuracy", "acc", "top1", "top5", "em", "exact"))
#: Reached and target sparsity closer than this are the same to a reader.
_SAME_SPARSITY = 1e-3


@dataclass(frozen=True)
class Cell:
    """One method at one sparsity. `best` in its column; `near`: within the margin of the best."""

    summary: Summary
    best: bool = False
    near: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table. A `whole` row does not depend on sparsity: its cells are all the same."""

    label: str
    cells: tuple[Cell | None, ...]
    whole: bool = False


@dataclass(frozen=True)
class Table:
    """What every format shows: the same words and numbers, in the record's unit."""

    title: str
    caption: str
    metric: str
    sparsities: tuple[float, ...]
    rows: tuple[Row, ...]


def is_percentage(metric: str) -> bool:
    """Whether a metric is recorded as a fraction and read as a percentage."""
    return not _PERCENTAGES.isdisjoint(metric.lower().split("_"))


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of the test examples."""
    return not _ACCURACIES.isdisjoint(metric.lower().split("_"))


def format_value(value: float, metric: str) -> str:
    """A value of `metric` as a reader sees it; a dash where there is none."""
    if not math.isfinite(value):
        return MISSING
    if is_percentage(metric):
        return f"{100 * value:.2f}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.4g}"


def format_sparsity(sparsity: float) -> str:
    """A sparsity as it is typed: 0.9, 0.488."""
    return f"{sparsity:.6g}"


def describe_metric(metric: str) -> str:
    """A metric's name for a caption: `Accuracy (%)`."""
    name = metric.replace("_", " ")
    return f"{name[:1].upper()}{name[1:]}{' (%)' if is_percentage(metric) else ''}"


def build_tables(groups: Iterable[Group], margin: float | None = None) -> list[Table]:
    """One table a group. `margin`, in the metric's unit, underlines what is near the best."""
    return [build_table(group, margin) for group in groups]


def build_table(group: Group, margin: float | None = None) -> Table:
    """Tabulate a group: dense, the majority class where known, small dense models, then the
    methods, best first.
    """
    sparsities = choose_columns(group)
    summaries = summarise_cells(group)
    columns = len(sparsities) or 1
    rows = [
        Row(str(method), (Cell(summarise(runs["metric.value"])),) * columns, whole=True)
        for method, runs in group.dense.groupby("method")
    ]
    everything = pd.concat([group.dense, group.runs])
    if "metrics.majority" in everything and everything["metrics.majority"].notna().any():
        majorities = everything["metrics.majority"].dropna().unique()  # one a fold
        majority = float(majorities[0] if len(majorities) == 1 else majorities.mean())
        cell = Cell(Summary(majority, math.nan, 0, math.nan, math.nan))
        rows.append(Row(MAJORITY, (cell,) * columns, whole=True))
    sign = 1 if group.metric.higher_is_better else -1
    usual, best = {}, {}
    for at in sparsities:
        running = [summaries.get((method, at)) for method in group.methods]
        known = [summary for summary in running if summary is not None and summary.n]
        usual[at] = usual_count([summary.n for summary in known])
        alike_means = [sign * summary.mean for summary in known if summary.n == usual[at]]
        best[at] = max(alike_means, default=math.nan)
    for method in [*group.controls, *group.methods]:
        cells: list[Cell | None] = []
        for sparsity in sparsities:
            summary = summaries.get((method, sparsity))
            if summary is None or summary.n == 0:
                cells.append(None)
                continue
            alike = group.alike and method in group.methods and summary.n == usual[sparsity]
            behind = best[sparsity] - sign * summary.mean
            # Equal to the eye is equal: a hidden sixth digit must not choose the bold one.
            shown = format_value(summary.mean, group.metric.name)
            is_best = alike and shown == format_value(sign * best[sparsity], group.metric.name)
            is_near = alike and not is_best and margin is not None and behind <= margin * (1 + 1e-9)
            cells.append(Cell(summary, is_best, is_near))
        rows.append(Row(method, tuple(cells)))
    caption = describe_table(group, sparsities, margin)
    return Table(group.title, caption, group.metric.name, tuple(sparsities), tuple(rows))


def usual_count(counts: Sequence[int]) -> int:
    """The number of seeds that most of a column have, the larger of as common ones; 0 of none.

    Means of fewer or more seeds are not held against theirs: of few, one is soon far above.
    """
    return max(counts, key=lambda n: (counts.count(n), n), default=0)


def choose_columns(group: Group) -> list[float]:
    """The sparsities that a table shows: those of two methods at least, where there are such.

    A method in rounds leaves a run at every level of its ladder; the levels that no other method
    has would be columns of dashes.
    """
    methods = group.runs.groupby("sparsity.target")["method"].nunique()
    shared = methods[methods > 1].index
    return [sparsity for sparsity in group.sparsities if not len(shared) or sparsity in shared]


def summarise_cells(group: Group) -> dict[tuple[str, float], Summary]:
    """Mean, spread and n for every (method, target sparsity) of a group's pruned runs."""
    cells = group.runs.groupby(["method", "sparsity.target"])["metric.value"]
    return {(str(method), float(at)): summarise(values) for (method, at), values in cells}


def describe_table(group: Group, shown: Sequence[float], margin: float | None) -> str:
    """The caption: what is measured, where and when, over what sparsity, and what is not shown."""
    metric = group.metric
    replicates, counted = tell_replicates(pd.concat([group.dense, group.runs]))
    epoch = {"last": "last epoch", "best": "epoch that was best on validation"}.get(
        metric.epoch, f"epoch {metric.epoch or 'not stated'}"
    )
    sentences = [
        f"{describe_metric(metric.name)} on the {metric.split} split at the {epoch}: mean "
        f"{PLUS_MINUS} standard deviation over {replicates} (number of {counted}).",
    ]
    if shown:
        sentences.append("Columns are target sparsities, the fraction of prunable weights removed.")
    if shown and group.alike and group.methods:
        better = "higher" if metric.higher_is_better else "lower"
        few = any(
            len(set(runs.groupby("method").size())) > 1
            for _, runs in group.runs[group.runs["method"].isin(group.methods)]
            .dropna(subset="metric.value")
            .groupby("sparsity.target")
        )
        among = " among those with as many seeds as most" if few else ""
        sentences.append(f"Bold: the best pruned method of a column{among}, {better} is better.")
    if shown and group.alike and margin is not None:
        width = (
            f"{100 * margin:g} point{'s' * (margin != 0.01)}"
            if is_percentage(metric.name)
            else f"{margin:g}"
        )
        sentences.append(f"Underlined: within {width} of the best.")
    if (error := describe_sampling(group)) is not None:
        sentences.append(error)
    if nested := tell_nested(pd.concat([group.dense, group.runs])):
        sentences.append(f"{nested[0].upper()}{nested[1:]}.")
    if group.controls:
        sentences.append(
            f"Small dense models in the place of pruned ones: {', '.join(group.controls)}."
        )
    sentences += describe_recipe(group)
    if reached := describe_reached(group):
        sentences.append(f"Reached where it differs from the target: {reached}.")
    if hidden := [format_sparsity(at) for at in group.sparsities if at not in shown]:
        sentences.append(f"Levels of one method alone, not shown: {', '.join(hidden)}.")
    lost = int(group.runs["metric.value"].isna().sum() + group.dense["metric.value"].isna().sum())
    if lost:
        sentences.append(f"Without a finite value, and left out: {lost} run{'s' * (lost > 1)}.")
    if unsealed := describe_unsealed(group):
        sentences.append(f"Without a seal, and shown all the same: {unsealed}.")
    return " ".join(sentences)


def describe_recipe(group: Group) -> list[str]:
    """What parts a table from others of its task, model and start; and what machines differ."""
    if not group.alike:
        return [
            "Recipe unknown: no record says that these runs were trained alike, so that nothing is "
            "bold and nothing is tested."
        ]
    sentences = []
    if tuned := describe_tuning(group):
        sentences.append(tuned)
    if group.differing:
        told = ", ".join(f"{key} {value}" for key, value in group.differing.items())
        sentences.append(
            f"Other tables of this task, model and start have another recipe; here: {told}."
        )
    machines = find_differences(pd.concat([group.dense, group.runs]), machine=True)
    if machines:
        told = "; ".join(f"{key} {', '.join(values)}" for key, values in machines.items())
        sentences.append(f"Computed on machines that differ: {told}.")
    if group.repeated:
        one = group.repeated == 1
        told = "1 run is" if one else f"{group.repeated} runs are"
        sentences.append(f"{told} left out that other machines repeat.")
    return sentences


def describe_tuning(group: Group) -> str:
    """By how many trials settings were chosen; empty where none were."""
    runs = pd.concat([group.dense, group.runs])
    trials = runs.get("recipe.tuning.trials", pd.Series(dtype=float)).dropna()
    if trials.empty:
        return ""
    return (
        f"Tuned: every method by {int(trials.iloc[0])} trials in the space "
        f"{runs['recipe.tuning.space'].iloc[0]}, by validation and seeds that are not shown here; "
        "their cost is in the bill."
    )


def describe_unsealed(group: Group) -> str:
    """Whose runs hold no checksums, so that nobody can tell whether they are what was written."""
    runs = pd.concat([group.dense, group.runs])
    counts = runs[~runs["sealed"]].groupby("method").size()
    return ", ".join(f"{count} of {method}" for method, count in counts.items())


def describe_sampling(group: Group) -> str | None:
    """The widest error that the test set alone leaves, in a sentence; None where unknown."""
    runs = pd.concat([group.runs, group.dense])
    if not is_accuracy(group.metric.name) or "metrics.test_examples" not in runs:
        return None
    known = runs[["metric.value", "metrics.test_examples"]].dropna()
    known = known[known["metrics.test_examples"] > 0]
    if known.empty:
        return None
    examples = _count_scored(runs) or int(known["metrics.test_examples"].min())
    nearest = known["metric.value"].iloc[(known["metric.value"] - 0.5).abs().argmin()]
    low, high = sampling_interval(float(nearest), examples)
    return (
        f"The {examples} test examples alone leave up to {PLUS_MINUS} {50 * (high - low):.1f} "
        "points (95 % binomial)."
    )


def _count_scored(runs: pd.DataFrame) -> int:
    """Examples over all folds that were run, each scored once; 0 without folds."""
    if "metrics.folds" not in runs or runs["metrics.folds"].isna().any():
        return 0
    return int(runs.groupby("seeds.split")["metrics.test_examples"].min().sum())


def describe_reached(group: Group) -> str:
    """Which cells reached another sparsity than their target: `movement at 0.9: 0.871`."""
    runs = group.runs.dropna(subset="sparsity.prunable")
    off = (runs["sparsity.prunable"] - runs["sparsity.target"]).abs()
    # One weight is the finest step there is.
    finest = (1 / runs["params.prunable"]).fillna(0)
    runs = runs[off > np.maximum(_SAME_SPARSITY, finest)]
    parts = []
    for (method, target), reached in runs.groupby(["method", "sparsity.target"])[
        "sparsity.prunable"
    ]:
        low, high = f"{reached.min():.3f}", f"{reached.max():.3f}"
        span = low if low == high else f"{low} to {high}"
        parts.append(f"{method} at {format_sparsity(target)}: {span}")
    return ", ".join(parts)


def _heads(table: Table) -> list[str]:
    return [format_sparsity(sparsity) for sparsity in table.sparsities] or ["dense"]


def _tell(cell: Cell | None, metric: str, plus_minus: str = f" {PLUS_MINUS} ") -> tuple[str, str]:
    """The mean, and the spread and number behind it, as text."""
    if cell is None or not math.isfinite(cell.summary.mean):
        return MISSING, ""
    spread = cell.summary.std
    told = f"{plus_minus}{format_value(spread, metric)}" if math.isfinite(spread) else ""
    return format_value(cell.summary.mean, metric), told + (
        f" ({cell.summary.n})" if cell.summary.n else ""
    )


def to_markdown(tables: Iterable[Table]) -> str:
    """All tables as GitHub Markdown."""
    parts = []
    for table in tables:
        heads = ["method", *_heads(table)]
        lines = [f"### {escape_markdown(table.title)}", "", escape_markdown(table.caption), ""]
        lines.append(f"| {' | '.join(heads)} |")
        lines.append(f"| --- |{' ---: |' * (len(heads) - 1)}")
        for row in table.rows:
            cells = [_markdown_cell(cell, table.metric) for cell in row.cells]
            lines.append(f"| {escape_markdown(row.label)} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _markdown_cell(cell: Cell | None, metric: str) -> str:
    mean, rest = _tell(cell, metric)
    if cell is not None and cell.best:
        mean = f"**{mean}**"
    elif cell is not None and cell.near:
        mean = f"<ins>{mean}</ins>"
    return mean + rest


def escape_markdown(text: str) -> str:
    """Text in a Markdown table: nothing in it is read as markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", " ".join(text.split()))


def to_latex(tables: Iterable[Table]) -> str:
    """All tables as LaTeX; needs the package booktabs and nothing else."""
    parts = ["% Needs \\usepackage{booktabs}."]
    for table in tables:
        columns = len(table.sparsities) or 1
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}. {escape_latex(table.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * columns}}}",
            r"\toprule",
            rf"method & {' & '.join(_heads(table))} \\",
            r"\midrule",
        ]
        for index, row in enumerate(table.rows):
            cells = [_latex_cell(cell, table.metric) for cell in row.cells]
            if row.whole and columns > 1:
                cells = [rf"\multicolumn{{{columns}}}{{c}}{{{cells[0]}}}"]
            if index and table.rows[index - 1].whole and not row.whole:
                lines.append(r"\midrule")
            lines.append(rf"{escape_latex(row.label)} & {' & '.join(cells)} \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _latex_cell(cell: Cell | None, metric: str) -> str:
    mean, rest = _tell(cell, metric)
    mean, rest = escape_latex(mean), escape_latex(rest)
    if cell is not None and cell.best:
        mean = rf"\textbf{{{mean}}}"
    elif cell is not None and cell.near:
        mean = rf"\underline{{{mean}}}"
    return mean + rest


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    PLUS_MINUS: r"$\pm$",
    MISSING: "--",
    "\N{MIDDLE DOT}": r"$\cdot$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Text in LaTeX: nothing in it is read as a command."""
    return "".join(_LATEX.get(character, character) for character in text)


def render_terminal(records: pd.DataFrame, margin: float | None = None) -> list[TerminalTable]:
    """The tables of collected records for `rich.console.Console.print`, one a group."""
    return [to_terminal(table) for table in build_tables(split_groups(records), margin)]


def to_terminal(table: Table) -> TerminalTable:
    """One table for the terminal. Many columns put the spread below the mean."""
    from rich import box
    from rich.table import Table as TerminalTable
    from rich.text import Text

    shown = TerminalTable(
        title=Text(table.title, style="bold"),
        caption=Text(table.caption, style="dim"),
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        min_width=64,  # or the caption under a narrow table becomes a column of words
    )
    shown.add_column("method", no_wrap=True)
    for head in _heads(table):
        shown.add_column(head, justify="right", no_wrap=True)
    stacked = len(table.sparsities) > 3
    for index, row in enumerate(table.rows):
        cells = []
        for cell in row.cells:
            mean, rest = _tell(cell, table.metric, PLUS_MINUS if stacked else f" {PLUS_MINUS} ")
            style = "" if cell is None else "bold" if cell.best else "underline" * cell.near
            text = Text(mean, style=style)
            text.append(f"\n{rest.strip()}" if stacked and rest else rest, style="dim not bold")
            cells.append(text)
        following = table.rows[index + 1] if index + 1 < len(table.rows) else None
        shown.add_row(
            Text(row.label),  # as Text: markup in a method's name stays text
            *cells,
            end_section=row.whole and following is not None and not following.whole,
        )
    return shown


def family_to_terminal(title: str, family: Sequence[Comparison]) -> TerminalTable:
    """One family of comparisons: differences and intervals in the record's unit; `could show` is
    the difference that these runs would have shown four times in five.
    """
    from rich import box
    from rich.table import Table as TerminalTable
    from rich.text import Text

    shown = TerminalTable(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for head in (
        "method",
        "sparsity",
        "pairs",
        "difference",
        "95 % interval",
        "p, Holm",
        "could show",
        "in words",
    ):
        shown.add_column(head, justify="left" if head in ("method", "in words") else "right")
    for one in family:
        low, high, p = (
            f"{v:+.4f}" if math.isfinite(v) else MISSING for v in (one.low, one.high, one.p)
        )
        shown.add_row(
            Text(one.method),
            format_sparsity(one.sparsity),
            str(one.pairs),
            f"{one.difference:+.4f}",
            MISSING if low == MISSING else f"{low} to {high}",
            p.removeprefix("+"),
            f"{one.detectable:.4f}" if math.isfinite(one.detectable) else MISSING,
            one.words,
        )
    return shown
