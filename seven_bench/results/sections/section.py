"""What a section of the page is, and what all of them are made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seven_bench.results.groups import Group
from seven_bench.results.item_rows import ItemTable
from seven_bench.results.overlap import Overlaps
from seven_bench.results.statistics import Ranking
from seven_bench.results.styles import Style
from seven_bench.results.tables import Table
from seven_bench.results.training_curves import Curve


@dataclass(frozen=True)
class PageContent:
    """What a page shows. `ranks` holds title, sparsity and ranking, `damaged` and
    `unfinished` path and reason, `items` the groups whose runs keep predictions."""

    groups: Sequence[Group]
    tables: Sequence[Table]
    styles: Mapping[str, Style]
    overlaps: Sequence[Overlaps]
    ranks: Sequence[tuple[str, float, Ranking]]
    damaged: Sequence[tuple[Path, str]]
    unfinished: Sequence[tuple[Path, str]]
    records: pd.DataFrame
    items: Sequence[ItemTable] = ()
    margin: float | None = None
    at: tuple[float, ...] = ()
    reference: str | None = None
    methods: tuple[str, ...] = ()
    curves: Sequence[Sequence[Curve]] = ()


def _nothing(_content: PageContent) -> dict[str, Any]:
    return {}


def _leave(_payload: dict[str, Any], _content: PageContent) -> None:
    pass


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        markup: its template (Jinja): sees `content` and the names that `context` returns, the
            filter `sparsity`, the function `value` and the macro `choice`. May come out empty.
        script: its part of the page's script; ends in `addSection`, see `templates/core.js`.
        context: what the template needs.
        fill: adds what the script needs to the page's data, of which `groups` are there already,
            one for each of `content.groups`.
    """

    markup: str
    script: str = ""
    context: Callable[[PageContent], dict[str, Any]] = _nothing
    fill: Callable[[dict[str, Any], PageContent], None] = _leave


def all_runs(group: Group) -> pd.DataFrame:
    """The dense runs of a group and then its pruned ones: the order of the page's data."""
    return pd.concat([group.dense, group.runs])


def all_methods(group: Group) -> list[str]:
    """The dense methods of a group, its small dense models, and then its pruned ones."""
    return [*sorted(group.dense["method"].unique()), *group.controls, *group.methods]
