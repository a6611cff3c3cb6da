"""Predictions of runs beside those of dense runs, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seven_bench.commands.report import write_report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.item_rows import items_to_markdown, tabulate_items
from seven_bench.store.predictions import Predictions, write_predictions

from .synthetic import RECIPE, make_record, write_run

LABELS = np.repeat([0, 1], 50)


def write(
    root: Path,
    pruner: str,
    seed: int,
    wrong: list[int],
    items: str = "digits test",
    **changes: object,
) -> Path:
    """A run that is sure, and right but for the examples named."""
    predicted = LABELS.copy()
    predicted[wrong] = 1 - predicted[wrong]
    probabilities = np.full((100, 2), 0.1)
    probabilities[np.arange(100), predicted] = 0.9
    folder = write_run(root, make_record(pruner=pruner, seed=seed, **changes))
    kept = Predictions.of_classes(LABELS, probabilities, items)
    write_predictions(kept, folder / "predictions.safetensors")
    return folder


def test_a_table_by_hand(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path, "dense", seed, [0, 1])
        write(tmp_path, "snip", seed, [1, 2, 3, 4, 60])
    (table,), damaged = tabulate_items(split_groups(collect([tmp_path]).records))
    assert not damaged and table.skipped == 0
    (row,) = table.rows
    assert (row.method, row.sparsity, row.difference.seeds) == ("snip", 0.9, 3)
    assert row.difference.mean == pytest.approx(-0.03)
    assert row.difference.low < -0.03 < row.difference.high < 0.03
    assert (row.lost, row.won) == (4, 1)
    assert row.p == pytest.approx((2 * 6 / 32,) * 3)  # none or one of five coins, twice
    assert row.agreement == pytest.approx(0.95)
    assert row.worst == (0, pytest.approx((3 - 1) / 50))
    # Sure to 0.9, and right in 95 of 100; the distance of a right answer is 0.02, of a wrong 1.62.
    assert row.calibration == pytest.approx(0.05, abs=1e-4)
    assert row.brier == pytest.approx((95 * 0.02 + 5 * 1.62) / 100, abs=1e-4)
    line = items_to_markdown([table]).splitlines()[-1]
    assert line.startswith("| snip | 0.9 | 3 | -3.00 |") and line.endswith("| 0: -4.0 |")


def test_only_the_same_examples_and_the_same_recipe_pair(tmp_path: Path) -> None:
    write(tmp_path, "dense", 0, [])
    write(tmp_path, "snip", 0, [1], items="another split")
    write(tmp_path, "grasp", 0, [1])
    write(tmp_path, "random", 1, [1])  # no dense run of its seed
    write(tmp_path, "magnitude", 0, [1], recipe={**RECIPE, "trainer.max_epochs": 1})
    (table,), _ = tabulate_items(split_groups(collect([tmp_path]).records))
    assert [row.method for row in table.rows] == ["grasp"]
    assert table.skipped == 2
    assert "2 runs left out" in items_to_markdown([table])


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, "dense", 0, [])
    write(tmp_path, "grasp", 0, [1])
    path = write(tmp_path, "snip", 0, [1]) / "predictions.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    (table,), ((named, _),) = tabulate_items(split_groups(collect([tmp_path]).records))
    assert named == path and [row.method for row in table.rows] == ["grasp"]


def test_a_report_writes_it_where_there_are_predictions(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", make_record())
    report = write_report([tmp_path / "runs"], tmp_path / "out")
    assert not (report.page.parent / "items.md").exists()
    write(tmp_path / "runs", "dense", 0, [])
    write(tmp_path / "runs", "grasp", 0, [1])
    report = write_report([tmp_path / "runs"], tmp_path / "out")
    assert "| grasp | 0.9 | 1 | -1.00 |" in (report.page.parent / "items.md").read_text("utf-8")


def test_the_page_shows_what_became_of_each_class(tmp_path: Path) -> None:
    """Of class 0 dense has 48 of 50; snip loses 3 and wins 1 of them, and loses 1 of class 1."""
    for seed in range(2):
        write(tmp_path / "runs", "dense", seed, [0, 1])
        write(tmp_path / "runs", "snip", seed, [1, 2, 3, 4, 60])
        write(tmp_path / "runs", "random", seed, list(range(50, 80)))
    report = write_report([tmp_path / "runs"], tmp_path / "out")
    embedded = report.page.read_text("utf-8").partition('id="data">')[2].partition("</script>")[0]
    (group,) = json.loads(embedded)["groups"]
    shown = group["items"]
    assert (shown["skipped"], shown["counted"], [*shown["levels"]]) == (0, 2, ["0.9"])
    assert shown["brier"] == pytest.approx((98 * 0.02 + 2 * 1.62) / 100, abs=1e-4)
    level = shown["levels"]["0.9"]
    assert level["labels"] == [1, 0]  # falls by (30 + 1) / 50, and by (-2 + 2) / 50
    rows = {group["methods"][row[0]]["name"]: row for row in level["rows"]}
    index, seeds, mean, low, high, lost, won, p, agreement, *_, classes = rows["snip"]
    assert group["methods"][index]["name"] == "snip"
    assert (seeds, mean, lost, won, p, agreement) == (2, -0.03, 4, 1, [0.375, 0.375], 0.95)
    assert low < mean < high
    assert classes == [[100, 100, 2, 0, 0.98], [100, 96, 6, 2, 0.92]]  # over both seeds
    assert rows["random"][-1] == [[100, 100, 60, 0, 0.4], [100, 96, 0, 4, 0.96]]
