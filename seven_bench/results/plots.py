"""Figures of a group as matplotlib figures: metric over sparsity, kept weights by layer, ranks."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from seven_bench.results.groups import Group
from seven_bench.results.statistics import Ranking, summarise
from seven_bench.results.styles import LIGHT, Style
from seven_bench.results.tables import (
    describe_metric,
    format_sparsity,
    is_percentage,
    summarise_cells,
)

_MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
_INK = "#22252b"
_FAINT = "#6b7078"
_PER_LABEL = 0.045  # of the axes' height: what one line of a direct label takes


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG at 160 dots an inch; the same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=160, metadata={"Software": None})
    return stream.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG with its text as text; the same bytes for the same figure."""
    with matplotlib.rc_context({"svg.hashsalt": "seven_bench", "svg.fonttype": "none"}):
        return _save(figure, "svg", {"Date": None, "Creator": None})


def to_pdf(figure: Figure) -> bytes:
    """The figure as a PDF with its fonts in it; the same bytes for the same figure."""
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        return _save(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def _save(figure: Figure, kind: str, about: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=about)
    return stream.getvalue()


def draw_metric(group: Group, styles: dict[str, Style]) -> Figure:
    """The main metric over sparsity: a line a method, a band of one standard deviation over seeds,
    the dense runs as a line across."""
    figure, axes = _start(group.title, width=7.2, height=4.2)
    scale = 100 if is_percentage(group.metric.name) else 1
    cells, places = summarise_cells(group), _place(group.sparsities)
    ends: list[tuple[float, float, str, str]] = []
    for method in [*group.controls, *group.methods]:
        style, control = styles[method], method in group.controls
        colour = _FAINT if control else LIGHT[styles[method].colour]
        levels = [s for s in group.sparsities if (m := cells.get((method, s))) and m.n]
        if not levels:
            continue
        x = np.array([places[level] for level in levels])
        mean = scale * np.array([cells[method, level].mean for level in levels])
        spread = scale * np.nan_to_num([cells[method, level].std for level in levels])
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.14, linewidth=0)
        dash = "dotted" if control else style.dash
        (line,) = axes.plot(x, mean, color=colour, linestyle=dash, linewidth=1.6)
        line.set(marker=_MARKERS[style.marker], markersize=4.5)
        ends.append((x[-1], mean[-1], method, colour))
    for method, runs in group.dense.groupby("method"):
        dense = summarise(runs["metric.value"])
        if dense.n:
            axes.axhline(scale * dense.mean, color=_INK, linewidth=1.1, linestyle=(0, (5, 3)))
            if dense.n > 1:
                low, high = dense.mean - dense.std, dense.mean + dense.std
                axes.axhspan(scale * low, scale * high, color=_INK, alpha=0.07, linewidth=0)
            ends.append((max(places.values(), default=1), scale * dense.mean, str(method), _INK))
    axes.set_xticks(list(places.values()), [format_sparsity(s) for s in places])
    if len(places) > 8:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_xlabel("sparsity: fraction of prunable weights removed")
    axes.set_ylabel(f"{describe_metric(group.metric.name)}, {group.metric.split}")
    _label_ends(axes, ends)
    return figure


