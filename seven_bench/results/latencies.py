"""What was measured of how fast each form of a model answers, beside what it scores.

A form is the model as the run has it ("dense": its zeros cost what weights do), the same by oneDNN
("onednn"), its file of `export --to csr`, whose layers are in the form that was fastest, or the
model without its removed units ("smaller"). `seven-bench export --to latency` measures them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from seven_bench.results.groups import DENSE, SEPARATOR, Group, is_control
from seven_bench.results.tables import (
    MISSING,
    describe_metric,
    escape_markdown,
    format_sparsity,
    format_value,
)

_COLUMN = re.compile(r"efficiency\.latency\.(\w+)_batch(\d+)$")
_LATENCY = "efficiency.latency."
FORMS = ("csr", "smaller")  # of what is pruned
PLAIN_FORMS = ("dense", "onednn")  # zeros have no part in these


@dataclass(frozen=True)
class Time:
    """Seconds: the median over runs of their medians, the lowest and highest of their quartiles;
    `ratio` is what the same runs' dense form takes, measured in turns with it, by that (of a small
    dense model what the dense row takes).
    """

    median: float
    low: float
    high: float
    ratio: float


@dataclass(frozen=True)
class Point:
    """A form of a method at a sparsity: what it scores over `n` runs, and its times by batch.
    `layers` counts its linear layers by form, `taken` names them; both of one of the runs.
    """

    method: str
    style: str
    sparsity: float
    form: str
    dense: bool
    mean: float
    std: float
    n: int
    times: dict[int, Time]
    layers: str = ""
    taken: str = ""


@dataclass(frozen=True)
class Latencies:
    """Points that may be held against each other: of one task, model, start, measure and recipe,
    whatever their pattern. `measured` says on how many threads, and what one example was.
    """

    title: str
    metric: str
    higher_is_better: bool
    batches: list[int]
    measured: list[str]
    points: list[Point]


def list_latencies(groups: Iterable[Group]) -> list[Latencies]:
    """One for each task, model, start, measure and recipe of which something was timed."""
    families: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        metric = (group.metric.name, group.metric.split, group.metric.epoch)
        key = (group.task, group.model, group.start, *metric, group.recipe_id)
        families.setdefault(key, []).append(group)
    found = (_of_family(several) for several in families.values())
    return [latencies for latencies in found if latencies.points]


def _of_family(groups: list[Group]) -> Latencies:
    runs = pd.concat([part for group in groups for part in (group.dense, group.runs)])
    runs = runs.drop_duplicates("folder")
    batches = sorted({int(m[2]) for name in runs.columns if (m := _COLUMN.match(name))})
    plain = (runs["pruner"] == DENSE) | is_control(runs)
    named = runs["method"].where(
        plain | (runs["pattern"] == "unstructured"), runs["method"] + SEPARATOR + runs["pattern"]
    )
    runs = runs.assign(shown=named, plain=plain)
    points: list[Point] = []
    for (shown, sparsity), cell in runs.groupby(["shown", "sparsity.target"]):
        first, values = cell.iloc[0], cell["metric.value"]
        # of what is pruned the forms with its zeros in it are as fast as the dense row
        forms = PLAIN_FORMS if first["plain"] else FORMS
        timed = {form: _timed(cell, form, batches) for form in forms}
        points += [
            Point(
                str(shown), str(first["method"]), float(sparsity), form,
                bool(first["pruner"] == DENSE), float(values.mean()), float(values.std()),
                len(cell), times, _text(cell, f"{_LATENCY}{form}_layers"),
                _taken(cell) if form == "csr" else "",
            )
            for form, times in timed.items() if times
        ]  # fmt: skip
    points = [_against_dense(point, points) for point in points]
    points.sort(key=lambda p: (not p.dense, p.method, p.sparsity, p.form))
    metric = groups[0].metric
    first_group = groups[0]
    title = SEPARATOR.join((first_group.task, first_group.model, f"start {first_group.start}"))
    return Latencies(title, metric.name, metric.higher_is_better, batches, _measured(runs), points)


def _against_dense(point: Point, points: list[Point]) -> Point:
    """A small dense model, held against the dense row: it has no dense form of its own."""
    dense = next((p.times for p in points if p.dense), {})
    if point.form not in PLAIN_FORMS or point.dense:
        return point
    times = {
        batch: replace(time, ratio=dense[batch].median / time.median) if batch in dense else time
        for batch, time in point.times.items()
    }
    return replace(point, times=times)


def _timed(cell: pd.DataFrame, form: str, batches: Iterable[int]) -> dict[int, Time]:
    found = {}
    for batch in batches:
        name = f"{_LATENCY}{form}_batch{batch}"
        if name not in cell or not (rows := cell[cell[name].notna()]).shape[0]:
            continue
        spread = [
            rows[f"{name}_{end}"].fillna(rows[name]) if f"{name}_{end}" in rows else rows[name]
            for end in ("low", "high")
        ]
        ratios = rows[f"{_LATENCY}dense_batch{batch}"] / rows[name]
        found[batch] = Time(
            float(rows[name].median()), float(spread[0].min()), float(spread[1].max()),
            float(ratios.median()),
        )  # fmt: skip
    return found


def _text(cell: pd.DataFrame, column: str) -> str:
    """What the first of the runs that say something say."""
    known = list(cell[column].dropna()) if column in cell else []
    return str(known[0]) if known else ""


def _taken(cell: pd.DataFrame) -> str:
    """Layers by the form that they took: `compacted layer.0-11.output.dense; dense ...`."""
    column = "efficiency.layers"
    known = [entries for entries in cell.get(column, ()) if isinstance(entries, list)]
    forms: dict[str, list[str]] = {}
    for entry in known[0] if known else ():
        forms.setdefault(str(entry["form"]), []).append(str(entry["layers"]))
    return "; ".join(f"{form} {', '.join(layers)}" for form, layers in sorted(forms.items()))


def _measured(runs: pd.DataFrame) -> list[str]:
    """Threads, an example's shape and the machine of what was timed, each once."""
    names = [f"{_LATENCY}threads", f"{_LATENCY}input", "environment.hardware"]
    if names[0] not in runs:
        return []
    timed = runs[runs[names[0]].notna()]
    words = {
        f"{(n := int(row[names[0]]))} thread{'s' * (n != 1)}, "
        f"one example {row.get(names[1], 'not stated')}, "
        f"{row.get(names[2], 'a machine not stated')}"
        for row in timed.to_dict("records")
    }
    remarks = [name for name in runs if name.startswith(_LATENCY) and name.endswith("_remark")]
    busy = any("busy" in str(value) for name in remarks for value in runs[name].dropna())
    warning = ["other work was under way while some of it was timed"] if busy else []
    return [*sorted(words), *warning]


