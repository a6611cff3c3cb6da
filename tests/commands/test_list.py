"""`seven-bench list`: what it shows, and that the README shows the same."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from seven_bench.commands import main
from seven_bench.commands.list import Choice, choices, matrix, to_csv, to_markdown
from seven_bench.settings.conf import conf_dir
from tests.conftest import ROOT, program

BEFORE = (
    "random", "random_er", "magnitude", "magnitude_uniform", "lamp", "snip", "iter_snip", "grasp",
    "synflow_linearized", "force", "fisher", "wanda", "taylor", "seven_pre",
)  # fmt: skip
DURING = (
    "gmp", "seven_dyn", "seven_dyn_signed", "seven_dyn_released", "platon", "platon_seven",
    "movement", "soft_movement", "taylor_dyn", "rigl",
)  # fmt: skip


def test_every_method_of_the_plan_is_there():
    found = {choice.name: choice.node["timing"] for choice in choices("pruner")}
    wanted = {
        **dict.fromkeys(BEFORE, "before"), **dict.fromkeys(DURING, "during"), "lth": "rounds",
        "lrr": "rounds", "one_shot_after": "after", "dense": "none",
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("choice", choices("pruner"), ids=lambda choice: choice.name)
def test_every_method_says_what_it_is_and_where_it_is_from(choice):
    assert len(choice.title) > 10, f"{choice.name}: {choice.title!r}"
    assert choice.node["name"] == choice.name, "the file's name is another"
    if choice.name not in ("dense", "random"):
        assert re.fullmatch(r"\d{4}\.\d{4,5}", choice.source[1]), "no arXiv id in its comment"
    lines = (conf_dir() / "pruner" / f"{choice.name}.yaml").read_text().splitlines()
    assert sum(not line.startswith("#") for line in lines) <= 10, "more than a YAML's worth"


def test_title_and_source_by_hand():
    for text, title, source in (
        ("SNIP, before. Lee et al. 2019, arXiv 1810.02340.", "SNIP, before",
         ("Lee et al. 2019", "1810.02340")),
        ("Gradual: cubic. Zhu & Gupta 2017, arXiv 1710.01878", "Gradual: cubic",
         ("Zhu & Gupta 2017", "1710.01878")),
        ("FORCE. de Jorge et al. 2021, arXiv 2006.09081: more.", "FORCE",
         ("de Jorge et al. 2021", "2006.09081")),
        ("SEVEN as released (arXiv 2403.12688): odd.", "SEVEN as released: odd",
         ("", "2403.12688")),
        ("ViT (Dosovitskiy et al. 2020, arXiv 2010.11929): wide", "ViT: wide",
         ("Dosovitskiy et al. 2020", "2010.11929")),
        ("Random. The floor.", "Random", ("", "")),
    ):  # fmt: skip
        choice = Choice("x", text, {})
        assert (choice.title, choice.source) == (title, source)


def test_csv_has_a_line_for_each_valid_combination():
    rows = list(csv.DictReader(io.StringIO(to_csv(matrix(choices("pruner"))))))
    assert len(rows) > 500
    mine = [r for r in rows if r["method"] == "wanda" and r["timing"] == "before"]
    assert [(r["pattern"], r["distribution"]) for r in mine] == [
        ("unstructured", "per_row"), ("nm_2_4", "uniform"), ("nm_4_8", "uniform"),
    ]  # fmt: skip


def test_the_readme_has_the_table_of_today():
    text = (ROOT / "README.md").read_text()
    found = re.search(r"<!-- methods: [^>]* -->\n(.*?)<!-- /methods -->", text, re.DOTALL)
    assert found, "the README has no table of methods"
    assert found[1].strip() == to_markdown(choices("pruner")).strip(), "run: python docs/hooks.py"


def test_the_program_prints_all_of_it():
    done = program("list", COLUMNS="200")
    assert done.returncode == 0, done.stderr
    for group in ("pruner", "control", "task", "model"):
        for choice in choices(group):
            assert choice.name in done.stdout, f"{group}={choice.name} is missing"
    assert done.stderr == ""


def test_a_further_folder_and_a_wrong_one(tmp_path: Path, capsys):
    folder = tmp_path / "pruner"
    folder.mkdir()
    text = (
        "# Mine. Me & You 2030, arXiv 3001.00001.\nname: mine\ntiming: before\nneeds: [gradients]\n"
    )
    score = "score: {_target_: seven_bench.baselines.snip.SnipScore}\nschedule: {_target_: x}\n"
    (folder / "mine.yaml").write_text(text + score)
    assert main(["list", "--markdown", "--config-dir", str(tmp_path)]) == 0
    assert "| `mine` | before | Mine | Me & You 2030, [arXiv 3001.00001]" in capsys.readouterr().out
    (folder / "mine.yaml").write_text(text + score.replace("SnipScore", "Nothing"))
    assert main(["list", "--matrix", "--config-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "error: pruner.score._target_=seven_bench.baselines.snip.Nothing" in said


def test_help_says_how(capsys):
    with pytest.raises(SystemExit) as done:
        main(["list", "--help"])
    assert done.value.code == 0
    assert "--matrix" in capsys.readouterr().out
