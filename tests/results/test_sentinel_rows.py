"""Analyses as the page reads them: means over seeds, damage, none."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.sentinel_rows import (
    SENTINELS_FORMAT,
    average_sentinels,
    doubt,
    read_sentinels,
    tabulate_sentinels,
)

from .synthetic import RECIPE, make_record, write_run


def analysis(sentinels: int = 4, temporary: int = 2, mask_hash: str = "00ff") -> dict[str, Any]:
    """Of ten sentinels and ten temporary ones near the cut, so many are kept; deciles are empty."""
    empty = dict.fromkeys(
        ("weights", "sentinels", "sentinels_kept", "temporary", "temporary_kept"), 0
    )
    middle = {"mean": 1.5, "median": 1.0}
    return {
        "format": SENTINELS_FORMAT,
        "mask_hash": mask_hash,
        "start": {"kind": "dense"},
        "data": {
            "split": "validation", "examples": 96, "batches": 3, "batch_size": 32, "dropout": False
        },
        "noise_floor": 0.5,
        "deciles": [dict(empty) for _ in range(10)],
        "cut": {
            "weights": 20, "sentinels": 10, "sentinels_kept": sentinels,
            "temporary": 10, "temporary_kept": temporary,
        },
        "gsnr": {"kept": middle, "by_sensitivity": middle},
        "c": {"kept": {"mean": 0.8, "median": 0.8}},
    }  # fmt: skip


def write(folder: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "sentinels.json").write_text(text)


def test_means_over_seeds() -> None:
    row = average_sentinels("snip", 0.9, [analysis(4, 2), analysis(8, 4)])
    assert row.cut == (pytest.approx(0.6), pytest.approx(0.3))
    assert (row.seeds, row.gsnr, row.evenness) == (2, 1.5, 0.8)
    assert all(math.isnan(share) for pair in row.deciles for share in pair)


def test_a_control_and_a_recipe_are_never_averaged_into_the_method(tmp_path: Path) -> None:
    other = {**RECIPE, "trainer.max_epochs": 1}
    for changes, kept in (({}, 2), ({"control": "quota_swap"}, 6), ({"recipe": other}, 8)):
        write(write_run(tmp_path, make_record(**changes)), analysis(sentinels=kept))
    tables, _ = tabulate_sentinels(split_groups(collect([tmp_path]).records))
    rows = {(table.title, row.method): row for table in tables for row in table.rows}
    assert {method for _, method in rows} == {"snip", "snip \N{MIDDLE DOT} quota_swap"}
    assert sorted(row.cut[0] for row in rows.values()) == pytest.approx([0.2, 0.6, 0.8])
    assert {row.seeds for row in rows.values()} == {1}


def test_tables_by_group(tmp_path: Path) -> None:
    for seed in range(2):
        write(write_run(tmp_path, make_record(seed=seed)), analysis())
    write_run(tmp_path, make_record(pruner="grasp"))  # not analysed
    tables, damaged = tabulate_sentinels(split_groups(collect([tmp_path]).records))
    assert not damaged
    (table,) = tables
    assert [(row.method, row.sparsity, row.seeds) for row in table.rows] == [("snip", 0.9, 2)]
    assert table.caption == (
        "3 batches of 32 from 96 validation examples, which nothing was scored on, dropout off, at "
        "the weights of the start dense; without any signal the GSNR is 0.500 on average."
    )


def test_a_gsnr_below_the_noise_is_doubted(tmp_path: Path) -> None:
    quiet = {**analysis(), "noise_floor": 2.0}
    assert doubt(average_sentinels("snip", 0.9, [analysis()])) == ""
    assert doubt(average_sentinels("snip", 0.9, [quiet])) == (
        "snip at 0.9: the GSNR (kept 1.500, by sensitivity 1.500) is below the noise floor of "
        "2.000: it tells nothing of steady and noisy weights; take more batches, or larger ones."
    )
    write(write_run(tmp_path / "outputs", make_record()), quiet)
    page = write_report([tmp_path / "outputs"], tmp_path / "report").page
    assert "Beware:</b> snip at 0.9: the GSNR" in page.read_text(encoding="utf-8")


def without(*path: Any) -> dict[str, Any]:
    content = copy.deepcopy(analysis())
    *parents, last = path
    place: Any = content
    for name in parents:
        place = place[name]
    del place[last]
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"format": ', "is not whole or not JSON"),
        ("[]", "is not of the format"),
        ({"format": "other"}, "is not of the format"),
        (without("cut"), "lacks a part of its format"),
        (without("gsnr", "kept"), "lacks a part of its format"),
        (without("deciles", 3), "lacks a part of its format"),
        (without("cut", "temporary"), "lacks a part of its format"),
        (analysis(mask_hash="ff00"), "is of other masks than the record"),
    ],
)
def test_damage_is_named_and_left_out(tmp_path: Path, content: Any, told: str) -> None:
    write(write_run(tmp_path, make_record()), content)
    tables, damaged = tabulate_sentinels(split_groups(collect([tmp_path]).records))
    assert not tables
    ((path, reason),) = damaged
    assert path.name == "sentinels.json" and told in reason


def test_none_is_none(tmp_path: Path) -> None:
    assert read_sentinels(tmp_path) is None


def test_the_page_has_the_section_only_where_there_is_something(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "outputs", make_record(pruner="<b>snip</b>"))
    page = write_report([tmp_path / "outputs"], tmp_path / "report").page
    assert "sentinels-title" not in page.read_text(encoding="utf-8")
    write(folder, analysis())
    text = write_report([tmp_path / "outputs"], tmp_path / "report").page.read_text("utf-8")
    assert '<th scope="row">&lt;b&gt;snip&lt;/b&gt;</th><td>0.9</td><td><b>40 / 20</b></td>' in text
