"""The order of the rooms, as `make lint` holds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, its baselines among the rooms, and of the linter's settings."""
    bare = shutil.ignore_patterns("__pycache__", "*.html", "conf")
    shutil.copytree(PROJECT / "seven_bench", tmp_path / "seven_bench", ignore=bare)
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command"
    )
    command = [sys.executable, "-c", f"{program}; lint_imports_command(['--no-cache'])"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_the_house_is_in_order(copy):
    done = _lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("settings/hub.py", "import seven_bench.running.run", "settings is not allowed to import"),
        ("store/record.py", "import seven_bench.pruning", "store is not allowed to import"),
        ("store/atomic.py", "import seven_bench.store.record", "No cycles are allowed"),
        ("attic/__init__.py", "", "not listed as layers"),
        ("baselines/snip.py", "import seven_bench.store.record", "baselines is not allowed to"),
        ("training/fit.py", "import seven_bench.baselines.snip", "training is not allowed to"),
        ("commands/run.py", "import seven_bench.baselines.snip", "commands is not allowed to"),
        ("baselines/snip.py", "import seven_bench.commands.run", "baselines is not allowed to"),
    ],
)
def test_an_arrow_turned_round_is_an_error(copy, module, line, words):
    path = copy / "seven_bench" / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"{line}\n")
    done = _lint(copy)
    assert done.returncode == 1
    assert words in done.stdout


def test_the_hallway_is_nearly_empty():
    assert len(list((PROJECT / "seven_bench").glob("*.py"))) <= 8
