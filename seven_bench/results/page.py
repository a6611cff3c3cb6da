"""One page, `index.html`: every number of a set of records, in one file and without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from seven_bench.results.groups import DENSE, Group
from seven_bench.results.overlap import Overlaps
from seven_bench.results.sentinel_rows import tabulate_sentinels
from seven_bench.results.statistics import (
    ALPHA,
    WANTED_BLOCKS,
    Ranking,
    compare,
    pair_by_seed,
    sampling_interval,
    seeds_needed,
    summarise,
)
from seven_bench.results.styles import DARK, LIGHT, Style
from seven_bench.results.tables import (
    Table,
    describe_metric,
    format_sparsity,
    format_value,
    is_accuracy,
    is_percentage,
)

_TEMPLATES = Path(__file__).parent / "templates"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAYER_STEPS = len(_ALPHABET) ** 2 - 1
#: Columns of a run that the page can plot a metric against, and what a reader calls them.
_COSTS = {
    "params.kept": "weights kept",
    "cost.example_equivalents.total": "cost, example equivalents",
    "cost.seconds.total": "seconds",
    "cost.peak_memory_bytes": "peak memory, bytes",
    "efficiency.macs.masked": "MACs of one example, without removed weights",
    "efficiency.bytes.packed": "bytes of the packed file",
    "efficiency.bytes.zstd": "bytes of the model's file under zstd",
}
_DENSE_COSTS = ("efficiency.macs.dense", "efficiency.bytes.dense")  # no method changes them
#: Numbers beside the metrics that no method changes.
_ABOUT_THE_TASK = ("metrics.majority", "metrics.test_examples", "metrics.train_examples")


@dataclass(frozen=True)
class PageContent:
    """What a page shows. `ranks` holds title, sparsity and ranking, `damaged` and
    `unfinished` path and reason."""

    groups: Sequence[Group]
    tables: Sequence[Table]
    styles: Mapping[str, Style]
    overlaps: Sequence[Overlaps]
    ranks: Sequence[tuple[str, float, Ranking]]
    damaged: Sequence[tuple[Path, str]]
    unfinished: Sequence[tuple[Path, str]]
    records: pd.DataFrame
    margin: float | None = None
    at: tuple[float, ...] = ()
    reference: str | None = None
    methods: tuple[str, ...] = ()


def render_page(content: PageContent, folder: str | Path) -> str:
    """Return the page as HTML; links to runs are relative to `folder`, where it will lie.

    Text from records is escaped in the markup and in the data, and the page's content policy
    lets no script run but its own.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["sparsity"] = format_sparsity
    environment.globals["value"] = format_value
    style, script = (_TEMPLATES / name for name in ("page.css", "page.js"))
    code = script.read_text(encoding="utf-8")
    sentinels, sentinels_damaged = tabulate_sentinels(content.groups)
    return environment.get_template("page.html").render(
        style=Markup(style.read_text(encoding="utf-8")),
        colours=Markup(_list_colours()),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        data=Markup(_embed(build_payload(content, folder))),
        content=content,
        totals=_count_totals(content.records),
        ranks=_tabulate_ranks(content.ranks),
        environments=_list_environments(content.records),
        sentinels=sentinels,
        sentinels_damaged=sentinels_damaged,
    )


def _list_colours() -> str:
    light, dark = (
        " ".join(f"--m{index}: {colour};" for index, colour in enumerate(colours))
        for colours in (LIGHT, DARK)
    )
    dark_mode = "@media screen and (prefers-color-scheme: dark)"
    return f":root {{ {light} }}\n{dark_mode} {{ :root {{ {dark} }} }}"


