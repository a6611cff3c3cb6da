from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from seven_bench.results.published import (
    KINDS,
    PaperError,
    Row,
    list_papers,
    read_paper,
)
from seven_bench.settings.conf import conf_dir

FOLDER = conf_dir() / "paper"
HEAD = (
    "title: T\nsource: S 2020\ncommon: {locator: table 1, kind: table, model: m, unit: percent}\n"
)


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(HEAD + body, encoding="utf-8")
    return path


def find(name: str, **wanted: object) -> list[Row]:
    rows = read_paper(FOLDER / f"{name}.yaml").rows
    return [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]


def test_a_table_is_its_lines_times_its_columns(tmp_path: Path) -> None:
    body = """\
rows:
  - task: t
    metric: accuracy
    sparsity: [0.5,      0.9]
    values:
      snip:   [80.5±0.2, null]
      grasp:  [~79,      <60]
"""
    rows = read_paper(write(tmp_path, body)).rows
    assert [(row.method, row.sparsity, row.value) for row in rows] == [
        ("snip", 0.5, 0.805),
        ("grasp", 0.5, 0.79),
        ("grasp", 0.9, 0.6),
    ]
    assert [row.std for row in rows] == [0.002, None, None]
    assert [row.approximate for row in rows] == [False, True, False]
    assert [row.bound for row in rows] == ["", "", "<"]
    # Half of the last digit; and a point where it is approximate.
    assert [row.error for row in rows] == [0.0005, 0.015, 0.005]
    assert all(row.source == "S 2020" and row.locator == "table 1" for row in rows)


def test_lines_may_be_of_another_field(tmp_path: Path) -> None:
    body = """\
rows:
  - by: sparsity
    method: movement
    metric: [accuracy, f1]
    task: t
    lr: 8e-5
    values: {0.9: [80, 70]}
"""
    first, second = read_paper(write(tmp_path, body)).rows
    assert (first.sparsity, first.metric, first.value) == (0.9, "accuracy", 0.8)
    assert (second.sparsity, second.metric, second.value) == (0.9, "f1", 0.7)
    assert first.lr == 8e-5  # which YAML reads as text


