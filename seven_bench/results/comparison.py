"""A paper beside our runs: published and ours, spread and verdict, as text in every format."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from seven_bench.results.cells import split_cells
from seven_bench.results.claims import CheckedClaim, check_claims
from seven_bench.results.differences import Difference
from seven_bench.results.filling import Filling, Suite
from seven_bench.results.published import Paper
from seven_bench.results.spreadsheet import safe_cell
from seven_bench.results.tables import (
    MISSING,
    PLUS_MINUS,
    escape_latex,
    escape_markdown,
    format_sparsity,
    format_value,
)
from seven_bench.results.verdicts import (
    CHANCE,
    MATCHED,
    NO_RUNS,
    NOT_MATCHED,
    NOT_OURS,
    Checked,
    check_rows,
)

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable


@dataclass(frozen=True)
class Comparison:
    """A paper's rows and claims, each held against our runs; `fillings` says, a row each, how the
    runs that are missing are made."""

    paper: Paper
    rows: tuple[Checked, ...]
    claims: tuple[CheckedClaim, ...]
    fillings: tuple[Filling, ...]
    unsealed: int = 0  # runs among ours that hold no checksums


def compare_paper(
    paper: Paper, gate: Paper | None, records: pd.DataFrame, conf: str | Path
) -> Comparison:
    """Hold a paper against collected records.

    `gate` holds the dense baselines that ours must meet first; `conf` is the suite's folder of
    configs, which says what it could run.
    """
    cells, suite = split_cells(records), Suite(conf)
    rows = check_rows(paper, cells, gate)
    fillings = (suite.fill(checked.row) for checked in rows)
    claims, unsealed = check_claims(paper, cells), int((~records["sealed"]).sum())
    return Comparison(paper, tuple(rows), tuple(claims), tuple(fillings), unsealed)


def limit_paper(paper: Paper, tasks: Sequence[str] | None) -> Paper:
    """The rows and claims of some tasks alone. Raises ValueError for a task it does not have."""
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


# ---- Words

_HEADS = (
    *("task", "method", "sparsity", "metric", "published", "ours (n)", "gap", "within"),
    *("verdict", "note"),
)
_SIDES = "llrlrrrrll"
_CLAIM_HEADS = ("claim", "seeds", "gain", "95 % interval", "p, Holm", "in words", "note")
_CLAIM_SIDES = "lrrrrll"


@dataclass(frozen=True)
class Sheet:
    """What every format but CSV shows, as text. Notes are (letter, words); `commands` are too, for
    what has no runs."""

    title: str
    about: str
    rows: tuple[tuple[str, ...], ...]
    claims: tuple[tuple[str, ...], ...]
    notes: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    missing: str


class _Letters:
    """Texts, each once, under a letter: a, b, ..., z, aa, ab, ..."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def name(self, text: str) -> str:
        if text and text not in self.letters:
            number, letters = len(self.letters), ""
            while number >= 0:
                number, rest = divmod(number, 26)
                letters, number = chr(97 + rest) + letters, number - 1
            self.letters[text] = letters
        return self.letters.get(text, "")

    def listed(self) -> tuple[tuple[str, str], ...]:
        return tuple((letter, text) for text, letter in self.letters.items())


def write_sheet(comparison: Comparison, everything: bool = True) -> Sheet:
    """The text of a comparison; rows and claims without runs only where `everything` is asked."""
    notes, commands = _Letters(), _Letters()
    rows, claims = [], []
    for checked, filling in zip(comparison.rows, comparison.fillings, strict=True):
        if checked.verdict != NO_RUNS:
            rows.append((*_tell_row(checked), notes.name(_list_words(checked.differences))))
        elif everything:
            # Letters of commands are capitals, so that a reader sees which note is one.
            letter = commands.name(filling.command).upper() or filling.reason
            rows.append((*_tell_row(checked), letter))
    claims += [
        (*_tell_claim(item), notes.name(_list_words(item.differences)))
        for item in comparison.claims
        if everything or item.words != NO_RUNS
    ]
    return Sheet(
        comparison.paper.title,
        _describe(comparison),
        tuple(rows),
        tuple(claims),
        notes.listed(),
        tuple((letter.upper(), text) for letter, text in commands.listed()),
        _tell_missing(comparison),
    )


