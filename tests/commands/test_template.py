"""The template of a method from outside: built, installed into a folder of its own, run, tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seven_bench.settings import conf
from seven_bench.testing.__main__ import main
from tests.conftest import ROOT

TEMPLATE = ROOT / "docs/examples/my_method"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where pip has put the package, as it does for a user."""
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--disable-pip-version-check", "--target", str(target), str(TEMPLATE),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, with the package and this code on its path."""
    path = os.pathsep.join((str(installed), str(ROOT)))
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280)


def test_it_is_listed_with_where_it_comes_from(installed, tmp_path):
    done = python(installed, tmp_path, "-m", "seven_bench", "list")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"my_method +before +My method, magnitude .*\[from my-method 0\.1\.0\]", done.stdout
    )


def test_it_runs_and_the_record_names_its_version(installed, tmp_path):
    done = python(
        installed, tmp_path, "-m", "seven_bench", "pruner=my_method", "start=init", "logger=none",
        "trainer.max_epochs=1", "pruner.calibration.examples=64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done: my_method seed 0" in done.stdout and "kept 19,661 of 196,608" in done.stdout
    (path,) = tmp_path.glob("outputs/runs/digits/vit_digits/my_method/s0.9/*/result.json")
    record = json.loads(path.read_text())
    assert record["environment"]["versions"]["my_method"] == "0.1.0"
    assert record["method"]["pruner.versions.my_method"] == "0.1.0"
    assert record["method"]["pruner.score._target_"] == "my_method.scores.MyScore"


def test_it_keeps_what_every_method_keeps(installed, monkeypatch, capsys):
    """Here in this process, where torch is imported already."""
    monkeypatch.syspath_prepend(str(installed))
    conf.plugged_in.cache_clear()
    try:
        code = main(["my_method", "--model", "vit", "--optimizer", "adamw"])
    finally:
        conf.plugged_in.cache_clear()
    said = capsys.readouterr().out
    assert code == 0, said
    assert len(said.splitlines()) == 4 and said.count("| holds") == 4