def draw_layers(group: Group) -> Figure | None:
    """Share of weights kept in each layer at the highest sparsity, a row a method, mean over seeds.

    None where the records hold no layers. A cross marks a layer that is empty in every seed.
    """
    if not group.sparsities:
        return None
    highest = group.runs[group.runs["sparsity.target"] == group.sparsities[-1]]
    names: dict[str, None] = {}
    kept: dict[str, dict[str, float]] = {}
    for method in group.methods:
        layers = [item for item in highest.loc[highest["method"] == method, "layers"] if item]
        shares: dict[str, list[float]] = {}
        for layer, counts in (pair for item in layers for pair in item.items()):
            shares.setdefault(layer, []).append(counts["kept"] / max(counts["total"], 1))
        if shares:
            kept[method] = {layer: float(np.mean(values)) for layer, values in shares.items()}
            names |= dict.fromkeys(shares)
    if not kept:
        return None
    table = np.array([[row.get(name, math.nan) for name in names] for row in kept.values()])
    figure, axes = _start(
        f"{group.title}: kept by layer at sparsity {format_sparsity(group.sparsities[-1])}",
        width=min(13.0, 3.4 + 0.26 * len(names)),
        height=2.6 + 0.3 * len(kept),
    )
    living = table[table > 0]
    low, high = (living.min(), living.max()) if living.size else (0.5, 1.0)
    image = axes.imshow(
        np.where(table > 0, table, np.nan),
        aspect="auto",
        cmap="cividis",
        norm=LogNorm(low, max(high, 1.5 * low)),
    )
    empty_row, empty_column = np.nonzero(table == 0)
    axes.plot(empty_column, empty_row, "x", color="#d55e00", markersize=6, clip_on=False)
    axes.set_yticks(range(len(kept)), [_plain(method) for method in kept])
    step = -(-len(names) // 40)
    axes.set_xticks(
        range(0, len(names), step),
        [_plain(name.removesuffix(".weight")) for name in list(names)[::step]],
        rotation=90,
        fontsize=6.5,
    )
    axes.spines[:].set_visible(False)
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, pad=0.015)
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.2g}%")
    bar.ax.yaxis.set_minor_formatter(bar.ax.yaxis.get_major_formatter())
    bar.ax.tick_params(which="both", labelsize=7)
    bar.set_label("share of weights kept", fontsize=8)
    bar.outline.set_visible(False)
    return figure


def draw_ranks(ranking: Ranking, title: str, styles: dict[str, Style]) -> Figure | None:
    """Critical-difference diagram over data sets; None where they are too few for one."""
    if ranking.nemenyi is None:
        return None
    from scikit_posthocs import critical_difference_diagram

    figure, axes = _start(title, width=7.2, height=1.6 + 0.16 * len(ranking.ranks))
    axes.grid(False)
    order = list(ranking.ranks.index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own use of pandas and matplotlib
        critical_difference_diagram(
            ranking.ranks,
            ranking.nemenyi.loc[order, order],
            ax=axes,
            label_props={"fontsize": 9},
            color_palette={name: LIGHT[styles[name].colour] for name in order},
        )
    axes.set_xlabel(ranking.words, fontsize=8, color=_FAINT)
    return figure


def _place(sparsities: list[float]) -> dict[float, float]:
    """Where sparsities stand: by log density where the high ones would crowd, else as they are."""
    crowded = len(sparsities) > 2 and 0.9 < sparsities[-1] < 1
    return {s: -math.log10(1 - s) if crowded else s for s in sparsities}


def _start(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_plain(title), loc="left", fontsize=10.5, color=_INK, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=8, length=3)
    axes.grid(axis="y", color="#e4e5e8", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name each line at its right end, moved apart where names would lie on each other."""
    if not ends:
        return
    rightmost = max(x for x, _, _, _ in ends)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)  # fixed, or the labels would move it
    ends = sorted(ends, key=lambda end: end[1])
    wanted = [(y - low) / (high - low) for _, y, _, _ in ends]
    for (x, y, name, colour), place in zip(ends, spread_apart(wanted, _PER_LABEL), strict=True):
        axes.annotate(
            _plain(name),
            xy=(x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            fontsize=8,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.7,
                "linestyle": "solid" if x == rightmost else "dotted",
            },
        )


def spread_apart(wanted: list[float], gap: float) -> list[float]:
    """Move ascending places apart to at least `gap`, each as little as its neighbours allow."""
    clusters: list[list[float]] = []  # [sum of ideal starts, members]: pooled neighbours
    for index, place in enumerate(wanted):
        clusters.append([place - index * gap, 1])
        while len(clusters) > 1 and (
            clusters[-2][0] / clusters[-2][1] > clusters[-1][0] / clusters[-1][1]
        ):
            total, members = clusters.pop()
            clusters[-1][0] += total
            clusters[-1][1] += members
    starts = [total / members for total, members in clusters for _ in range(int(members))]
    return [start + index * gap for index, start in enumerate(starts)]


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib reads what is between dollars as mathematics
