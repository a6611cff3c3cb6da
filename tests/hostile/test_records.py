"""Hostile records, one by one beside good ones: named, left out, and nobody else with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from seven_bench.commands import main
from seven_bench.results.collect import collect, find_finished
from seven_bench.store.files import CONFIG, RECORD
from seven_bench.store.record import write_json
from tests.results.synthetic import make_record, write_run

from .runs import write_whole

Change = Callable[[dict[str, Any]], None]


def put(name: str, value: Any) -> Change:
    def change(record: dict[str, Any]) -> None:
        *path, last = name.split("__")
        place = record
        for part in path:
            place = place[part]
        place[last] = value

    return change


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


HUGE = 10**400
#: Each with words of the reason.
CHANGES: dict[str, tuple[Change, str]] = {
    "10^400 as the metric": (put("metric__value", HUGE), "metric.value"),
    "10^400 among metrics": (put("metrics__loss", HUGE), "too large a number"),
    "10^400 as a cost": (put("cost__seconds__total", HUGE), "cost.seconds.total"),
    "10^400 among bytes": (put("efficiency__bytes", HUGE), "efficiency.bytes"),
    "10^400 in a field of its own": (put("mine", {"a": [HUGE]}), "too large a number"),
    "seed of 10^30": (put("seed", 10**30), "seed is 1000"),
    "seed of -1": (put("seed", -1), "seed is -1"),
    "seed of 0.5": (put("seed", 0.5), "seed is 0.5"),
    "seed true": (put("seed", True), "seed is true"),
    "lone surrogate": (put("pruner", "a\ud800"), "pruner"),
    "lone surrogate far down": (put("environment__git", "a\udfff"), "environment.git"),
    "lone surrogate as a key": (put("metrics__a\ud800", 1), "metrics"),
    "a million characters": (put("model", "x" * 10**6), "model is"),
    "a million characters as a key": (put("metrics__" + "x" * 10**6, 1), "metrics has the key"),
    "a megabyte of note": (put("note", "x" * 2**20), "note is"),
    "NaN": (put("metric__value", float("nan")), "metric.value is NaN"),
    "NaN far down": (put("efficiency__latency", {"a": float("nan")}), "efficiency"),
    "infinity": (put("cost__seconds__total", float("inf")), "cost.seconds.total"),
    "a list for a number": (put("params__kept", [1]), "params.kept is [1]"),
    "a list for a metric": (put("metrics__accuracy", [0.9]), "metrics.accuracy is [0.9]"),
    "a list for a name": (put("task", ["digits"]), 'task is ["digits"]'),
    "a list for an epoch": (put("metric__epoch", ["last"]), "metric.epoch"),
    "text for a number": (put("metrics__test_examples", "many"), "metrics.test_examples"),
    "text for MACs": (put("efficiency__macs", {"dense": [1]}), "efficiency.macs"),
    "a number for text": (put("pruner", 3), "pruner is 3"),
    "a number for an object": (put("metrics", 3), "metrics is 3"),
    "null for an object": (put("sparsity", None), "sparsity is null"),
    "schema true": (put("schema_version", True), "schema_version true"),
    "schema 1.0": (put("schema_version", 1.0), "schema_version 1.0"),
    "schema 2": (put("schema_version", 2), "schema_version 2"),
    "deep": (put("mine", nested(100)), "nested deeper"),
    "deep among metrics": (put("metrics__a", nested(50)), "metrics.a"),
    "a dot that hides a field": (put("metric.value", 0.99), "names here hold no dot"),
    "more kept than there is": (put("params__kept", 10**9), "params.kept"),
    "layers that do not add up": (put("layers", {"a": {"kept": 9, "total": 8}}), "layers"),
    "a terminal escape": (put("pruner", "\x1b]0;owned\x07"), "control character"),
    "a line break in a name": (put("task", "a\nb\r"), "control character"),
    "text turned round": (put("model", "a\u202eb"), "control character"),
    "a seal that is no object": (put("integrity", 3), "integrity is 3"),
    "a seal that names a file elsewhere": (
        put("integrity__files", {"../good0/result.json": {"bytes": 1, "sha256": "0"}}),
        "which is no file of its folder",
    ),
}


def write_hostile(folder: Path, change: Change) -> None:
    """A record that its maker has sealed: only what it says is wrong."""
    from seven_bench.store import record as records

    record = make_record(pruner="hostile", seed=7)
    record["integrity"] = {"record": "", "files": {}}
    change(record)
    integrity = record.get("integrity")
    if isinstance(integrity, dict):
        try:
            integrity["record"] = records._digest(record)
        except (ValueError, RecursionError):
            integrity["record"] = "0" * 64
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record))


def loop(folder: Path) -> None:
    folder.mkdir()
    (folder / RECORD).symlink_to(folder / RECORD)


def nothing_ever(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / RECORD)


def raw(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / RECORD).write_bytes(content)

    return write


def another_result(folder: Path) -> None:
    write_json(folder / RECORD, {})  # a sound record of the good run's id, but another result
    record = json.loads((folder.parent / "good0" / RECORD).read_text())
    record["metric"]["value"] = 0.999
    from seven_bench.store.record import write_record

    write_record(folder / RECORD, {**record, "integrity": {"files": {}}})


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to itself": (loop, "cannot be read"),
    "a pipe": (nothing_ever, "is not a file"),
    "5,000 digits": (raw(b'{"seed": ' + b"9" * 5000 + b"}"), "not whole or not JSON"),
    "100,000 brackets": (raw(b"[" * 100_000), "not whole or not JSON"),
    "zeros": (raw(bytes(4096)), "not whole or not JSON"),
    "a list": (raw(b"[]"), "holds a list"),
    "another's id": (another_result, "has the run_id of"),
}
EVERY = {
    **{
        name: (lambda f, c=change: write_hostile(f, c), words)
        for name, (change, words) in CHANGES.items()
    },
    **FILES,
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Two good runs. Theirs come first by name, as an id is theirs who comes first."""
    for seed in (0, 1):
        write_whole(tmp_path / f"good{seed}", seed=seed)
    return tmp_path


