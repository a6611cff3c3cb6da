"""What README and docs show works: commands, Python, the notebook; the pages build clean."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seven_bench.commands import VERBS, build_parser
from seven_bench.settings.conf import conf_dir
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOK = ROOT / "docs" / "examples" / "prune_a_model.ipynb"


def blocks(page, language: str, marked: bool = False) -> list[str]:
    mark = "<!-- run -->\n" if marked else ""
    found = re.findall(
        rf"{re.escape(mark)}```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [str(block) for block in found]


def commands() -> list[str]:
    """All but those of a package that is not installed here, which has tests of its own."""
    lines = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split(" #")[0].strip()
                if "--config-dir" in command or "my_method" in command:
                    continue
                if re.search(r"(^|\s)seven-bench\s", command):
                    lines[command[command.index("seven-bench") :]] = None
    return list(lines)


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_shown_can_be_typed(command):
    """Its verb takes the options; its settings compose, each choice of a list by itself."""
    _, *given = shlex.split(command)
    if given[:1] == ["--help"]:
        return
    if given[0] in VERBS:
        verb, *rest = given
        if verb != "tune":  # its arguments are settings
            build_parser(verb).parse_args(given)
            return
        given = [word for word in rest if not word.startswith("-")]
    given = [word for word in given if word not in ("-m", "--multirun")]
    plain = [word for word in given if "," not in word or "[" in word]
    choices = [word.split("=", 1) for word in given if word not in plain]
    if any(word.startswith(("trials=", "tune=")) for word in plain):
        plain = [word for word in plain if not word.startswith("trials=")]
    widest = max([1, *(len(values.split(",")) for _, values in choices)])
    for index in range(widest):
        chosen = [f"{key}={values.split(',')[index % len(values.split(','))]}"
                  for key, values in choices]  # fmt: skip
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            assert "pruner" in compose("config", overrides=[*plain, *chosen])


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python", marked=True)], ids=str)
def test_marked_python_runs(page, capsys):
    for block in blocks(page, "python", marked=True):
        exec(compile(block, str(page), "exec"), {})


def test_the_notebook_runs(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    names: dict = {}
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    for cell in cells:
        assert not cell.get("outputs"), "outputs are not kept: they would be out of date"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    plt.close("all")
    said = capsys.readouterr().out
    dense = re.search(r"dense: (0\.\d+)", said)
    assert dense and float(dense[1]) > 0.8  # ten classes
    assert len(re.findall(r"0\.\d+ after training", said)) == 3
    assert "snip: 3,686 of 36,864 prunable weights kept" in said


def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", "docs/mkdocs.yml",
               "-d", str(tmp_path / "site")]  # fmt: skip
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip() and not done.stdout.strip()
    pages = {
        path.parent.name: path.read_text() for path in (tmp_path / "site").glob("*/index.html")
    }
    for name in ("snip", "seven_dyn_released", "platon", "lth"):  # from conf/pruner
        assert f"<code>{name}</code>" in pages["methods"]
    assert "<code>cost.seconds.total</code>" in pages["records"]
    assert "calibration batches" in pages["api"] or "scored on" in pages["api"]
