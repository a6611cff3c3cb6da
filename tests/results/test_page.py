from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest

from seven_bench.commands.report import Report, write_report
from seven_bench.results.page import build_command, relative_link

from .synthetic import make_record, write_run

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


class Scripts(html.parser.HTMLParser):
    """Collects elements and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        loads = {"src"} | ({"href"} if tag == "link" else set())
        self.loads += [value or "" for name, value in attrs if name in loads]


def test_one_file_that_loads_nothing(text: str) -> None:
    page = Scripts()
    page.feed(text)
    assert page.tags.count("script") == 2  # the data and the page's own
    assert page.loads == ["data:,"]
    assert "@import" not in text
    urls = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert urls == {"http://www.w3.org/2000/svg"}  # a namespace, never fetched
    assert "default-src 'none'" in text


def test_hostile_names_are_escaped_everywhere(text: str, data: dict[str, Any]) -> None:
    assert HOSTILE not in text
    names = [method["name"] for group in data["groups"] for method in group["methods"]]
    assert HOSTILE in names
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text  # the tables without scripts


def test_the_data_are_the_records(data: dict[str, Any]) -> None:
    digits = data["groups"][0]
    assert (digits["task"], digits["model"], digits["start"]) == ("digits", "vit_digits", "dense")
    assert digits["sparsities"] == [0.5, 0.8, 0.9, 0.95]
    assert len(digits["runs"]["seed"]) == 3 * (1 + 5 * 4 + 1)
    assert digits["majority"] == 0.1
    assert set(digits["metrics"]) >= {"accuracy", "accuracy_last", "loss"}
    assert set(digits["costs"]) >= {"params.kept", "efficiency.bytes", "efficiency.macs"}


def test_layers_survive_packing(data: dict[str, Any], report: Report) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    runs = data["groups"][0]["runs"]
    run = next(index for index, packed in enumerate(runs["layers"]) if packed and runs["sparsity"])
    parents, numbers, names = runs["folder"]
    folder = report.page.parent / parents[numbers[run]] / names[run]
    layers = json.loads((folder / "result.json").read_text())["layers"]
    number, packed = runs["layers"][run]
    assert data["layers"][number]["names"] == list(layers)
    steps = [64 * alphabet.index(a) + alphabet.index(b) for a, b in re.findall("(.)(.)", packed)]
    shares = [counts["kept"] / counts["total"] for counts in layers.values()]
    assert [(step / 4095) ** 2 for step in steps] == pytest.approx(shares, abs=5e-4)


def test_every_run_has_a_folder_that_is_there(data: dict[str, Any], report: Report) -> None:
    for group in data["groups"]:
        parents, numbers, names = group["runs"]["folder"]
        for number, name in zip(numbers, names, strict=True):
            folder = report.page.parent / parents[number] / name
            assert (folder / "result.json").is_file()


def test_the_words_of_comparisons(data: dict[str, Any]) -> None:
    group = data["groups"][1]
    tests, needed = group["families"]["snip"]
    assert (tests, needed) == (5 * 4, 10)  # four other methods and dense, at four sparsities
    assert {group["words"][row[-1]] for row in group["against"]["snip"]} == {
        "too few seeds to test (3 of 10)"
    }


def test_damaged_records_are_listed(text: str) -> None:
    assert "damaged/result.json</code> is not whole or not JSON" in text


def test_commands() -> None:
    run = {
        "task": "digits",
        "model": "vit_digits",
        "start": "dense",
        "pruner": "snip",
        "finetune": "full",
        "seed": 3,
        "sparsity.target": 0.9,
    }
    assert build_command(run) == (
        "python -m seven_bench task=digits model=vit_digits start=dense pruner=snip sparsity=0.9 "
        "finetune=full seed=3"
    )
    assert "sparsity" not in build_command({**run, "pruner": "dense"})
    assert build_command({**run, "command": "python x.py"}) == "python x.py"
    assert "task='a b'" in build_command({**run, "task": "a b"})


def test_links_are_relative(tmp_path: Path) -> None:
    link = relative_link(tmp_path / "outputs" / "a b", tmp_path / "report")
    assert link == "../outputs/a b"


def test_the_same_records_make_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs", make_record())
    first, second = (
        write_report([tmp_path / "outputs"], tmp_path / "report").page.read_bytes()
        for _ in range(2)
    )
    assert first == second


def test_runs_of_folds_are_told_apart_and_repeated(tmp_path: Path) -> None:
    for split in range(2):
        for draw in (0, 4):
            seeds = {"split": split, "calibration": draw}
            write_run(tmp_path / "runs", make_record(seeds=seeds, run_id=f"{split}/{draw}"))
    report = write_report([tmp_path / "runs"], tmp_path / "out")
    embedded = report.page.read_text("utf-8").partition('id="data">')[2].partition("</script>")[0]
    runs = json.loads(embedded)["groups"][0]["runs"]
    assert sorted(runs["named"]) == [
        "split 0, seed 0, draw 0", "split 0, seed 0, draw 4",
        "split 1, seed 0, draw 0", "split 1, seed 0, draw 4",
    ]  # fmt: skip
    ends = {text.partition("seed={seed}")[2] for text in runs["command"][0]}
    both = " data.split_seed=1 calibration.seed=4"
    assert ends == {"", " data.split_seed=1", " calibration.seed=4", both}
