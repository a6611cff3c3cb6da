from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from seven_bench.commands import main
from seven_bench.commands.report import Report
from tests.results.synthetic import FALLS, make_record, write_grid, write_run


def test_everything_is_written_and_nothing_else(report: Report) -> None:
    out = report.page.parent
    assert sorted(path.name for path in out.iterdir()) == [
        "figures",
        "index.html",
        "overlap.csv",
        "results.csv",
        "table.md",
        "table.tex",
    ]
    assert len(report.figures) == 4
    kinds = (".png", ".svg", ".pdf")
    written = [path.with_suffix(kind) for path in report.figures for kind in kinds]
    assert sorted(written) == sorted((out / "figures").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in report.figures)


def test_the_csv_has_a_row_a_run(report: Report) -> None:
    rows = pd.read_csv(report.csv)
    assert len(rows) == report.runs == 2 * 3 * (1 + 5 * 4) + 3
    assert {"run_id", "sparsity.target", "metric.value", "folder"} <= set(rows)
    assert "layers" not in rows


def test_damaged_records_are_named(report: Report) -> None:
    ((path, reason),) = report.damaged
    assert path.parent.name == "damaged" and reason.startswith("is not whole")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "outputs", make_record())
    write_run(tmp_path / "outputs", make_record(pruner="dense"))
    arguments = [str(tmp_path / "outputs"), "--out", str(tmp_path / "report"), "--at", "0.9"]
    assert main(["report", *arguments, "--reference", "dense", "--mask-budget", "0"]) == 0
    told = capsys.readouterr()
    assert "snip" in told.out and "96.00" in told.out
    assert "2 runs, 1 figure; open " in told.out
    assert told.err == ""


def test_a_family_is_chosen_before_looking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two methods at one sparsity are one test, for which six seeds do; four methods are not."""
    monkeypatch.setenv("COLUMNS", "160")  # words are not broken over two lines
    for seed in range(6):
        for rank, pruner in enumerate(("a", "b", "c", "d")):
            for sparsity in (0.5, 0.9):
                value = 0.9 - 0.1 * rank + 0.001 * seed
                changes = {"metric__value": value, "sparsity__target": sparsity}
                write_run(tmp_path / "runs", make_record(pruner=pruner, seed=seed, **changes))
    told = {}
    for chosen in (["--methods", "b,a", "--at", "0.9"], ["--reference", "b"]):
        arguments = [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--mask-budget", "0"]
        assert main(["report", *arguments, *chosen]) == 0
        told[chosen[0]] = capsys.readouterr().out
    assert "against b: a family of 1 test" in told["--methods"]
    assert "better than the reference" in told["--methods"]
    assert "against b: a family of 6 tests" in told["--reference"]
    assert "too few seeds to test (6 of 8)" in told["--reference"]


@pytest.mark.parametrize("exists", [True, False])
def test_no_records_are_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], exists: bool
) -> None:
    results = tmp_path / "outputs"
    if exists:
        results.mkdir()
    assert main(["report", str(results), "--out", str(tmp_path / "report")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: no ") and told.err.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--margin", "0"), "the margin of equality must be positive, not 0.0"),
        (("--margin", "nan"), "must be positive"),
        (("--reference", "snap"), "no method is named 'snap'; there are a, snip"),
        (("--methods", "a,snap"), "no method is named 'snap'; there are a, snip"),
    ],
)
def test_bad_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str], words: str
) -> None:
    write_run(tmp_path, make_record())
    write_run(tmp_path, make_record(pruner="a"))
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report"), *option]) == 1
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_records_without_values_or_layers_still_make_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"metric__value": None, "layers": None, "efficiency": None, "params__kept": None}
    nothing |= {"params__prunable": None, "params__model": None, "metrics": {}}
    for pruner in ("dense", "a", "b"):
        record = make_record(pruner=pruner, **nothing)
        for costs in (record["cost"]["example_equivalents"], record["cost"]["seconds"]):
            costs.update(dict.fromkeys(costs))
        write_run(tmp_path / "outputs", record)
    assert main(["report", str(tmp_path / "outputs"), "--out", str(tmp_path / "report")]) == 0
    assert "3 runs" in capsys.readouterr().out


def test_help_says_what_comes_out() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seven_bench", "report", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for words in ("RESULTS", "--out DIR", "index.html", "results.csv", "--margin", "examples:"):
        assert words in done.stdout


def test_ranks_over_ten_tasks_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    tasks = [f"task{index}" for index in range(10)]
    grid = {"methods": list(FALLS)[:3], "sparsities": (0.9,), "seeds": 2, "with_masks": False}
    write_grid(tmp_path / "outputs", tasks=tasks, **grid)
    monkeypatch.setattr("seven_bench.results.plots.draw_metric", lambda group, styles: _blank())
    monkeypatch.setattr("seven_bench.results.plots.draw_layers", lambda group: None)
    assert main(["report", str(tmp_path / "outputs"), "--out", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    names = [path.name for path in (tmp_path / "report" / "figures").iterdir()]
    assert "vit_digits_start_dense_sparsity_0.9_ranks.png" in names
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Friedman p" in page and "too few for average ranks" not in page


def _blank() -> object:
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))
