"""`seven-bench list`: what there is to choose from, and what goes with what.

All of it is read from the config files and from what the parts declare; torch is not imported.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from seven_bench.commands.options import add_plugins, declare_plugins
from seven_bench.pruning.distributions import DISTRIBUTIONS
from seven_bench.pruning.patterns import PATTERNS
from seven_bench.settings.building import check_target
from seven_bench.settings.conf import conf_sources, yaml_files
from seven_bench.settings.model import Pruner
from seven_bench.settings.node import read
from seven_bench.settings.validity import allowed_distributions, allowed_timings, check_whole

if TYPE_CHECKING:
    from rich.table import Table

EPILOG = """\
examples:
  seven-bench list                 everything, for reading
  seven-bench list --markdown      the table of methods, as in the README
  seven-bench list --matrix        every method x timing x pattern x distribution, CSV
  seven-bench list --config-dir D --plugins PKG   with those of D/pruner/*.yaml, D/model/*.yaml, ...
"""
_LETTERS = {"global": "g", "uniform": "u", "er": "e", "lamp": "l", "per_row": "r"}
_AUTHORS = r"((?:de )?[A-Z][\w-]+(?: et al\.| & [A-Z][\w-]+)? \d{4}),? "
_SOURCE = re.compile(rf"(?:{_AUTHORS})?\(?arXiv (\d{{4}}\.\d{{4,5}})")
_BRACKETS = re.compile(r"\s*\([^)]*\)")


@dataclass(frozen=True)
class Choice:
    """One file of a config group: its name, what its first comment says, its node, and the plug-in
    that it comes from.
    """

    name: str
    text: str
    node: dict[str, Any]
    origin: str = ""

    @property
    def title(self) -> str:
        """The comment's first sentence, without what stands in brackets."""
        return re.split(r"\.(?:\s|$)", _BRACKETS.sub("", self.text))[0]

    @property
    def whole_title(self) -> str:
        """The title, and where it comes from if from outside."""
        return f"{self.title} [from {self.origin}]" if self.origin else self.title

    @property
    def source(self) -> tuple[str, str]:
        """Authors with year, and arXiv id, as the comment gives them first; empty without."""
        found = _SOURCE.search(self.text)
        return (found[1] or "", found[2]) if found else ("", "")


@dataclass(frozen=True)
class Row:
    """What a method can be combined with: its distributions, its own first, by timing, pattern."""

    method: str
    timing: str
    masking: str
    own: bool  # whether this is the timing of the method's file
    distributions: dict[str, tuple[str, ...]]


def choices(group: str) -> list[Choice]:
    """The files of a config group, by name, plug-ins' too."""
    found = []
    for source in conf_sources():
        root = source.folder / group
        for path in yaml_files(root):
            name = path.relative_to(root).with_suffix("").as_posix()
            found.append(_read(name, path.read_text(encoding="utf-8"), group, source.origin))
    return sorted(found, key=lambda choice: choice.name)


def _read(name: str, text: str, group: str, origin: str) -> Choice:
    comments = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comments.append(line.lstrip("# ").rstrip())
    node: dict[str, Any] = yaml.safe_load(text) or {}
    node.pop("defaults", None)  # of what another file says
    return Choice(name, " ".join(comments), node.get(group, node), origin)


def matrix(methods: Iterable[Choice]) -> list[Row]:
    """Every method at every timing that it can have. Dense is no method.

    Raises: ConfigError when a method's file or its score declares what cannot be.
    """
    rows = []
    for choice in methods:
        pruner = read(Pruner, choice.node, "pruner.")
        if pruner.timing == "none":
            continue
        check_whole(pruner)
        assert pruner.score is not None  # it is whole
        check_target(pruner.score, "pruner.score")
        for timing in allowed_timings(pruner):
            distributions = {
                pattern: allowed_distributions(pruner, pattern)
                for pattern in PATTERNS
                if timing in allowed_timings(pruner, pattern)
            }
            own = timing == pruner.timing
            rows.append(Row(choice.name, timing, pruner.masking, own, distributions))
    return rows


def to_csv(rows: Iterable[Row]) -> str:
    """One line for each method x timing x pattern x distribution that is valid."""
    lines = [
        f"{row.method},{row.timing},{row.masking},{pattern},{distribution}"
        for row in rows
        for pattern, distributions in row.distributions.items()
        for distribution in distributions
    ]
    return "\n".join(["method,timing,masking,pattern,distribution", *lines]) + "\n"


def to_markdown(methods: Sequence[Choice]) -> str:
    """The README's table of methods."""
    lines = ["| `pruner=` | prunes | what it is | source |", "| --- | --- | --- | --- |"]
    for choice in sorted(methods, key=_by_timing):
        authors, arxiv = choice.source
        link = f"[arXiv {arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else ""
        title = choice.title.replace("|", "\\|")
        source = ", ".join(filter(None, (authors, link)))
        cells = (f"`{choice.name}`", _when(choice), title, source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _by_timing(choice: Choice) -> tuple[int, str]:
    order = ("none", "before", "during", "rounds", "after")
    return order.index(choice.node["timing"]), choice.name


def _when(choice: Choice) -> str:
    timing = str(choice.node["timing"])
    return {"none": "never", "rounds": "in rounds"}.get(timing, timing)


def _tables() -> list[Table]:
    from rich.table import Table

    def table(title: str, *columns: str, caption: str = "") -> Table:
        made = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        made.box = None
        for column in columns:
            made.add_column(column, overflow="fold")
        return made

    methods = choices("pruner")
    listed = table("Methods (pruner=)", "method", "prunes", "what it is", "source")
    for choice in sorted(methods, key=_by_timing):
        authors, arxiv = choice.source
        source = ", ".join(filter(None, (authors, f"arXiv {arxiv}" if arxiv else "")))
        listed.add_row(choice.name, _when(choice), choice.whole_title, source)
    letters = ", ".join(f"{letter} {name}" for name, letter in _LETTERS.items())
    goes = table(
        "What goes together",
        "method", "timing", "other timings", "masking", *PATTERNS,
        caption=f"Distributions by pattern, the method's own first: {letters}. "
        "N:M patterns fix sparsity at 0.5. Controls (control=) are for timing before, reinit and "
        "permute_layers for rounds too.",
    )  # fmt: skip
    rows = matrix(methods)
    for row in rows:
        if row.own:
            others = [r.timing for r in rows if r.method == row.method and not r.own]
            cells = (
                "".join(_LETTERS[d] for d in row.distributions.get(pattern, ())) or "-"
                for pattern in PATTERNS
            )
            goes.add_row(row.method, row.timing, " ".join(others) or "-", row.masking, *cells)
    tables = [listed, goes]
    for group, title in (
        ("control", "Controls (control=)"), ("task", "Tasks (task=)"), ("model", "Models (model=)"),
    ):  # fmt: skip
        group_table = table(title, "name", "what it is")
        for choice in choices(group):
            kind = choice.node.get("kind")
            group_table.add_row(choice.name, choice.whole_title + (f" [{kind}]" if kind else ""))
        tables.append(group_table)
    return tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the table of methods as Markdown")
    form.add_argument("--matrix", action="store_true", help="all that is valid, as CSV")
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Prints what was asked for."""
    declare_plugins(options)
    if options.markdown:
        sys.stdout.write(to_markdown(choices("pruner")))
    elif options.matrix:
        sys.stdout.write(to_csv(matrix(choices("pruner"))))
    else:
        from seven_bench.terminal import console as make_console

        console = make_console(markup=False, highlight=False)
        for table in _tables():
            console.print(table)
            console.print()
    return 0


assert _LETTERS.keys() == DISTRIBUTIONS.keys()