def _list_words(differences: Iterable[Difference]) -> str:
    return "; ".join(difference.words for difference in differences)


def _signed(value: float, metric: str) -> str:
    text = format_value(value, metric)
    return text if text.startswith("-") or not math.isfinite(value) else f"+{text}"


def _tell_row(checked: Checked) -> list[str]:
    row, ours = checked.row, checked.ours
    spread = f" {PLUS_MINUS} {format_value(ours.std, row.metric)}" if ours.n > 1 else ""
    published = row.bound + ("~" if row.approximate else "") + format_value(row.value, row.metric)
    if row.std is not None:
        published += f" {PLUS_MINUS} {format_value(row.std, row.metric)}"
    if row.seeds is not None:
        published += f" ({row.seeds})"
    method = row.told if row.control == "none" else f"{row.told}, {row.control}"
    return [
        row.task,
        method,
        MISSING if row.sparsity is None else format_sparsity(row.sparsity),
        row.metric,
        published,
        f"{format_value(ours.mean, row.metric)}{spread} ({ours.n})" if ours.n else MISSING,
        _signed(checked.gap, row.metric),
        format_value(checked.tolerance, row.metric),
        checked.verdict,
    ]


def _tell_claim(checked: CheckedClaim) -> list[str]:
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
    above, below, by = checked.claim.above, checked.claim.below, checked.claim.by
    margin = f" by more than {format_value(by, above.metric)}" if by else ""
    at = f" at {format_sparsity(above.sparsity)}" if above.sparsity is not None else ""
    return f"{above.method} above {below.method}{margin}{at} on {above.task}"


def _say_setting(differences: Iterable[Difference]) -> str:
    matters = any(difference.matters for difference in differences)
    return ", in another setting" if matters else ""


def _describe(comparison: Comparison) -> str:
    judged = sum(item.verdict in (MATCHED, NOT_MATCHED, NOT_OURS) for item in comparison.rows)
    text = (
        f"{comparison.paper.source}. Percentages in points; gap: ours minus published; ours: mean "
        "and sample standard deviation over seeds (number of seeds); within: what the gap may be, "
        f"so that a perfect reproduction is called not matched with a chance of {CHANCE:g} at most."
    )
    if judged:
        text += (
            f" {judged} value{'s' * (judged != 1)} judged: of as many perfect ones up to "
            f"{CHANCE * judged:.1f} would be called so."
        )
    if count := comparison.unsealed:
        text += f" {count} of our runs {'have' if count > 1 else 'has'} no seal (--unsealed)."
    return text


def _tell_missing(comparison: Comparison) -> str:
    """How much of the paper has no runs, and what would make some; empty where all has."""
    published = [checked for checked in comparison.rows if checked.row.stands_for is None]
    lacking = sum(checked.verdict == NO_RUNS for checked in published)
    absent = [
        filling
        for checked, filling in zip(comparison.rows, comparison.fillings, strict=True)
        if checked.verdict == NO_RUNS
    ]
    if not absent:
        return ""
    text = f"{lacking} of {len(published)} published rows have no runs here."
    commands = dict.fromkeys(filling.command for filling in absent if filling.command)
    experiments = [command for command in commands if " experiment=" in command]
    if experiments:
        text += f" What the suite can run of them: {'; '.join(experiments)}"
    if single := len(commands) - len(experiments):
        text += f" {'and' if experiments else 'The suite can run of them:'} {single} "
        text += f"command{'s' * (single > 1)} of single cells, listed with --all and --out."
    return text


# ---- Formats


