"""A new method is one file and one YAML: the README's own example, in a checkout of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """This code with the two files of the README's example, and nothing else changed."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("seven_bench", "baselines", "conf", "tests"):
        bare = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=bare, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", (ROOT / "README.md").read_text(),
                        re.DOTALL)  # fmt: skip
    assert [name for name, _ in blocks] == ["baselines/small.py", "conf/pruner/small.yaml"]
    for name, text in blocks:
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    return folder


def python(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def test_it_is_listed_and_runs(checkout, tmp_path):
    listed = python(checkout, "-m", "seven_bench", "list")
    assert "The smallest weights stay" in listed
    assert "small,after,hard,row,lamp" in python(checkout, "-m", "seven_bench", "list", "--matrix")
    done = python(
        checkout, "-m", "seven_bench", "pruner=small", "start=init", "logger=none",
        "trainer.max_epochs=1", f"output_root={tmp_path}",
    )  # fmt: skip
    assert "done: small seed 0" in done and "kept 19,661 of 196,608" in done


def test_the_tests_over_every_method_find_it(checkout):
    names = "tests/training/test_every_method.py", "tests/settings/test_validity.py"
    done = python(checkout, "-m", "pytest", *names, "-k", "small", "-p", "no:cacheprovider", "-vv")
    passed = re.search(r"(\d+) passed", done)
    assert passed and int(passed[1]) > 20, done[-2000:]
    for model in ("vit", "bert", "clip"):
        assert re.search(rf"\[.*{model}.*\] PASSED", done), f"not on the tiny {model}"
