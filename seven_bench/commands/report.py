"""`seven-bench report RESULTS --out DIR`: records to a page, tables and figures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seven_bench.commands.options import add_results, add_unsealed, print_left_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seven_bench.results.collect import Collected
    from seven_bench.results.groups import Group
    from seven_bench.results.page import PageContent
    from seven_bench.results.statistics import Comparison, Ranking
    from seven_bench.results.styles import Style
    from seven_bench.results.tables import Table

EPILOG = """\
examples:
  seven-bench report outputs --out report
  seven-bench report outputs/runs/digits ../cluster/outputs --out report
  seven-bench report outputs --out report --margin 0.005 --at 0.9 --reference magnitude
  seven-bench report outputs --out report --at 0.95 --methods snip,seven_pre,seven_pre_signed

DIR gets index.html (one file, opens without a network), results.csv (a row a run), table.md,
table.tex, figures/ (each as PNG, SVG and PDF), overlap.csv of masks, variance.md where more than
the seed was varied, items.md where runs keep their predictions, and latency.md where some were
timed. Damaged records are named and left out. Without any record the exit status is 1.
"""


@dataclass(frozen=True)
class Report:
    """Where a report's files lie, and how much went into it."""

    page: Path
    csv: Path
    markdown: Path
    latex: Path
    figures: tuple[Path, ...]
    runs: int
    damaged: list[tuple[Path, str]]
    unfinished: list[tuple[Path, str]]
    unsealed: list[Path]
    tables: list[Table] = field(repr=False)
    families: list[tuple[str, list[Comparison]]] = field(repr=False, default_factory=list)


def write_report(
    roots: Iterable[str | Path],
    out: str | Path,
    *,
    margin: float | None = None,
    at: Sequence[float] = (),
    reference: str | None = None,
    methods: Sequence[str] = (),
    mask_budget: int = 2**30,
    unsealed: bool = False,
) -> Report:
    """Read every record at or below `roots` and write page, tables and figures to `out`.

    `margin`, in the metric's unit, is what may count as equal. `at` and `methods` limit the
    comparisons, and so their family, to some sparsities and methods; `reference` is the method that
    the page compares with at first, and that the report's `families` are held against. At most
    `mask_budget` bytes of masks are read for their overlap. Records without a seal are left
    out unless `unsealed`, and then marked. Each file is replaced whole. Raises
    FileNotFoundError for a root that does not exist and ValueError where there is no record, the
    margin is not positive or a method is not there.
    """
    from seven_bench.results.groups import split_groups

    if margin is not None and not margin > 0:
        raise ValueError(f"the margin of equality must be positive, not {margin}")
    collected = _collect([*roots], unsealed)
    groups = split_groups(collected.records)
    named = _name_methods(groups, [*filter(None, (reference,)), *methods])
    choices = {"margin": margin, "at": tuple(at), "reference": reference, "methods": tuple(methods)}
    content = _gather(collected, groups, named, mask_budget, choices)
    out = Path(out)
    report = Report(
        page=out / "index.html",
        csv=out / "results.csv",
        markdown=out / "table.md",
        latex=out / "table.tex",
        figures=(),
        runs=len(collected.records),
        damaged=[*content.damaged],
        unfinished=collected.unfinished,
        unsealed=collected.unsealed,
        tables=[*content.tables],
        families=compare_families(groups, reference, at, methods, margin),
    )
    return replace(report, figures=_write(report, content, out))


def _collect(roots: Sequence[str | Path], unsealed: bool) -> Collected:
    """All records. Raises ValueError where there is none."""
    from seven_bench.results.collect import collect
    from seven_bench.store.files import RECORD

    collected = collect(roots, unsealed)
    if collected.records.empty:
        where = ", ".join(map(str, roots))
        count = f" ({len(collected.damaged)} damaged)" if collected.damaged else ""
        raise ValueError(f"no {RECORD} that can be read in {where}{count}")
    return collected


