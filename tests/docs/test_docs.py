"""What README and docs show works: commands, Python, the notebook; the pages build clean."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from seven_bench.commands import VERBS, build_parser
from seven_bench.settings.conf import conf_dir
from tests.benchmarks import page as cost_page
from tests.benchmarks.timing import Row
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


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_made_is_that_of_today(page, hooks):
    assert hooks.filled(page.read_text()) == page.read_text(), "run: python docs/hooks.py"


def test_links_of_readme_and_pages_lead_to_files_and_headings():
    """As GitHub reads them; the built pages' links are MkDocs' own to check."""
    wrong = []
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
            name, _, heading = target.partition("#")
            file = (page.parent / name) if name else page
            if not file.exists() or (heading and heading not in _anchors(file)):
                wrong.append(f"{page.name}: {target}")
    assert not wrong


def _anchors(page) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_page_of_costs_and_the_readme_take_what_was_measured(tmp_path, monkeypatch):
    copy = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", copy, ignore=shutil.ignore_patterns("examples", "*.png"))
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs" / "examples" / "my_method", copy / "examples" / "my_method")
    monkeypatch.setattr(cost_page, "DOCS", copy)
    monkeypatch.setattr(cost_page, "PAGE", copy / "pages" / "cost.md")
    monkeypatch.setattr(cost_page, "OUT", tmp_path / "bench")
    (tmp_path / "bench").mkdir()
    names = ["selection and masks, 85M scores, distinct / torch.topk alone",
             "seven step, BERT-base, batch 32, 128 tokens, bf16 / dense training step",
             "inference, BERT-base, batch 32, 64 tokens, bf16: 2:4 / dense"]  # fmt: skip
    rows = [{**asdict(Row(name, 0.125, "")), "met": ""} for name in names]
    (tmp_path / "bench" / "gpu.json").write_text(json.dumps({"hardware": "Card X", "rows": rows}))
    cost_page.write(["step"])
    written = (copy / "pages" / "cost.md").read_text()
    assert "Card X\n\n| what |" in written and f"| {names[0]} | 0.125 |" in written
    assert f"| H100 | {names[0]} | 0.125 |" in (tmp_path / "README.md").read_text()
    assert "| CPU | seven step" in (tmp_path / "README.md").read_text()  # as it was


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
