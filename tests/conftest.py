"""What the tests share: configs composed as the program composes them, and the program itself."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seven_bench.commands.report import Report, write_report
from seven_bench.settings.checks import checked
from seven_bench.settings.conf import conf_dir, declare
from seven_bench.settings.model import Settings
from tests.results.synthetic import make_record, write_grid, write_run

ROOT = Path(__file__).parents[1]
SHORT = ("start.train.max_epochs=2", "trainer.max_epochs=2", "logger=none", "progress=false")


def pytest_configure(config: pytest.Config) -> None:
    """Before any library reads it: the hub is not asked, and the user's caches are left alone."""
    caches = tempfile.TemporaryDirectory(prefix="seven_bench_tests_")
    config.add_cleanup(caches.cleanup)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = f"{caches.name}/datasets"
    os.environ["SEVEN_BENCH_CACHE"] = f"{caches.name}/seven_bench"


@pytest.fixture(autouse=True)
def _no_network_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(autouse=True)
def _no_plugins_of_another_test() -> None:
    declare((), ())


@pytest.fixture
def make_config(tmp_path: Path):
    """Checked settings of the given overrides, writing below the test's own folder."""

    def make(*overrides: str) -> Settings:
        GlobalHydra.instance().clear()
        given = [*overrides]
        if not any(o.startswith("output_root=") for o in given):
            given.append(f"output_root={tmp_path}")
        typed = dict(o.split("=", 1) for o in given if "=" in o)
        if typed.get("pruner") == "given_mask" and "pruner.masks" not in typed:
            from seven_bench.testing.every_method import given_masks  # brings Lightning

            given += given_masks("given_mask", sparsity=float(typed.get("sparsity", 0.9)))
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return checked(compose("config", overrides=given))

    return make


def program(*arguments: str, module: str = "seven_bench", **environment: str):
    """The program in a process of its own; returns the completed process with its output."""
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, "COLUMNS": "120", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, cwd=ROOT)


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
