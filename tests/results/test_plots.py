from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seven_bench.results.collect import collect
from seven_bench.results.groups import Group, split_groups
from seven_bench.results.plots import (
    draw_layers,
    draw_metric,
    draw_ranks,
    spread_apart,
    to_pdf,
    to_png,
    to_svg,
)
from seven_bench.results.statistics import rank_methods
from seven_bench.results.styles import LIGHT, assign_styles

from .synthetic import FALLS


@pytest.fixture(scope="module")
def group(grid: Path) -> Group:
    return split_groups(collect([grid]).records)[1]  # mrpc: the tame one


def test_a_line_a_method_with_its_mean(group: Group) -> None:
    styles = assign_styles(group.methods)
    axes = draw_metric(group, styles).axes[0]
    colours = {line.get_color() for line in axes.lines}
    assert {LIGHT[styles[name].colour] for name in FALLS} < colours
    runs = group.runs[(group.runs["method"] == "snip")].groupby("sparsity.target")
    (line,) = [one for one in axes.lines if one.get_color() == LIGHT[styles["snip"].colour]]
    assert line.get_ydata() == pytest.approx(100 * runs["metric.value"].mean().to_numpy())
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.5", "0.8", "0.9", "0.95"]
    assert {text.get_text() for text in axes.texts} == {*FALLS, "dense"}


def test_figures_are_the_same_each_time(group: Group) -> None:
    styles = assign_styles(group.methods)
    for begins, made in ((b"\x89PNG", to_png), (b"<?xml", to_svg), (b"%PDF", to_pdf)):
        first, second = (made(draw_metric(group, styles)) for _ in range(2))
        assert first.startswith(begins) and first == second


def test_kept_by_layer(group: Group) -> None:
    figure = draw_layers(group)
    assert figure is not None
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (5, 12)
    row = group.methods.index("magnitude")
    runs = group.runs[(group.runs["method"] == "magnitude")]
    layers = runs[runs["sparsity.target"] == 0.95]["layers"]
    expected = np.mean([[c["kept"] / c["total"] for c in item.values()] for item in layers], axis=0)
    assert np.ma.filled(image[row], 0) == pytest.approx(expected)


def test_ranks_are_drawn_from_enough_data_sets_only() -> None:
    scores = pd.DataFrame({name: np.arange(8.0) - shift for shift, name in enumerate("abc")})
    styles = assign_styles("abc")
    assert draw_ranks(rank_methods(scores[:3]), "few", styles) is None
    figure = draw_ranks(rank_methods(scores), "enough", styles)
    assert figure is not None and to_png(figure).startswith(b"\x89PNG")


def test_a_method_keeps_its_style_in_any_company() -> None:
    alone = assign_styles(["snip"])["snip"]
    assert assign_styles(["snip", "a", "b", "seven_pre", "snip · erk"])["snip"] == alone
    styles = assign_styles([f"method{index}" for index in range(20)])
    assert len({(style.colour, style.marker) for style in styles.values()}) == 20


def test_variants_share_a_colour_and_differ_in_dash() -> None:
    styles = assign_styles(["snip", "snip · shuffle", "snip · invert"])
    assert len({style.colour for style in styles.values()}) == 1
    assert len({style.dash for style in styles.values()}) == 3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_never_touch(places: list[float]) -> None:
    moved = spread_apart(sorted(places), 0.05)
    assert all(b - a >= 0.05 - 1e-9 for a, b in itertools.pairwise(moved))


def test_labels_that_are_apart_stay() -> None:
    assert spread_apart([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])
    assert spread_apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