def _embed(payload: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element."""
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def build_payload(content: PageContent, folder: str | Path) -> dict[str, Any]:
    """The numbers behind the page, small: columns instead of rows, repeated text only once."""
    layer_sets: dict[tuple[tuple[str, int], ...], int] = {}
    groups = [
        {
            **_describe_group(group, content, overlaps, layer_sets, Path(folder)),
            "caption": table.caption,
            "margin": content.margin,
        }
        for group, table, overlaps in zip(
            content.groups, content.tables, content.overlaps, strict=True
        )
    ]
    return {
        "groups": groups,
        "layers": [
            {"names": [name for name, _ in layers], "totals": [total for _, total in layers]}
            for layers in layer_sets
        ],
        "reference": content.reference,
        "alpha": ALPHA,
    }


def _describe_group(
    group: Group,
    content: PageContent,
    overlaps: Overlaps,
    layer_sets: dict[tuple[tuple[str, int], ...], int],
    folder: Path,
) -> dict[str, Any]:
    runs = pd.concat([group.dense, group.runs])
    dense = sorted(group.dense["method"].unique())
    methods = [*dense, *group.methods]
    metrics = [m for m in _numeric_columns(runs, "metrics.") if m not in _ABOUT_THE_TASK]
    costs = {
        name: words for name, words in _COSTS.items() if name in runs and runs[name].notna().any()
    }
    more = [n for n in _numeric_columns(runs, "efficiency.") if n not in (*costs, *_DENSE_COSTS)]
    costs |= {name: _say(name) for name in more}
    layers = [_pack_layers(row, layer_sets) for row in runs["layers"]]
    commands = [build_command(row) for row in runs.to_dict("records")]
    return {
        **{name: getattr(group, name) for name in ("task", "model", "start", "setting", "title")},
        "metric": {
            "name": group.metric.name,
            "split": group.metric.split,
            "epoch": group.metric.epoch,
            "higher": group.metric.higher_is_better,
        },
        "metrics": {
            name: {"words": describe_metric(name), "percent": is_percentage(name)}
            for name in [group.metric.name, *(m.removeprefix("metrics.") for m in metrics)]
        },
        "majority": _first(runs, "metrics.majority"),
        "methods": [
            {"name": name, "dense": name in dense, **vars(content.styles[name])} for name in methods
        ],
        "sparsities": group.sparsities,
        "runs": {
            "method": [methods.index(name) for name in runs["method"]],
            "sparsity": runs["sparsity.target"].tolist(),
            "reached": _numbers(runs["sparsity.prunable"]),
            "seed": runs["seed"].tolist(),
            "folder": _split_links(relative_link(path, folder) for path in runs["folder"]),
            "command": _fold(commands, runs["seed"]),
            "values": {
                **{m.removeprefix("metrics."): _numbers(runs[m]) for m in metrics},
                group.metric.name: _numbers(runs["metric.value"]),
            },
            "costs": {name: _numbers(runs[name]) for name in costs},
            "layers": layers,
        },
        "commands_recorded": "command" in runs and bool(runs["command"].notna().all()),
        "costs": costs,
        "cells": _describe_cells(group),
        **_describe_comparisons(group, content),
        "overlap": {
            format_sparsity(level): [
                [a, b, _round(sum(v) / len(v)), len(v)] for (a, b), v in pairs.items()
            ]
            for level, pairs in overlaps.values.items()
        },
        "unread": overlaps.skipped,
    }


def _describe_cells(group: Group) -> list[list[Any]]:
    """Per method and sparsity: the seeds' t-interval, and what the test set alone leaves open."""
    cells = []
    keyed = pd.concat([group.dense, group.runs]).groupby(["method", "sparsity.target"])
    for (method, sparsity), runs in keyed:
        summary, test = summarise(runs["metric.value"]), (math.nan, math.nan)
        examples = _first(runs, "metrics.test_examples")
        if is_accuracy(group.metric.name) and examples and summary.n:
            test = sampling_interval(summary.mean, int(examples))
        numbers = (summary.low, summary.high, *test)
        cells.append([method, sparsity, *(_round(number) for number in numbers)])
    return cells


def _describe_comparisons(group: Group, content: PageContent) -> dict[str, Any]:
    """Every method against every possible reference, each reference a family of its own."""
    words: dict[str, int] = {}
    against, families = {}, {}
    methods = [*sorted(group.dense["method"].unique()), *group.methods]
    for reference in methods:
        pairings = pair_by_seed(group, reference, content.at, content.methods)
        if not pairings:
            continue
        family = compare(
            pairings, higher_is_better=group.metric.higher_is_better, margin=content.margin
        )
        families[reference] = [len(pairings), seeds_needed(len(pairings))]
        against[reference] = [
            [
                *(methods.index(c.method), group.sparsities.index(c.sparsity), c.pairs),
                *(_round(value, 4) for value in (c.difference, c.low, c.high, c.effect, c.p)),
                words.setdefault(c.words, len(words)),
            ]
            for c in family
        ]
    return {"against": against, "families": families, "words": list(words)}


def _numeric_columns(runs: pd.DataFrame, prefix: str) -> list[str]:
    """Columns under `prefix` that hold numbers, at least one of them finite."""
    return [
        name
        for name in runs.columns
        if name.startswith(prefix)
        and all(value is None or _is_number(value) for value in runs[name])
        and pd.to_numeric(runs[name]).notna().any()
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(values: pd.Series) -> list[float | int | None]:
    return [_round(value) for value in pd.to_numeric(values)]


def _round(value: float, digits: int = 6) -> float | int | None:
    if not math.isfinite(value):
        return None
    if float(value).is_integer():
        return int(value)
    return float(f"{value:.{digits}g}")


def _first(runs: pd.DataFrame, column: str) -> float | None:
    if column not in runs:
        return None
    known = pd.to_numeric(runs[column]).dropna()
    return float(known.iloc[0]) if len(known) else None


def _say(name: str) -> str:
    return name.partition(".")[2].replace("_", " ").replace(".", ", ")


def _pack_layers(layers: Any, sets: dict[tuple[tuple[str, int], ...], int]) -> list[Any] | None:
    """Shares of weights kept, two characters a layer, with the number of their set of layers.

    The square root of the share is what is rounded, in 4095 steps: fine where layers are nearly
    empty, and zero for empty layers alone.
    """
    if not isinstance(layers, dict) or not layers:
        return None
    key = tuple((name, counts["total"]) for name, counts in layers.items())
    text = ""
    for counts in layers.values():
        share = counts["kept"] / max(counts["total"], 1)
        step = round(_LAYER_STEPS * math.sqrt(share)) or int(counts["kept"] > 0)
        text += _ALPHABET[step // 64] + _ALPHABET[step % 64]
    return [sets.setdefault(key, len(sets)), text]


def relative_link(path: str | Path, folder: Path) -> str:
    """Where `path` lies as seen from `folder`, with slashes; absolute where there is no way."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return Path(path).as_posix()


def _split_links(links: Iterable[str]) -> list[Any]:
    """Parents, each once; then for every link the number of its parent, and its own name."""
    parents: dict[str, int] = {}
    numbers, names = [], []
    for link in links:
        parent, _, name = link.rpartition("/")
        numbers.append(parents.setdefault(parent, len(parents)))
        names.append(name)
    return [list(parents), numbers, names]


def build_command(run: Mapping[str, Any]) -> str:
    """The command that repeats a run: the recorded one, or else one built from its keys."""
    recorded = run.get("command")
    if isinstance(recorded, str) and recorded:
        return recorded
    keys = ["task", "model", "start", "pruner", "finetune", "seed"]
    given = [(key, run[key]) for key in keys if run.get(key) not in (None, "")]
    if run["pruner"] != DENSE:
        given.insert(4, ("sparsity", format_sparsity(run["sparsity.target"])))
    return " ".join(["python -m seven_bench", *(f"{key}={_quote(value)}" for key, value in given)])


def _quote(value: Any) -> str:
    text = str(value)
    plain = all(character.isalnum() or character in "._-/:,+@" for character in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"


def _fold(commands: Iterable[str], seeds: Iterable[int]) -> list[Any]:
    """Commands that differ in their seed alone share one text, with `{seed}` in its place."""
    texts: dict[str, int] = {}
    indices = []
    for command, seed in zip(commands, seeds, strict=True):
        words = [w if w != f"seed={seed}" else "seed={seed}" for w in command.split(" ")]
        indices.append(texts.setdefault(" ".join(words), len(texts)))
    return [list(texts), indices]


def _count_totals(records: pd.DataFrame) -> dict[str, int]:
    pruned = records[records["pruner"] != DENSE]
    return {
        "runs": len(records),
        "methods": pruned["pruner"].nunique(),
        "tasks": records["task"].nunique(),
        "models": records["model"].nunique(),
        "seeds": records["seed"].nunique(),
    }


def _tabulate_ranks(ranks: Iterable[tuple[str, float, Ranking]]) -> list[dict[str, Any]]:
    """One table a title: average ranks by method and sparsity; what is too few is only told."""
    titles: dict[str, list[tuple[float, Ranking]]] = {}
    for title, sparsity, ranking in ranks:
        titles.setdefault(title, []).append((sparsity, ranking))
    tables = []
    for title, levels in titles.items():
        ranked = [(level, ranking) for level, ranking in levels if ranking.nemenyi is not None]
        by_level = pd.DataFrame({level: ranking.ranks for level, ranking in ranked})
        if ranked:
            by_level = by_level.sort_values(by_level.columns[-1])
        told: dict[str, list[str]] = {}
        for level, ranking in levels:
            if ranking.nemenyi is None:
                told.setdefault(ranking.words, []).append(format_sparsity(level))
        few = any(ranking.blocks < WANTED_BLOCKS for _, ranking in ranked)
        tables.append(
            {"few": few, "title": title, "rankings": ranked, "ranks": by_level, "told": told}
        )
    return tables


def _list_environments(records: pd.DataFrame) -> list[tuple[str, int]]:
    """Distinct machines, code versions and library versions, with their number of runs."""
    names = [n for n in records if n.startswith("environment.")]

    def describe(row: Mapping[str, Any]) -> str:
        parts = []
        for name in names:
            value = row[name]
            if value is None or (isinstance(value, float) and math.isnan(value)) or value == {}:
                continue
            label = name.removeprefix("environment.").removeprefix("versions.")
            parts.append(
                f"{label} {value}"
                if not isinstance(value, bool)
                else label
                if value
                else f"not {label}"
            )
        return ", ".join(parts)

    counts = pd.Series([describe(row) for row in records[names].to_dict("records")]).value_counts()
    return [(str(text), int(number)) for text, number in counts.items()]
