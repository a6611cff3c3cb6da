from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seven_bench.results.collect import collect, find_records
from tests.results.synthetic import make_record, write_grid, write_run


def test_a_row_a_run_with_dots(tmp_path: Path) -> None:
    folder = write_run(tmp_path, make_record(metrics__note="odd", cost__seconds__scoring=None))
    records = collect([tmp_path]).records
    assert len(records) == 1
    row = records.iloc[0]
    assert row["sparsity.target"] == 0.9
    assert row["metric.value"] == row["metrics.accuracy"] == 0.96
    assert row["cost.example_equivalents.total"] == 5000
    assert row["environment.versions.torch"] == "2.14.1"
    assert row["layers"] == {}
    assert row["folder"] == str(folder)
    assert records["cost.seconds.scoring"].dtype == float  # a missing number is NaN, not None


def test_nothing_is_an_empty_table_with_the_columns(tmp_path: Path) -> None:
    collected = collect([tmp_path])
    assert collected.records.empty
    assert not collected.damaged
    assert {"task", "sparsity.target", "folder"} <= set(collected.records)


def test_overlapping_roots_and_single_files_count_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path, make_record())
    roots = [folder / "result.json", tmp_path, str(tmp_path / "runs"), tmp_path / "." / "runs"]
    assert find_records(roots) == [folder / "result.json"]


def test_a_copy_counts_once_and_a_contradiction_is_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", make_record())
    write_run(tmp_path / "b", make_record())
    other = write_run(tmp_path / "c", make_record(metric__value=0.5))
    collected = collect([tmp_path])
    assert collected.records["folder"].tolist() == [str(first)]
    assert collected.damaged == [
        (other / "result.json", f"has the run_id of {first}, but another result")
    ]


def test_damaged_records_are_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    write_run(tmp_path, make_record(seed=1))
    broken = write_run(tmp_path, make_record(seed=2)) / "result.json"
    broken.write_text(broken.read_text()[:200])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "result.json").write_text(json.dumps({"accuracy": 1}))
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "status.json").write_text('{"state": "failed"}')
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "status.json").write_text("{")
    collected = collect([tmp_path])
    assert collected.records["seed"].tolist() == [1]
    assert [path for path, _ in collected.damaged] == [tmp_path / "old" / "result.json", broken]
    assert collected.unfinished == [
        (tmp_path / "odd", "in an unknown state"),
        (tmp_path / "unfinished", "failed"),
    ]


def test_an_absent_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        collect([tmp_path / "absent"])


def test_hundreds_of_records_are_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    write_grid(tmp_path, tasks=("a", "b"), seeds=10, with_masks=False)
    start = time.perf_counter()
    assert len(collect([tmp_path]).records) == 420
    assert time.perf_counter() - start < 5  # far less on an idle machine


def test_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "pytorch_lightning", "hydra", "wandb")
    code = (
        "import sys, seven_bench.commands.report\n"
        "assert 'pandas' not in sys.modules, 'help must be quick'\n"
        "from seven_bench.results import "
        "collect, groups, overlap, page, plots, statistics, styles, tables\n"
        "import seven_bench.store.record, seven_bench.store.run_folder\n"
        "import scikit_posthocs, safetensors.numpy, rich\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
