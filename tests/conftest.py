"""What the tests share: configs composed as the program composes them, and the program itself."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# before anything reads them: no hub is asked, and nothing is left in the user's caches
CACHES = tempfile.TemporaryDirectory(prefix="seven_bench_tests_")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = f"{CACHES.name}/datasets"
os.environ["SEVEN_BENCH_CACHE"] = f"{CACHES.name}/seven_bench"

import pytest  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra.core.global_hydra import GlobalHydra  # noqa: E402

from seven_bench.config import checked  # noqa: E402
from seven_bench.identity import Config, conf_dir  # noqa: E402

ROOT = Path(__file__).parents[1]
SHORT = ("start.train.max_epochs=2", "trainer.max_epochs=2", "logger=none", "progress=false")


@pytest.fixture(autouse=True)
def _no_network_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def make_config(tmp_path: Path):
    """A checked config of the given overrides, writing below the test's own folder."""

    def make(*overrides: str) -> Config:
        GlobalHydra.instance().clear()
        given = [*overrides]
        if not any(o.startswith("output_root=") for o in given):
            given.append(f"output_root={tmp_path}")
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return checked(compose("config", overrides=given))

    return make


def program(*arguments: str, module: str = "seven_bench", **environment: str):
    """The program in a process of its own; returns the completed process with its output."""
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, "COLUMNS": "120", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=240, cwd=ROOT)
