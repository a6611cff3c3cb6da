"""One page, `index.html`: every number of a set of records, in one file and without a network.

What stands on it is in `sections/`; here is what they share: the frame, the runs and their cells.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from seven_bench.results.groups import DENSE, DRAW, REPLICATE, Group, is_control
from seven_bench.results.sections import SECTIONS
from seven_bench.results.sections.numbers import (
    first_known,
    numeric_columns,
    shorten,
    shorten_all,
)
from seven_bench.results.sections.section import PageContent, all_methods, all_runs
from seven_bench.results.statistics import sampling_interval, summarise
from seven_bench.results.styles import DARK, LIGHT
from seven_bench.results.tables import (
    describe_metric,
    format_sparsity,
    format_value,
    is_accuracy,
    is_percentage,
)

__all__ = ["PageContent", "build_command", "build_payload", "relative_link", "render_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("core", "tools", "start")  # those of the sections come before the last
#: Numbers beside the metrics that no method changes.
_ABOUT_THE_TASK = ("metrics.majority", "metrics.test_examples", "metrics.train_examples")


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
    choice: Any = environment.get_template("choice.html").module
    environment.globals["choice"] = choice.choice
    sections = [
        environment.from_string(section.markup).render(content=content, **section.context(content))
        for section in SECTIONS
    ]
    core, tools, start = ((_TEMPLATES / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    own = (section.script for section in SECTIONS if section.script)
    code = "\n".join([core, tools, *own, start])
    return environment.get_template("page.html").render(
        style=Markup((_TEMPLATES / "page.css").read_text("utf-8")),
        colours=Markup(_list_colours()),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        data=Markup(_embed(build_payload(content, folder))),
        content=content,
        totals=_count_totals(content.records),
        sections=[Markup(text.strip()) for text in sections if text.strip()],
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
    payload: dict[str, Any] = {
        "groups": [
            {**_describe_group(group, content, Path(folder)), "caption": table.caption}
            for group, table in zip(content.groups, content.tables, strict=True)
        ]
    }
    for section in SECTIONS:
        section.fill(payload, content)
    return payload


def _describe_group(group: Group, content: PageContent, folder: Path) -> dict[str, Any]:
    runs, methods = all_runs(group), all_methods(group)
    dense = set(group.dense["method"])
    metrics = [m for m in numeric_columns(runs, "metrics.") if m not in _ABOUT_THE_TASK]
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
        "majority": first_known(runs, "metrics.majority"),
        "methods": [
            {
                "name": name,
                "dense": name in dense,
                "control": name in group.controls,
                **vars(content.styles[name]),
            }
            for name in methods
        ],
        "sparsities": group.sparsities,
        "runs": {
            "method": [methods.index(name) for name in runs["method"]],
            "sparsity": runs["sparsity.target"].tolist(),
            "reached": shorten_all(runs["sparsity.prunable"]),
            "seed": runs["seed"].tolist(),
            "named": _name_seeds(runs),
            "folder": _split_links(relative_link(path, folder) for path in runs["folder"]),
            "command": _fold(commands, runs["seed"]),
            "unsealed": [at for at, sealed in enumerate(runs["sealed"]) if not sealed],
            "values": {
                **{m.removeprefix("metrics."): shorten_all(runs[m]) for m in metrics},
                group.metric.name: shorten_all(runs["metric.value"]),
            },
        },
        "commands_recorded": "command" in runs and bool(runs["command"].notna().all()),
        "cells": _describe_cells(group),
    }


def _describe_cells(group: Group) -> list[list[Any]]:
    """Per method and sparsity: the seeds' t-interval, and what the test set alone leaves open."""
    cells = []
    for (method, sparsity), runs in all_runs(group).groupby(["method", "sparsity.target"]):
        summary, test = summarise(runs["metric.value"]), (math.nan, math.nan)
        examples = first_known(runs, "metrics.test_examples")
        if is_accuracy(group.metric.name) and examples and summary.n:
            test = sampling_interval(summary.mean, int(examples))
        numbers = (summary.low, summary.high, *test)
        cells.append([method, sparsity, *(shorten(number) for number in numbers)])
    return cells


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


def _name_seeds(runs: pd.DataFrame) -> list[str]:
    """What a run is among those of its cell, in words."""
    splits, draws = runs["seeds.split"].nunique() > 1, runs.groupby(REPLICATE)[DRAW].nunique() > 1
    drawn = bool(draws.any())
    named = []
    for split, seed, draw in runs[[*REPLICATE, DRAW]].itertuples(index=False):
        words = [f"split {split}"] if splits else []
        words += [f"seed {seed}"]
        words += [f"draw {draw:.0f}"] if drawn and not math.isnan(draw) else []
        named.append(", ".join(words))
    return named


def build_command(run: Mapping[str, Any]) -> str:
    """The command that repeats a run: the recorded one, or else one built from its keys."""
    recorded = run.get("command")
    if isinstance(recorded, str) and recorded:
        return recorded
    keys = ["task", "model", "start", "pruner", "finetune", "seed"]
    given = [(key, run[key]) for key in keys if run.get(key) not in (None, "")]
    if run["pruner"] != DENSE:
        given.insert(4, ("sparsity", format_sparsity(run["sparsity.target"])))
    if split := run.get("seeds.split"):
        given.append(("data.split_seed", split))
    if (draw := run.get(DRAW)) is not None and not math.isnan(draw) and draw != run["seed"]:
        given.append(("calibration.seed", int(draw)))
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
    pruned = records[(records["pruner"] != DENSE) & ~is_control(records)]
    return {
        "runs": len(records),
        "methods": pruned["pruner"].nunique(),
        "tasks": records["task"].nunique(),
        "models": records["model"].nunique(),
        "seeds": records["seed"].nunique(),
        "unsealed": int((~records["sealed"]).sum()),
    }