def list_cells(told: Latencies, point: Point) -> list[str]:
    """A point as a row of a table: method, sparsity, form, layers, metric; by batch milliseconds
    and ratio.
    """
    value = format_value(point.mean, told.metric)
    spread = f" ± {format_value(point.std, told.metric)}" if point.n > 1 else ""
    sparsity = MISSING if point.dense else format_sparsity(point.sparsity)
    layers = point.layers or MISSING
    cells = [point.method, sparsity, point.form, layers, f"{value}{spread} ({point.n})"]
    for batch in told.batches:
        time = point.times.get(batch)
        if time is None:
            cells += [MISSING, MISSING]
        else:
            low, median, high = (milliseconds(s) for s in (time.low, time.median, time.high))
            cells += [f"{median} ({low} to {high})", f"{time.ratio:.2f}x"]
    return cells


def milliseconds(seconds: float) -> str:
    """Three digits of them, or all there are before the point."""
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def latencies_to_markdown(several: Iterable[Latencies]) -> str:
    """A GitHub Markdown table for each, with what was measured below it."""
    parts = ["# The metric against measured latency"]
    for told in several:
        head = ["method", "sparsity", "form", "layers", describe_metric(told.metric)]
        for batch in told.batches:
            head += [f"ms, batch {batch} (quartiles)", "dense / it"]
        align = ["---"] * 4 + ["---:"] * (len(head) - 4)
        rows = [list_cells(told, point) for point in told.points]
        lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in (head, *rows)]
        lines.insert(1, f"| {' | '.join(align)} |")
        measured = escape_markdown("; ".join(told.measured))
        parts += [f"## {escape_markdown(told.title)}", "\n".join(lines), f"{measured}."]
        taken = [
            f"{point.method} {format_sparsity(point.sparsity)}, {point.form}: {point.taken}"
            for point in told.points
            if point.taken
        ]
        parts += ["\n".join(f"* {escape_markdown(words)}" for words in taken)] if taken else []
    return "\n\n".join(parts) + "\n"
