"""The page as a person meets it: in a browser, by keyboard, on a phone, in the dark, on paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from seven_bench.commands.report import Report, write_report

from .browser import CHROMIUM, Browser, start_browser
from .synthetic import make_record, write_run
from .test_item_rows import write

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs playwright, and Chromium (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with start_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser, report: Report) -> Iterator[Browser]:
    browser.open(report.page)
    yield browser
    assert browser.messages == []  # no error, no refused script, nothing that did not load


def first_cell(page: Browser) -> str:
    return page.run("document.querySelector('#table tbody tr:nth-child(3)').innerText")


def test_the_table_is_the_one_of_table_md(page: Browser, report: Report) -> None:
    rows = page.run(
        "[...document.querySelectorAll('#table tbody tr')].map(row => [...row.cells]"
        ".map(cell => cell.textContent.replace(/\\s+/g, ' ').trim()))"
    )
    cells = {row[0]: row[1:] for row in rows}
    for row in report.tables[0].rows:
        shown = cells[row.label]
        for cell, text in zip(row.cells, shown if not row.whole else shown[:1], strict=False):
            if cell is None:
                assert text == "\N{EN DASH}"
            elif cell.summary.n:
                mean, std = 100 * cell.summary.mean, 100 * cell.summary.std
                assert text == f"{mean:.2f} \N{PLUS-MINUS SIGN} {std:.2f} ({cell.summary.n})"


def test_a_filter_is_switched_by_keyboard(page: Browser) -> None:
    assert page.until("document.getElementById('status').textContent.startsWith('Showing digits')")
    before = first_cell(page)
    for _ in range(6):  # the skip link and what else comes first
        page.press("Tab")
        if page.until("document.activeElement.id === 'task'", seconds=0.2):
            break
    page.press("ArrowDown")
    assert page.until("document.getElementById('task').value === 'mrpc'")
    assert page.until("document.getElementById('status').textContent.startsWith('Showing mrpc')")
    assert first_cell(page) != before
    assert "task=mrpc" in page.run("location.hash")


def test_a_choice_is_kept_in_the_address(browser: Browser, report: Report, tmp_path: Path) -> None:
    browser.open(report.page)
    browser.run("location.hash = 'task=mrpc&metric=loss&reference=snip'")
    browser.reload()
    values = "['task', 'metric', 'reference'].map(id => document.getElementById(id).value)"
    assert browser.run(values) == ["mrpc", "loss", "snip"]


def test_a_number_opens_its_runs_and_closes_again(page: Browser, report: Report) -> None:
    page.run("document.querySelector('#table tbody tr:last-child .cell').focus()")
    page.press("Enter")
    assert page.until("document.getElementById('runs').open")
    links = page.run("[...document.querySelectorAll('#runs-list a')].map(a => a.href)")
    assert len(links) == 3 * 3
    records = [link for link in links if link.endswith("result.json")]
    assert len(records) == 3
    assert page.run("document.querySelector('#runs-list code').textContent").startswith(
        "python -m seven_bench task=digits"
    )
    assert "95 % interval" in page.run("document.getElementById('runs-note').textContent")
    page.press("Escape")
    assert page.until("!document.getElementById('runs').open")
    assert page.until("document.activeElement.className === 'cell'")


def test_a_method_is_switched_off_with_the_space_bar(page: Browser) -> None:
    drawn = "document.querySelectorAll('#curve path[fill=none][stroke-width=\"2\"]').length"
    before = page.run(drawn)
    page.run("document.querySelector('#methods input:not(:disabled)').focus()")
    page.press("Tab", " ")
    assert page.until(f"{drawn} === {before - 1}")


def test_a_hostile_name_stays_text(page: Browser) -> None:
    assert page.run("document.scripts.length") == 2
    assert "<script>alert(1)</script>" in page.run("document.getElementById('table').innerText")


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_sticks_out(browser: Browser, report: Report, width: int, dark: bool) -> None:
    browser.open(report.page, width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 22, 26)") is dark
    assert browser.messages == []


def test_every_control_has_a_name(page: Browser) -> None:
    nameless = page.run(
        "[...document.querySelectorAll('select, input, button')].filter(node => "
        "!(node.labels?.length || node.textContent.trim() || node.ariaLabel)).length"
    )
    assert nameless == 0
    assert page.run("document.querySelectorAll('svg[role=img]:not([aria-label])').length") == 0


@pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="needs axe")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing(browser: Browser, report: Report, width: int, dark: bool) -> None:
    import axe_playwright_python

    browser.open(report.page, width=width, dark=dark)
    folder = Path(axe_playwright_python.__file__).parent
    browser.run(f"{(folder / 'axe.min.js').read_text(encoding='utf-8')};0")
    found = browser.run(
        "axe.run(document).then(({violations}) => violations.map(one => "
        "[one.id, one.nodes.length, one.nodes[0].html, one.nodes[0].failureSummary]))"
    )
    assert found == []


def saved(page: Browser, host: str, kind: str) -> str:
    """What a button beside a figure or table saves."""
    with page.page.expect_download() as waiting:
        page.run(
            f"[...document.querySelector('{host}').tools.querySelectorAll('button')]"
            f".find(button => button.textContent === '{kind}').click()"
        )
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_a_table_is_saved_as_it_is_sorted(page: Browser, report: Report) -> None:
    page.run("document.querySelector('#table thead th:last-child button').click()")
    rows = list(csv.reader(io.StringIO(saved(page, "#table", "CSV"))))
    assert rows[0][:4] == ["Method", "0.5 mean", "0.5 std", "0.5 n"]
    means = [float(row[-3]) for row in rows[3:] if row[-3]]
    assert len(means) >= 4 and means == sorted(means, reverse=True)
    order = page.run(
        "document.querySelector('#table thead th:last-child').getAttribute('aria-sort')"
    )
    assert order == "descending"
    shown = {row.label: row for row in report.tables[0].rows}
    for name, *cells in rows[1:]:
        whole = [cell for cell in shown[name].cells if cell is not None and cell.summary.n > 1]
        told = [float(cell) for cell in cells[::3] if cell]
        if whole:
            assert told == pytest.approx([cell.summary.mean for cell in whole])
    latex = saved(page, "#table", "LaTeX")
    assert r"\begin{tabular}{lrrrr}" in latex and r"\textbf{" in latex and latex.count("&") >= 20
    assert "<script>" not in latex.replace(r"\textless{}", "")


def test_a_figure_is_saved_alone(browser: Browser, report: Report, tmp_path: Path) -> None:
    alone = tmp_path / "mailed.html"  # nothing lies beside it
    alone.write_bytes(report.page.read_bytes())
    browser.open(alone)
    drawn = ElementTree.fromstring(saved(browser, "#curve", "SVG"))
    paths = [one for one in drawn.iter("{http://www.w3.org/2000/svg}path") if one.get("stroke")]
    assert paths and not any("var(" in (one.get("stroke") or "") for one in paths)
    rows = list(csv.DictReader(io.StringIO(saved(browser, "#curve", "CSV"))))
    snip = [float(row["accuracy"]) for row in rows if row["method"] == "snip"]
    (table,) = [row for row in report.tables[0].rows if row.label == "snip"]
    assert snip == pytest.approx([cell.summary.mean for cell in table.cells if cell is not None])
    assert r"\toprule" in saved(browser, "#tradeoff", "LaTeX")
    assert browser.messages == []


def test_points_are_reached_by_keyboard_and_say_what_they_are(page: Browser) -> None:
    assert page.run("document.querySelectorAll('#curve .point[tabindex=\"0\"]').length") == 1
    page.run("document.querySelector('#curve .point[tabindex=\"0\"]').focus()")
    page.press("ArrowRight", "ArrowRight")
    words = page.run("document.activeElement.getAttribute('aria-label')")
    assert re.fullmatch(r".+, sparsity 0\.\d+: \d+\.\d\d ± \d+\.\d\d \(3\)", words)
    assert page.run("document.querySelector('.tip').textContent") == words
    page.press("Enter")
    assert page.until("document.getElementById('runs').open")


def test_it_prints(page: Browser, tmp_path: Path) -> None:
    page.print(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_the_tables_are_there_without_scripts(browser: Browser, report: Report) -> None:
    browser.open(report.page, scripts=False)
    text = browser.run("document.body.innerText")
    browser.open(report.page)
    assert "majority class" in text
    assert "Over sparsity" not in text  # a chart that cannot be drawn leaves no empty frame


@pytest.mark.parametrize(
    "records",
    [
        [make_record()],
        [make_record(pruner="dense")],
        [make_record(metric__value=None, metrics={}, layers=None)],
        [make_record(seed=seed, sparsity__target=1.0) for seed in (0, 1)],
        [make_record(metric__name="loss", metric__higher_is_better=False), make_record(pruner="a")],
    ],
    ids=["one run", "dense alone", "no value", "all removed", "two measures"],
)
def test_little_to_show_is_shown(
    browser: Browser, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    for record in records:
        write_run(tmp_path / "outputs", record)
    browser.open(write_report([tmp_path / "outputs"], tmp_path / "report").page)
    assert browser.messages == []
    assert "Showing digits" in browser.run("document.getElementById('status').textContent")
    browser.open(tmp_path / "report" / "index.html", width=360)
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_which_examples_were_lost(browser: Browser, tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path / "runs", "dense", seed, [0, 1])
        write(tmp_path / "runs", "snip", seed, [1, 2, 3, 4, 60])
        write(tmp_path / "runs", "grasp", seed, [1], items="another split")
    browser.open(write_report([tmp_path / "runs"], tmp_path / "out").page, width=390)
    assert browser.run("document.documentElement.scrollWidth") <= 390

    def rows(table: str) -> list[list[str]]:
        cells = "[...row.cells].map(cell => cell.textContent.trim())"
        return browser.run(
            f"[...document.querySelectorAll('#{table} tbody tr')].map(row => {cells})"
        )

    dense, snip = rows("items")
    assert dense[-3:] == ["100.0", "8.0", "0.052"]  # sure to 0.9, and right in 98 of 100
    assert snip[:2] == ["snip", "\u22123.0"] and snip[4:9] == ["4.0", "1.0", "0.375", "2", "95.0"]
    assert rows("classes") == [["snip", "92", "98"]]
    browser.run("document.getElementById('items-shown').value = 'change'")
    browser.run("document.getElementById('items-shown').dispatchEvent(new Event('change'))")
    assert rows("classes") == [["snip", "\u22124.0", "\u22122.0"]]
    assert "2 runs left out" in browser.run("document.getElementById('items-caption').textContent")
    assert browser.messages == []
