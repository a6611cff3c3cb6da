"""Rows are those of the files as they are now, whatever a cache or a clock says."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seven_bench.data import rows
from seven_bench.data.glue import GlueData
from seven_bench.data.rows import load_rows
from seven_bench.errors import ConfigError
from seven_bench.settings.model import Source
from seven_bench.settings.sources import fingerprint

SOURCE = Source(hub="owner/name", files={"train": "train.parquet"})


def write(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts, "label": list(range(len(texts)))}), path)


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_a_replaced_file_of_the_same_name_size_and_time_is_read_anew(
    small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(rows, "SMALL", 0)
    path = tmp_path / "train.parquet"
    write(path, ["aaaa", "bbbb"])
    before, size = path.stat(), path.stat().st_size
    first = load_rows({"train": path}, None, ("train",))["train"]
    printed = fingerprint(SOURCE, str(tmp_path), "task")
    assert list(first["text"]) == ["aaaa", "bbbb"]
    write(path, ["cccc", "dddd"])
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_size == size
    second = load_rows({"train": path}, None, ("train",))["train"]
    assert list(second["text"]) == ["cccc", "dddd"]
    assert fingerprint(SOURCE, str(tmp_path), "task") != printed


def test_a_folder_of_files_is_read_in_order_as_one(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.parquet", [name])
    found = load_rows({"train": tmp_path}, None, ("train",))["train"]
    assert list(found["text"]) == ["a", "b"]
    assert found.select([1])[0]["text"] == "b"


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None])
def test_a_broken_file_is_named_in_one_line(
    content: bytes | None, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:
        monkeypatch.setattr(rows, "SMALL", 0)
    path = tmp_path / "train.parquet"
    write(path, ["a"] * 100)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ConfigError, match=r"cannot read .*train\.parquet: \w") as error:
        load_rows({"train": path}, None, ("train",))
    assert "\n" not in str(error.value)


SOUND = {"sentence": [f"film {n}" for n in range(20)], "label": [n % 2 for n in range(20)]}
WRONG = {
    "labels as text": ({"label": ["good"] * 20}, "row 0 has label=good: allowed is a whole number"),
    "no label": ({"label": [0, 1, None] * 7}, "row 2 has label=null: allowed is a whole number"),
    "a hidden label": ({"label": [0, -1] * 10}, "row 1 has label=-1: allowed is a whole number"),
    "half a label": ({"label": [0.5] * 20}, "row 0 has label=0.5: allowed is a whole number"),
    "no text": ({"sentence": ["a", None] * 10}, "row 1 has sentence=null: allowed is a text"),
    "numbers for texts": ({"sentence": [7] * 20}, "row 0 has sentence=7: allowed is a text"),
    "a label too many": ({"label": [0, 5] * 10}, "is 5: allowed are 0 to 1 (task.classes=2)"),
    "another column": ({"label": None}, "no column label; it has sentence"),
}


@pytest.mark.parametrize("name", WRONG)
def test_rows_that_are_none_are_named_by_file_and_row(name: str, tmp_path: Path) -> None:
    change, words = WRONG[name]
    found = {key: values for key, values in {**SOUND, **change}.items() if values is not None}
    size = min(map(len, found.values()))
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({key: values[:size] for key, values in found.items()}), path)
    data = GlueData(
        seed=0, batch_size=8, files={"train": path, "validation": path}, tokenizer="data",
        columns=["sentence"], max_length=9, vocabulary=50,
    )  # fmt: skip
    data.classes = 2
    with pytest.raises(ConfigError) as error:
        data.setup()
    assert str(error.value).startswith(str(path)) and words in str(error.value)
