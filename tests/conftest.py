"""What the tests share: configs composed as the program composes them, and the program itself."""

import gc
import os
import resource
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
from tests.forks import Forks
from tests.results.synthetic import make_record, write_grid, write_run

ROOT = Path(__file__).parents[1]
RUNS = "seven_bench.running.run"  # imports what a run needs
SHORT = ("start.train.max_epochs=2", "trainer.max_epochs=2", "logger=none", "progress=false")


def pytest_configure(config: pytest.Config) -> None:
    """Before any library reads it: the hub is not asked, and the user's caches are left alone."""
    caches = tempfile.TemporaryDirectory(prefix="seven_bench_tests_")
    config.add_cleanup(caches.cleanup)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = f"{caches.name}/datasets"
    os.environ["SEVEN_BENCH_CACHE"] = f"{caches.name}/seven_bench"
    gc.disable()  # while modules are imported, which are for good


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


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


FORKS: dict[str, Forks] = {}


def _forks(preload: str) -> Forks:
    if preload not in FORKS:
        FORKS[preload] = Forks((preload,), ROOT)
    return FORKS[preload]


def pytest_unconfigure() -> None:
    while FORKS:
        FORKS.popitem()[1].close()


class Done(subprocess.CompletedProcess[str]):
    """What the program did, and the processor seconds that it took, its start included."""

    seconds: float = 0.0


def program(
    *arguments: str, module: str = "seven_bench", preload: str = RUNS, **environment: str
) -> Done:
    """The program in a process of its own.

    Args:
        arguments: its command line.
        module: what is run.
        preload: a module that the process finds imported, for the sake of time; with "" it begins
            as a new interpreter, as it does where the environment is another, which libraries may
            read when they are imported.
        environment: what is to be in the environment beside what is in ours.
    """
    env = {**os.environ, "COLUMNS": "120", **environment}
    if preload and not environment:
        found, seconds = _forks(preload).run(module, arguments, env, timeout=240)
    else:
        command = [sys.executable, "-m", module, *arguments]
        before = _waited_for()
        found = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=240, cwd=ROOT
        )
        seconds = _waited_for() - before
    done = Done(found.args, found.returncode, found.stdout, found.stderr)
    done.seconds = seconds
    return done


def _waited_for() -> float:
    """Processor seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