def _name_methods(groups: Sequence[Group], wanted: Sequence[str]) -> list[str]:
    """Names of all methods, dense ones included. Raises ValueError where a wanted one is not among
    them.
    """
    from seven_bench.results.groups import SEPARATOR
    from seven_bench.results.sections.section import all_methods

    named = [name for group in groups for name in all_methods(group)]
    known = {*named, *(name.partition(SEPARATOR)[0] for name in named)}
    for name in wanted:
        if name not in known:
            told = ", ".join(sorted(set(named)))
            raise ValueError(f"no method is named {name!r}; there are {told}")
    return named


def _gather(
    collected: Collected,
    groups: Sequence[Group],
    named: Sequence[str],
    mask_budget: int,
    choices: dict[str, Any],
) -> PageContent:
    """What the page shows, and the files beside it."""
    from seven_bench.results.item_rows import tabulate_items
    from seven_bench.results.overlap import measure_overlaps
    from seven_bench.results.page import PageContent
    from seven_bench.results.styles import assign_styles
    from seven_bench.results.tables import build_tables
    from seven_bench.results.training_curves import read_curves

    overlaps = measure_overlaps(groups, mask_budget)
    items, items_damaged = tabulate_items(groups)
    damaged = [*collected.damaged, *(item for part in overlaps for item in part.damaged)]
    return PageContent(
        groups=groups,
        tables=build_tables(groups, choices["margin"]),
        styles=assign_styles(named),
        overlaps=overlaps,
        ranks=rank_groups(groups),
        damaged=damaged + items_damaged,
        unfinished=collected.unfinished,
        records=collected.records,
        items=items,
        curves=read_curves(groups),
        **choices,
    )


def _write(report: Report, content: PageContent, out: Path) -> tuple[Path, ...]:
    """Writes all files; returns those of the figures."""
    from seven_bench.results import page, plots, tables
    from seven_bench.results.item_rows import items_to_markdown
    from seven_bench.results.latencies import latencies_to_markdown, list_latencies
    from seven_bench.results.overlap import tabulate_overlaps
    from seven_bench.results.spreadsheet import to_csv
    from seven_bench.results.variance import tabulate_variance, variance_to_markdown
    from seven_bench.store.atomic import replace_file

    replace_file(report.csv, to_csv(content.records.drop(columns="layers")).encode())
    replace_file(report.markdown, tables.to_markdown(content.tables).encode())
    replace_file(report.latex, tables.to_latex(content.tables).encode())
    if variance := tabulate_variance(content.groups):
        replace_file(out / "variance.md", variance_to_markdown(variance).encode())
    if content.items:
        replace_file(out / "items.md", items_to_markdown(content.items).encode())
    if latencies := list_latencies(content.groups):
        replace_file(out / "latency.md", latencies_to_markdown(latencies).encode())
    if not (pairs := tabulate_overlaps(content.groups, content.overlaps)).empty:
        replace_file(out / "overlap.csv", to_csv(pairs).encode())
    figures: list[Path] = []
    drawn = _draw_figures(content.groups, content.ranks, dict(content.styles))
    for title, figure in drawn:
        path = _free_path(out / "figures", title, figures)
        replace_file(path, plots.to_png(figure))
        replace_file(path.with_suffix(".svg"), plots.to_svg(figure))
        replace_file(path.with_suffix(".pdf"), plots.to_pdf(figure))
        figures.append(path)
    replace_file(report.page, page.render_page(content, out).encode())
    return tuple(figures)


def compare_families(
    groups: Sequence[Group],
    reference: str | None,
    at: Sequence[float],
    methods: Sequence[str],
    margin: float | None,
) -> list[tuple[str, list[Comparison]]]:
    """The comparisons with a reference, one family a group, under a title; none without one.

    Where none is named, methods are held against the first of `methods`.
    """
    from seven_bench.results.groups import tell_nested
    from seven_bench.results.statistics import compare, pair_by_seed

    reference = reference or (methods[0] if methods else None)
    if reference is None:
        return []
    found = []
    for group in groups:
        if pairings := pair_by_seed(group, reference, at, methods):
            higher = group.metric.higher_is_better
            family = compare(pairings, higher_is_better=higher, margin=margin)
            count = f"{len(family)} test{'s' * (len(family) > 1)}"
            title = f"{group.title}, against {reference}: a family of {count}"
            nested = tell_nested(group.runs)
            found.append((f"{title}; {nested}" if nested else title, family))
    return found


