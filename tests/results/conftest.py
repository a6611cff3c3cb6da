from __future__ import annotations

from pathlib import Path

import pytest

from seven_bench.report import Report, write_report

from .synthetic import make_record, write_grid, write_run


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, five methods, four sparsities, three seeds; hostile names; a damaged record."""
    root = tmp_path_factory.mktemp("results") / "outputs"
    write_grid(root, tasks=("digits", "mrpc"))
    for seed in range(3):
        value = 0.9 + 0.01 * seed
        hostile = make_record(
            pruner="<script>alert(1)</script>", seed=seed, metric__value=value, run_id=f"x{seed}"
        )
        write_run(root, hostile)
    damaged = root / "runs" / "damaged" / "result.json"
    damaged.parent.mkdir()
    damaged.write_text('{"schema_version": 1, "run_id": ')
    return root


@pytest.fixture(scope="session")
def report(grid: Path) -> Report:
    return write_report([grid], grid.parent / "report", margin=0.01)