@pytest.mark.parametrize("name", EVERY)
def test_one_beside_good_ones(name: str, good: Path) -> None:
    write, words = EVERY[name]
    write(good / "hostile")
    collected = collect([good])
    assert sorted(collected.records["seed"]) == [0, 1]
    ((path, reason),) = collected.damaged
    assert path == good / "hostile" / RECORD
    assert words in reason and "\n" not in reason and len(reason) < 300
    reason.encode()  # can be printed
    runs, problems = find_finished([good])
    assert sorted(run.folder.name for run in runs) == ["good0", "good1"]
    assert any("hostile" in problem for problem in problems)


def test_all_at_once_through_every_reader(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (write, _) in enumerate(EVERY.values()):
        write(good / f"hostile{number}")
    for arguments in (
        ["report", str(good), "--out", str(good.parent / "report")],
        ["collect", str(good), "--out", str(good.parent / "records.parquet")],
        ["compare", "dense", str(good)],
    ):
        assert main(arguments) == 0
        told = capsys.readouterr().err
        named = sum(f"/hostile{number}/" in told for number in range(len(EVERY)))
        assert named == len(EVERY), arguments[0]
        assert not any(f"left out: {run}/" in told for run in (good / "good0", good / "good1"))


def test_unsealed_is_left_out_or_marked_everywhere(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(good / "loose", make_record(pruner="forged", metric__value=0.99), sealed=False)
    out = good.parent / "marked"
    base = ["report", str(good), "--out", str(out)]
    assert main(base) == 0
    assert "has no seal" in capsys.readouterr().err
    assert "forged" not in (out / "table.md").read_text()
    assert main([*base, "--unsealed"]) == 0
    told = capsys.readouterr()
    assert f"unsealed: {good}/loose" in told.err
    assert "Without a seal, and shown all the same: 1 of forged." in " ".join(told.out.split())
    for name in ("table.md", "table.tex", "index.html"):
        assert "Without a seal, and shown all the same: 1 of forged." in (out / name).read_text()
    rows = pd.read_csv(out / "results.csv").set_index("pruner")
    assert not rows.loc["forged", "sealed"] and rows.loc["snip", "sealed"].all()
    for verb in (["collect", "--out", str(out / "a.csv")], ["compare", "dense"]):
        assert main([*verb, str(good)]) == 0
        assert "has no seal" in capsys.readouterr().err
        assert main([*verb, str(good), "--unsealed"]) == 0
        assert f"unsealed: {good}/loose" in capsys.readouterr().err
    assert not pd.read_csv(out / "a.csv").set_index("pruner").loc["forged", "sealed"]


INJECTED = (
    "=cmd|' /C calc'!A0",
    "+1+2",
    "@SUM(A1)",
    "-2+3",
    "\\input{a}",
    "a|b*c_d`e",
    "$x^2$ & %",
)


def test_text_is_escaped_for_where_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(INJECTED):
        changes: dict[str, Any] = {"metrics__shift": -0.5, "environment__hardware": name}
        write_run(tmp_path / "runs", make_record(pruner=name, seed=seed, **changes))
    out = tmp_path / "report"
    assert main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert main(["collect", str(tmp_path / "runs"), "--out", str(out / "records.csv")]) == 0
    for path in (out / "results.csv", out / "records.csv"):
        rows = pd.read_csv(path)
        assert rows["metrics.shift"].tolist() == [-0.5] * len(INJECTED), "numbers stay numbers"
        for column in ("pruner", "environment.hardware"):
            for cell in rows[column]:
                assert cell[0] not in "=+-@\t\r", f"{column}: {cell}"
    table = (out / "table.md").read_text()
    assert "a\\|b\\*c\\_d\\`e" in table
    latex = (out / "table.tex").read_text()
    assert "\\input" not in latex and "\\textbackslash{}input\\{a\\}" in latex
    assert "\\$x\\textasciicircum{}2\\$ \\& \\%" in latex


def test_folders_with_escapes_in_their_names_do_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_whole(tmp_path / "runs" / "good")
    odd = tmp_path / "runs" / "\x1b]0;owned\x07\x1b[2J"
    odd.mkdir()
    (odd / RECORD).write_text("{")
    (tmp_path / "runs" / "\x1b[31m").mkdir()
    (tmp_path / "runs" / "\x1b[31m" / "status.json").write_text('{"state": "\x1b[5m"}')
    for arguments in (
        ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report")],
        ["collect", str(tmp_path / "runs"), "--out", str(tmp_path / "a.csv")],
        ["compare", "dense", str(tmp_path / "runs")],
    ):
        assert main(arguments) == 0
        told = capsys.readouterr()
        assert "\x1b" not in told.out + told.err and "\x07" not in told.err
        assert "left out: " in told.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [1, 2]\n" + "\n".join(f"b{n}: &b{n} [*{p}, *{p}, *{p}, *{p}]" for n, p in enumerate(
            ["a", *(f"b{n}" for n in range(20))])), "holds more than"),
        ("- 1\n", "holds a list"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("a: " + "x" * 2**21, "it is no config"),
    ],
    ids=["aliases without end", "a list", "cut", "a call", "deep", "large"],
)  # fmt: skip
def test_a_config_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    from seven_bench.store.integrity import fingerprints
    from seven_bench.store.record import read_record, write_record

    folder = write_whole(tmp_path / "bad")
    write_whole(tmp_path / "good", seed=1)
    (folder / CONFIG).write_text(text)
    sealed = {"files": fingerprints(folder)}
    write_record(folder / RECORD, {**read_record(folder / RECORD), "integrity": sealed})
    runs, (problem,) = find_finished([tmp_path])
    assert [run.folder.name for run in runs] == ["good"]
    assert problem.startswith(f"{folder}: {CONFIG} ") and words in problem and "\n" not in problem