def test_an_order_is_a_claim_a_pair_of_neighbours(tmp_path: Path) -> None:
    body = """\
rows: []
claims:
  - {task: [t, u], metric: accuracy, sparsity: [0.9], order: [a, b, c], by: 5}
"""
    claims = read_paper(write(tmp_path, body)).claims
    told = [(c.above.task, c.above.method, c.below.method, c.by) for c in claims]
    assert told == [
        ("t", "a", "b", 0.05),
        ("t", "b", "c", 0.05),
        ("u", "a", "b", 0.05),
        ("u", "b", "c", 0.05),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "rows:\n  - {task: t, metric: a, sparsity: [0.1], values: {s: [1, 2]}}",
            "1 columns, s has 2",
        ),
        ("rows:\n  - {task: t, metric: a, values: {s: [high]}}", "'high' is not a number"),
        ("rows:\n  - {task: t, metric: a, values: {s: [1]}, colour: red}", "unknown field colour"),
        ("rows:\n  - {task: t, values: {s: [1]}}", "metric is missing"),
        ("rows:\n  - {task: t, metric: a, kind: rumour, values: {s: [1]}}", "kind=rumour"),
        ("rows:\n  - {task: t, metric: a, sparsity: 90, values: {s: [1]}}", "sparsity=90"),
        ("rows:\n  - {task: t, metric: a, unit: bits, values: {s: [1]}}", "unit=bits"),
        ("rows:\n  - {task: t, metric: a, kd: maybe, values: {s: [1]}}", "kd=maybe"),
        ("rows: []\nclaims:\n  - {task: t, metric: a, sparsity: 0.5, above: s}", "either order"),
        ("rows: [", "is not YAML"),
        ("lines: []", "needs title, source and rows"),
    ],
)
def test_a_bad_file_says_where(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(PaperError) as caught:
        read_paper(write(tmp_path, body))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "some.yaml"))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PaperError, match="cannot be read"):
        read_paper(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", list_papers(FOLDER))
def test_every_published_row_is_sound(name: str) -> None:
    paper = read_paper(FOLDER / f"{name}.yaml")
    keys = [
        (
            r.locator,
            r.kind,
            r.task,
            r.model,
            r.method,
            r.masks,
            r.metric,
            r.control,
            r.sparsity,
            r.epochs,
            r.pattern,
            r.kd,
            r.value,
        )
        for r in paper.rows
    ]
    assert len(set(keys)) == len(keys)
    for row in paper.rows:
        assert row.kind in KINDS and math.isfinite(row.value) and row.error > 0
        if row.hardware is None and row.metric in ("accuracy", "f1", "exact_match", "matthews"):
            assert 0 <= row.value < 1
        for experiment in filter(None, (row.experiment, row.masks_experiment)):
            assert (FOLDER.parent / "experiment" / f"{experiment}.yaml").is_file()


@pytest.mark.parametrize("name", list_papers(FOLDER))
def test_claims_hold_in_the_published_numbers_themselves(name: str) -> None:
    paper = read_paper(FOLDER / f"{name}.yaml")
    values = {
        (r.task, r.model, r.metric, r.method, r.sparsity): r.value
        for r in paper.rows
        if r.control == "none" and r.kd is not True
    } | {
        (r.task, r.model, r.metric, r.method, r.sparsity): r.value
        for r in paper.rows
        if r.control == "none" and r.kd is True
    }
    for claim in paper.claims:
        above, below = (
            values[row.task, row.model, row.metric, row.method, row.sparsity]
            for row in (claim.above, claim.below)
        )
        assert above - below > claim.by


def test_some_rows_by_hand() -> None:
    (row,) = find("seven", task="glue/mnli", method="seven_pre", sparsity=0.8)
    assert (row.value, row.kind, row.error, row.denominator) == (
        0.795,
        "digitised",
        0.0015,  # read to 0.1 points, of one decimal
        "encoder",
    )
    (row,) = find("obert", task="squad", metric="f1", method="obert", sparsity=0.9, epochs=30)
    assert (row.value, row.std, row.error, row.kd) == (0.8831, 0.0013, 0.00005, True)
    (row,) = find(
        "movement", task="glue/mnli", metric="accuracy", method="movement", sparsity=0.97, kd=True
    )
    assert (row.value, row.kd) == (0.765, True)
    (row,) = find("platon", task="glue/cola", method="platon")
    assert (row.value, row.error, row.epochs, row.kind) == (0.443, 0.0005, 15, "second_hand")
    (row,) = find("smp", task="glue/mrpc", method="smp")
    assert (row.value, row.std, row.seeds) == (0.87, 0.0121, 5)
    (row,) = find("bert_tickets", task="glue/cola", masks="lth of glue/rte")
    told = (row.value, row.seeds, row.sparsity, row.metric, row.method)
    assert told == (-0.5296, 3, 0.7, "matthews_against_dense", "given_mask")
    moved = [r for r in read_paper(FOLDER / "bert_tickets.yaml").rows if r.method == "given_mask"]
    assert len(moved) == 11 * 10 - 10  # a mask on its own task is `lth`; nobody trains on mlm
    (row,) = find("bert_tickets", task="glue/rte", method="lth", control="none", sparsity=0.6)
    assert (row.value, row.std, row.seeds, row.sparsity) == (0.66, 0.024, 5, 0.6)
    (row,) = find("bert_tickets", task="squad", control="reinit")
    assert (row.value, row.linears, row.denominator) == (0.186, 73, "prunable")
    assert row.verified is not None and "read by eye" in row.verified
    (row,) = find("obert", task="glue/mnli", method="lth", sparsity=0.8)
    assert row.value == 0.826 and row.note is not None and "the figure at 0.7" in row.note
    (row,) = find("movement", task="glue/qqp", metric="f1", method="gmp", sparsity=0.9, kd=False)
    assert (row.value, row.verified) == (0.751, "the paper's text")
    (row,) = find("dense", task="glue/mnli")
    assert (row.value, row.tolerance) == (0.846, 0.003)
    (row,) = find("wanda", model="llama2_7b", method="wanda", pattern="nm_4_8")
    assert (row.value, row.higher_is_better) == (7.97, False)


@pytest.mark.parametrize("path", sorted((FOLDER.parent / "experiment" / "paper").glob("*.yaml")))
def test_experiments_list_cells(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert f"experiment=paper/{path.stem}" in text
    content = yaml.safe_load(text)
    sweeper = content["hydra"]["sweeper"]
    assert content["hydra"]["mode"] == "MULTIRUN" and content["suite"] == f"paper/{path.stem}"
    assert {"pruner": "dense"}.items() <= sweeper["cells"][0].items()  # the gate comes first
    assert len(sweeper["params"]["seed"]) >= 3
    overrides = [
        f"{key}={value}"
        for cell in [*sweeper["cells"], sweeper["params"]]
        for key, values in cell.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    parsed = OverridesParser.create().parse_overrides(overrides)  # keys need not exist for that
    assert len(parsed) == len(overrides)