def to_terminal(sheet: Sheet) -> list[TerminalTable]:
    """The tables of a sheet for `rich.console.Console.print`; those without lines are left out."""
    tables = (
        (sheet.title, _HEADS, sheet.rows, _SIDES),
        ("Claims of order", _CLAIM_HEADS, sheet.claims, _CLAIM_SIDES),
    )
    return [_terminal_table(*table) for table in tables if table[2]]


def _terminal_table(
    title: str, heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str
) -> TerminalTable:
    from rich import box
    from rich.table import Table as TerminalTable
    from rich.text import Text

    table = TerminalTable(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for head, side in zip(heads, sides, strict=True):
        table.add_column(head, justify="right" if side == "r" else "left", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def to_markdown(comparison: Comparison) -> str:
    """All rows and claims as GitHub Markdown."""
    sheet = write_sheet(comparison)
    parts = [f"# {escape_markdown(sheet.title)}", escape_markdown(sheet.about)]
    if sheet.rows:
        parts.append(_markdown_table(_HEADS, sheet.rows, _SIDES))
    if sheet.claims:
        parts.append("## Claims of order")
        parts.append(_markdown_table(_CLAIM_HEADS, sheet.claims, _CLAIM_SIDES))
    if sheet.notes:
        parts.append("## What differs in the setting")
        lines = (f"* **{letter}**: {escape_markdown(words)}" for letter, words in sheet.notes)
        parts.append("\n".join(lines))
    if sheet.commands:
        parts.append("## What fills the empty cells")
        # A code span takes its text as it is; none of the commands holds a backtick.
        parts.append("\n".join(f"* **{letter}**: `{text}`" for letter, text in sheet.commands))
    if sheet.missing:
        parts.append(escape_markdown(sheet.missing))
    return "\n\n".join(parts) + "\n"


def _markdown_table(heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    ruler = ["---:" if side == "r" else "---" for side in sides]
    table = [heads, ruler, *([escape_markdown(text) for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def to_latex(comparison: Comparison) -> str:
    """All rows and claims as LaTeX; needs the packages booktabs and longtable."""
    sheet = write_sheet(comparison)
    parts = ["% Needs \\usepackage{booktabs,longtable}."]
    if sheet.rows:
        caption = f"{sheet.title}. {sheet.about}"
        parts.append(_latex_table(caption, _HEADS, sheet.rows, _SIDES))
    if sheet.claims:
        caption = f"{sheet.title}: claims of order."
        parts.append(_latex_table(caption, _CLAIM_HEADS, sheet.claims, _CLAIM_SIDES))
    told = [escape_latex(f"{letter}: {words}.") for letter, words in sheet.notes]
    told += [rf"{letter}: \texttt{{{escape_latex(text)}}}." for letter, text in sheet.commands]
    if told:
        parts.append("\n\n".join(rf"\noindent {text}" for text in told))
    return "\n\n".join(parts) + "\n"


def _latex_table(
    caption: str, heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str
) -> str:
    body = [f"{' & '.join(escape_latex(text) for text in line)} \\\\" for line in lines]
    return "\n".join(
        [
            rf"\begin{{longtable}}{{{sides}}}",
            rf"\caption{{{escape_latex(caption)}}} \\",
            r"\toprule",
            f"{' & '.join(escape_latex(head) for head in heads)} \\\\",
            r"\midrule",
            r"\endhead",
            *body,
            r"\bottomrule",
            r"\end{longtable}",
        ]
    )


_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #8884 }
.r { text-align: right; font-variant-numeric: tabular-nums }
dt { float: left; font-weight: 600; width: 2.5rem } dd { margin-left: 2.5rem }
"""


def to_html(comparison: Comparison) -> str:
    """All rows and claims as one page of HTML, which needs no network and runs no script."""
    sheet = write_sheet(comparison)
    parts = [f"<h1>{html.escape(sheet.title)}</h1>", f"<p>{html.escape(sheet.about)}</p>"]
    if sheet.rows:
        parts.append(_html_table(_HEADS, sheet.rows, _SIDES))
    if sheet.claims:
        parts.append("<h2>Claims of order</h2>")
        parts.append(_html_table(_CLAIM_HEADS, sheet.claims, _CLAIM_SIDES))
    if sheet.notes:
        parts.append("<h2>What differs in the setting</h2>")
        parts.append(_html_list(sheet.notes, "{}"))
    if sheet.commands:
        parts.append("<h2>What fills the empty cells</h2>")
        parts.append(_html_list(sheet.commands, "<code>{}</code>"))
    if sheet.missing:
        parts.append(f"<p>{html.escape(sheet.missing)}</p>")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{html.escape(sheet.title)}</title>\n<style>\n{_STYLE}</style>"
    )
    return "\n".join([head, *parts, "</html>"]) + "\n"


def _html_table(heads: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    def write(tag: str, texts: Sequence[str]) -> str:
        cells = (
            f"<{tag}{' class=r' if side == 'r' else ''}>{html.escape(text)}</{tag}>"
            for text, side in zip(texts, sides, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    body = "\n".join(write("td", line) for line in lines)
    return f"<table>\n<thead>{write('th', heads)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_list(entries: Iterable[tuple[str, str]], form: str) -> str:
    told = (
        f"<dt>{html.escape(name)}</dt><dd>{form.format(html.escape(text))}</dd>"
        for name, text in entries
    )
    return f"<dl>\n{chr(10).join(told)}\n</dl>"


_ABOUT = (
    *("source", "locator", "kind", "verified", "task", "model", "method", "stands_for"),
    *("masks", "control", "split"),
    *("metric", "start", "sparsity", "denominator", "pattern", "distribution", "finetune"),
    *("epochs", "lr", "batch_size", "schedule", "kd", "seeds", "note"),
)
_PUBLISHED = ("bound", "approximate", "value", "std", "error")
_OURS = (
    *("below", "by", "ours", "ours_std", "ours_n", "gap", "tolerance", "low", "high", "p"),
    *("verdict", "differs", "command"),
)


def to_csv(comparison: Comparison) -> str:
    """One line a row ("value") and one a claim ("order"), numbers in the record's unit.

    Of a claim `method` is the one above, `gap` the gain, and `ours_n` the shared seeds. `command`
    makes the runs of a row that has none.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ("check", *_ABOUT, *_PUBLISHED, *_OURS), lineterminator="\n")
    writer.writeheader()
    for checked, filling in zip(comparison.rows, comparison.fillings, strict=True):
        line = {name: getattr(checked.row, name) for name in (*_ABOUT, *_PUBLISHED)}
        line |= {"check": "value", "ours": checked.ours.mean, "ours_std": checked.ours.std}
        line |= {"ours_n": checked.ours.n, "gap": checked.gap, "verdict": checked.verdict}
        line["tolerance"] = checked.tolerance
        line["differs"] = _list_words(checked.differences)
        line["command"] = filling.command if checked.verdict == NO_RUNS else ""
        writer.writerow(_blank(line))
    for item in comparison.claims:
        line = {name: getattr(item.claim.above, name) for name in _ABOUT}
        line |= {"check": "order", "below": item.claim.below.method, "by": item.claim.by}
        line |= {"ours_n": item.pairs, "gap": item.gain, "low": item.low, "high": item.high}
        line |= {"p": item.p, "verdict": item.words + _say_setting(item.differences)}
        line["differs"] = _list_words(item.differences)
        writer.writerow(_blank(line))
    return text.getvalue()


def _blank(line: dict[str, Any]) -> dict[str, Any]:
    """A CSV has no NaN: what is not there is empty."""
    return {
        name: "" if isinstance(value, float) and math.isnan(value) else safe_cell(value)
        for name, value in line.items()
    }


#: What a file is written as, by its ending.
FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".tex": to_latex,
    ".md": to_markdown,
    ".csv": to_csv,
    ".html": to_html,
}
