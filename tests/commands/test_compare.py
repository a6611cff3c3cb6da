"""`seven-bench compare`: each kind of verdict in a folder, on the terminal and in every format."""

from __future__ import annotations

import csv
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from seven_bench.commands import main
from seven_bench.results.published import read_paper
from seven_bench.results.verdicts import MATCHED, NOT_COMPARABLE, NOT_MATCHED, NOT_OURS
from seven_bench.settings.conf import conf_dir

from ..results.test_verdicts import around, write_cell

SEVEN = read_paper(conf_dir() / "paper" / "seven.yaml")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Every kind of verdict in one folder, and two claims."""
    root = tmp_path / "outputs"
    write_cell(root, "dense", around(0.865))
    write_cell(root, "snip", around(0.755), sparsity=0.5)
    write_cell(root, "grasp", around(0.705), sparsity=0.5)
    write_cell(root, "seven_pre", around(0.805), sparsity=0.5)
    write_cell(root, "magnitude", [0.812], sparsity=0.5)
    write_cell(root, "seven_pre", [0.79], task="glue/mnli", sparsity=0.8, scored=0.1)
    damaged = root / "runs" / "damaged" / "result.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    return root


def test_the_terminal_shows_each_verdict(
    suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["compare", "seven", str(suite)]) == 0
    out, err = capsys.readouterr()
    for verdict in (MATCHED, NOT_MATCHED, NOT_OURS, NOT_COMPARABLE):
        assert f"  {verdict} " in out
    assert "scored on 982 of 9,815 examples" in out
    assert "too few seeds to test (5 of 7)" in out
    assert "224 of 230 published rows have no runs here" in out
    assert "experiment=paper/seven_imagenet" in out
    assert "  one seed: +0.4 points " in out
    assert "called not matched with a chance of 0.05 at most" in " ".join(out.split())
    assert "damaged" in err and "left out" in err


def test_files_hold_every_row(suite: Path, tmp_path: Path) -> None:
    assert main(["compare", "seven", str(suite), "--out", str(tmp_path / "seven.csv")]) == 0
    with (tmp_path / "seven.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["check"] for line in lines].count("value") == len(SEVEN.rows)
    assert [line["check"] for line in lines].count("order") == len(SEVEN.claims)
    (ours,) = (
        line
        for line in lines
        if (line["task"], line["method"], line["sparsity"], line["check"])
        == ("glue/mrpc", "snip", "0.5", "value")
    )
    assert (float(ours["ours"]), ours["verdict"]) == (pytest.approx(0.755), MATCHED)
    assert "nan" not in (tmp_path / "seven.csv").read_text()

    assert main(["compare", "seven", str(suite), "--out", str(tmp_path / "seven.md")]) == 0
    text = (tmp_path / "seven.md").read_text(encoding="utf-8")
    assert "| glue/mrpc | snip | 0.5 | accuracy | 75.26 | 75.50 ± 0.32 (5) | +0.24 |" in text
    assert "## What differs in the setting" in text and "## Claims of order" in text


def test_tasks_can_be_chosen(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "seven", str(suite), "--task", "glue/mnli"]) == 0
    assert "44 of 45 published rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none", "{root}"], "none: no such paper; known are bert_tickets, cost, dense"),
        (["seven", "{root}/nowhere"], "no such file or folder"),
        (["seven", "{root}/runs/damaged"], "no record that can be read"),
        (["seven", "{root}", "--task", "x"], "--task x: seven has glue/mnli"),
        (["seven", "{root}", "--out", "a.pdf"], "allowed are .tex, .md, .csv, .html"),
    ],
)
def test_what_is_wrong_is_one_line(
    suite: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["compare", *(argument.format(root=suite) for argument in arguments)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" not in line]
    assert len(lines) == 1 and told in lines[0]


def test_help_lists_papers_and_verdicts_without_torch() -> None:
    code = (
        "import sys\nfrom seven_bench.commands import main\n"
        "try:\n    main(['compare', '--help'])\nexcept SystemExit: pass\n"
        "import seven_bench.results.verdicts\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PAPER" in done.stdout and "seven" in done.stdout
    assert "not matched by our reconstruction" in done.stdout


def test_an_empty_cell_shows_the_command_that_fills_it(suite: Path, tmp_path: Path) -> None:
    assert main(["compare", "seven", str(suite), "--out", str(tmp_path / "seven.md")]) == 0
    text = (tmp_path / "seven.md").read_text(encoding="utf-8")
    assert "| glue/sst2 | snip | 0.9 | accuracy | 82.68 | \N{EN DASH} |" in text
    assert "* **A**: `python -m seven_bench experiment=paper/seven_mrpc_sst2`" in text
    assert "| no runs | the suite has no pruner id |" in text  # one of MNLI's rows


def test_latex_is_one_document_of_tables(suite: Path, tmp_path: Path) -> None:
    assert main(["compare", "seven", str(suite), "--out", str(tmp_path / "seven.tex")]) == 0
    text = (tmp_path / "seven.tex").read_text(encoding="ascii")
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 2
    assert r"glue/mrpc & snip & 0.5 & accuracy & 75.26 & 75.50 $\pm$ 0.32 (5) & +0.24 &" in text
    assert r"\texttt{python -m seven\_bench experiment=paper/seven\_imagenet}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\") and " & " in line]
    assert {line.replace(r"\&", "").count("&") for line in body} == {9, 6}


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_html_holds_every_row_and_no_script(suite: Path, tmp_path: Path) -> None:
    assert main(["compare", "seven", str(suite), "--out", str(tmp_path / "seven.html")]) == 0
    page = _Cells()
    page.feed((tmp_path / "seven.html").read_text(encoding="utf-8"))
    assert len(page.rows) == len(SEVEN.rows) + len(SEVEN.claims) + 2  # two heads
    (snip,) = (row for row in page.rows if row[:4] == ["glue/mrpc", "snip", "0.5", "accuracy"])
    assert snip[4:7] == ["75.26", "75.50 \N{PLUS-MINUS SIGN} 0.32 (5)", "+0.24"]
    assert "script" not in page.tags