def _draw_figures(
    groups: Sequence[Group], ranks: Sequence[tuple[str, float, Ranking]], styles: dict[str, Style]
) -> Iterator[tuple[str, Figure]]:
    """Draw one figure after the other, so that only one is in memory."""
    from seven_bench.results import plots

    for group in groups:
        if group.sparsities:
            yield f"{group.title} metric", plots.draw_metric(group, styles)
        if (figure := plots.draw_layers(group)) is not None:
            yield f"{group.title} layers", figure
    for title, sparsity, ranking in ranks:
        title = f"{title}, sparsity {sparsity:g}"
        if (figure := plots.draw_ranks(ranking, title, styles)) is not None:
            yield f"{title} ranks", figure


def rank_groups(groups: Sequence[Group]) -> list[tuple[str, float, Ranking]]:
    """Average ranks over tasks: one for each model, start, setting and sparsity with several."""
    from seven_bench.results.groups import SEPARATOR
    from seven_bench.results.statistics import rank_methods, tabulate_scores

    families: dict[tuple[str, str, str], list[Group]] = {}
    for group in filter(lambda group: group.alike, groups):
        families.setdefault((group.model, group.start, group.setting), []).append(group)
    rankings = []
    for (model, start, setting), members in families.items():
        if len(members) < 2:
            continue
        title = SEPARATOR.join(filter(None, (model, f"start {start}", setting)))
        for sparsity in sorted({level for group in members for level in group.sparsities}):
            scores = tabulate_scores(members, sparsity)
            rankings.append((title, sparsity, rank_methods(scores)))
    return rankings


def _free_path(folder: Path, title: str, taken: Sequence[Path]) -> Path:
    stem = re.sub(r"[^A-Za-z0-9.]+", "_", title).strip("_.")[:120] or "figure"
    path, number = folder / f"{stem}.png", 2
    while path in taken:
        path, number = folder / f"{stem}_{number}.png", number + 1
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    add_results(parser)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to write to; made if absent"
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help="what counts as equal, in the metric's unit (0.005 is half a point of accuracy): "
        "underlines what is that near to the best and allows tests of equality",
    )
    parser.add_argument(
        "--at",
        type=float,
        nargs="+",
        default=(),
        metavar="SPARSITY",
        help="compare methods at these sparsities only: fewer tests need fewer seeds; "
        "to be chosen before looking",
    )
    parser.add_argument(
        "--reference", metavar="METHOD", help="method that the page compares with at first"
    )
    parser.add_argument(
        "--methods",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        metavar="A,B,...",
        help="compare these methods only, with the first of them where no --reference is named; to "
        "be chosen before looking too",
    )
    parser.add_argument(
        "--mask-budget",
        type=int,
        default=1024,
        metavar="MIB",
        help="how much of the masks to read for their overlap (default: %(default)s MiB; 0: none)",
    )
    add_unsealed(parser)


def main(options: argparse.Namespace) -> int:
    """Writes the report, prints its tables, and names what is not in it."""
    from seven_bench.results.tables import family_to_terminal, to_terminal
    from seven_bench.terminal import console as make_console
    from seven_bench.terminal import printable

    report = write_report(
        options.results,
        options.out,
        margin=options.margin,
        at=options.at,
        reference=options.reference,
        methods=options.methods,
        mask_budget=options.mask_budget * 2**20,
        unsealed=options.unsealed,
    )
    console = make_console()
    for table in report.tables:
        console.print(to_terminal(table))
        console.print()
    for title, family in report.families:
        console.print(family_to_terminal(title, family))
        console.print()
    print_left_out(report.damaged, report.unsealed)
    for path, state in report.unfinished:
        print(f"not finished: {printable(path)}: {state}", file=sys.stderr)
    runs, figures = report.runs, len(report.figures)
    print(
        f"{runs} run{'s' * (runs != 1)}, {figures} figure{'s' * (figures != 1)}; open {report.page}"
    )
    return 0
