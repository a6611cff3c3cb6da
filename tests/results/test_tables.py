from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from seven_bench.commands.report import Report
from seven_bench.results.collect import collect
from seven_bench.results.groups import split_groups
from seven_bench.results.tables import (
    Table,
    build_tables,
    format_value,
    render_terminal,
    to_latex,
    to_markdown,
    to_terminal,
)

from .synthetic import make_record, write_run


def write_cells(root: Path, cells: dict[tuple[str, float], list[float]], **changes: object) -> None:
    for (pruner, sparsity), values in cells.items():
        for seed, value in enumerate(values):
            own = {"pruner": pruner, "seed": seed, "metric__value": value}
            write_run(root, make_record(**own, sparsity__target=sparsity, **changes))


def show(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(to_terminal(table))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    cells = {
        ("dense", 0.0): [0.97, 0.99],
        ("a", 0.5): [0.90, 0.92, 0.94],
        ("a", 0.9): [0.70, 0.80],
        ("b", 0.5): [0.905, 0.915, 0.925],
        ("b", 0.9): [0.65],
        ("c", 0.9): [0.6, 0.61],
    }
    write_cells(tmp_path, cells)
    (only,) = build_tables(split_groups(collect([tmp_path]).records), margin=0.01)
    return only


def test_rows_and_columns_by_hand(table: Table) -> None:
    assert table.sparsities == (0.5, 0.9)
    assert [row.label for row in table.rows] == ["dense", "majority class", "a", "b", "c"]
    text = to_markdown([table]).splitlines()
    assert text[4:] == [
        "| method | 0.5 | 0.9 |",
        "| --- | ---: | ---: |",
        "| dense | 98.00 ± 1.41 (2) | 98.00 ± 1.41 (2) |",
        "| majority class | 10.00 | 10.00 |",
        "| a | **92.00** ± 2.00 (3) | **75.00** ± 7.07 (2) |",
        "| b | <ins>91.50</ins> ± 1.00 (3) | 65.00 (1) |",
        "| c | – | 60.50 ± 0.71 (2) |",  # noqa: RUF001
    ]


def test_latex_by_hand(table: Table) -> None:
    text = to_latex([table])
    assert r"dense & \multicolumn{2}{c}{98.00 $\pm$ 1.41 (2)} \\" in text
    assert r"a & \textbf{92.00} $\pm$ 2.00 (3) & \textbf{75.00} $\pm$ 7.07 (2) \\" in text
    assert r"b & \underline{91.50} $\pm$ 1.00 (3) & 65.00 (1) \\" in text
    assert r"c & -- & 60.50 $\pm$ 0.71 (2) \\" in text
    assert r"vit\_digits $\cdot$ start dense" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert text.isascii()


def test_terminal_by_hand(table: Table) -> None:
    text = show(table)
    for cell in ("98.00 ± 1.41 (2)", "92.00 ± 2.00 (3)", "91.50 ± 1.00 (3)", "60.50 ± 0.71 (2)"):
        assert cell in text


def test_the_caption_says_what_is_measured(table: Table) -> None:
    for words in (
        "Accuracy (%) on the test split at the epoch that was best on validation",
        "the fraction of prunable weights removed",
        "Bold: the best pruned method of a column among those with as many seeds as most, higher",
        "Underlined: within 1 point of the best",
        "The 360 test examples alone leave up to ± 5.0 points (95 % binomial)",
    ):
        assert words in table.caption


def test_bold_is_given_among_equal_numbers_of_seeds(tmp_path: Path) -> None:
    write_cells(tmp_path, {("lucky", 0.9): [0.99], ("a", 0.9): [0.8, 0.9], ("b", 0.9): [0.7, 0.8]})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    best = {row.label: row.cells[0].best for row in table.rows if row.label != "majority class"}
    assert best == {"lucky": False, "a": True, "b": False}


def test_many_columns_put_the_spread_below(tmp_path: Path) -> None:
    write_cells(tmp_path, {("a", level / 10): [0.5, 0.7] for level in range(1, 8)})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    lines = show(table).splitlines()
    row = next(index for index, line in enumerate(lines) if line.strip().startswith("a "))
    assert lines[row].count("60.00") == lines[row + 1].count("±14.14 (2)") == 7


def test_reached_is_told_where_it_is_not_the_target(tmp_path: Path) -> None:
    write_cells(tmp_path, {("soft", 0.9): [0.5]}, sparsity__prunable=0.871)
    write_cells(tmp_path, {("exact", 0.9): [0.5]}, sparsity__prunable=0.8997)
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    assert "Reached where it differs from the target: soft at 0.9: 0.871." in table.caption


def test_levels_of_one_method_do_not_fill_the_table(tmp_path: Path) -> None:
    cells = {("lth", level): [0.9] for level in (0.2, 0.36, 0.488, 0.9)}
    write_cells(tmp_path, {**cells, ("snip", 0.9): [0.8]})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    assert table.sparsities == (0.9,)
    assert "Levels of one method alone, not shown: 0.2, 0.36, 0.488." in table.caption


def test_lower_is_better_and_other_units(tmp_path: Path) -> None:
    loss = {"metric__name": "loss", "metric__higher_is_better": False}
    write_cells(tmp_path, {("a", 0.9): [0.5], ("b", 0.9): [0.25, 0.35]}, **loss)
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    text = to_markdown([table])
    assert "| b | **0.3000** ± 0.0707 (2) |" in text
    assert "lower is better" in text
    assert "binomial" not in text


def test_what_looks_equal_is_equally_bold(tmp_path: Path) -> None:
    write_cells(tmp_path, {("a", 0.9): [0.912341], ("b", 0.9): [0.912342]})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    assert [row.cells[0].best for row in table.rows[1:] if row.cells[0]] == [True, True]


def test_runs_without_a_value_are_counted_not_hidden(tmp_path: Path) -> None:
    write_cells(tmp_path, {("a", 0.9): [0.9, 0.8], ("b", 0.9): [0.9]})
    write_run(tmp_path, make_record(pruner="a", seed=5, metric__value=None))
    write_run(tmp_path, make_record(pruner="c", seed=5, metric__value=None))
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    assert "Without a finite value, and left out: 2 runs." in table.caption
    assert "| c | – |" in to_markdown([table])  # noqa: RUF001
    assert "(2)" in to_markdown([table])


def test_dense_alone_is_a_table(tmp_path: Path) -> None:
    write_cells(tmp_path, {("dense", 0.0): [0.9, 0.92]})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    assert "| dense | 91.00 ± 1.41 (2) |" in to_markdown([table])
    assert "91.00" in to_latex([table]) and "91.00" in show(table)


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (0.96, "accuracy", "96.00"),
        (0.5, "f1", "50.00"),
        (-0.1, "matthews_correlation", "-10.00"),
        (0.123456, "loss", "0.1235"),
        (12345.6, "perplexity", "1.235e+04"),
        (float("nan"), "accuracy", "–"),  # noqa: RUF001
    ],
)
def test_values_as_read(value: float, metric: str, shown: str) -> None:
    assert format_value(value, metric) == shown


def test_hostile_names_stay_text_in_every_format(tmp_path: Path) -> None:
    name = r"<script>a|b_c*[red]&\{$~^#%"
    write_cells(tmp_path, {(name, 0.9): [0.9]})
    (table,) = build_tables(split_groups(collect([tmp_path]).records))
    markdown = to_markdown([table]).splitlines()[-1]
    assert "<script>" not in markdown and r"a\|b\_c\*\[red\]" in markdown
    latex = to_latex([table])
    assert r"\textless{}script\textgreater{}a\textbar{}b\_c*[red]\&\textbackslash{}\{\$" in latex
    assert name in show(table)  # and rich reads no markup


def test_terminal_tables_of_records(report: Report, grid: Path) -> None:
    shown = render_terminal(collect([grid]).records)
    assert len(shown) == len(report.tables) == 2
