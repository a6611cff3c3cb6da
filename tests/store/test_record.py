from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seven_bench.store import atomic
from seven_bench.store.record import RecordError, read_record, write_json, write_record
from tests.results.synthetic import make_record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = make_record(layers={"blocks.0.attn.qkv.weight": {"kept": 3, "total": 8}})
    write_json(tmp_path / "deep" / "result.json", record)
    assert read_record(tmp_path / "deep" / "result.json") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_record(path, make_record())
    whole, written = read_record(path), path.read_bytes()
    for position in range(len(written)):
        content = bytearray(written)
        content[position] ^= 1 << (position % 8)
        path.write_bytes(content)
        try:
            read = read_record(path)
        except RecordError:
            continue
        # but for the name that the checksums stand under: without it, none are there
        assert "integrity" not in read
        assert {n: v for n, v in whole.items() if n != "integrity"}.items() <= read.items()


def test_writing_again_seals_again(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_record(path, make_record(integrity={"files": {"a": {"bytes": 1, "sha256": "0"}}}))
    first = read_record(path)
    write_record(path, {**first, "efficiency": {"macs": 3}})
    second = read_record(path)
    assert second["integrity"]["files"] == first["integrity"]["files"]
    assert second["integrity"]["record"] != first["integrity"]["record"]
    path.write_text(path.read_text().replace('"macs": 3', '"macs": 4'))
    with pytest.raises(RecordError, match="does not fit its checksum"):
        read_record(path)


def test_numbers_of_numpy_paths_and_what_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(
        path,
        {
            "float": np.float32(0.5),
            "int": np.int64(3),
            "list": (np.array([1, 2]), Path("a/b")),
            "nan": math.nan,
            "infinite": [-math.inf],
        },
    )
    assert json.loads(path.read_text()) == {
        "float": 0.5,
        "int": 3,
        "list": [[1, 2], "a/b"],
        "nan": None,
        "infinite": [None],
    }


def test_a_value_that_json_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"value\.a\[1\] is a set"):
        write_json(tmp_path / "a.json", {"a": [1, {2}]})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": True})

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"old": False})
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 2}, "has schema_version 2; this reader knows 1"),
        ({"metric__value": "0.9"}, 'metric.value is "0.9", expected a finite number or null'),
        ({"metric__value": True}, "metric.value is true"),
        ({"metric__name": None}, "metric.name is null, expected text"),
        ({"sparsity__target": 1.5}, "sparsity.target is 1.5, expected a number from 0 to 1"),
        ({"seed": -1}, "seed is -1, expected a whole number from 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"task": ""}, 'task is "", expected text'),
        ({"layers": {"a": {"kept": 9, "total": 8}}}, "layers is"),
        ({"layers": {"a": 3}}, "layers is"),
        ({"params__kept": 769}, "params.kept is 769, more than params.prunable, 768"),
        ({"cost__seconds__total": -1}, "cost.seconds.total is -1"),
        ({"environment": []}, "environment.versions is missing"),
    ],
)
def test_an_invalid_field_is_named_in_one_line(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    write_json(tmp_path / "result.json", make_record(**changes))
    with pytest.raises(RecordError) as error:
        read_record(tmp_path / "result.json")
    assert error.value.reason.startswith(reason)
    assert "\n" not in str(error.value)


def test_nan_is_refused_as_the_metric_and_allowed_among_metrics(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(make_record(metrics__loss=math.nan)))
    assert math.isnan(read_record(path)["metrics"]["loss"])
    path.write_text(json.dumps(make_record(metric__value=math.nan)))
    with pytest.raises(RecordError, match=r"metric\.value is NaN"):
        read_record(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000, b"null"]
)
def test_garbled_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(RecordError) as error:
        read_record(path)
    assert "\n" not in error.value.reason


@pytest.mark.parametrize("length", [1, 40, 300, -3])
def test_a_cut_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(make_record())[:length])
    with pytest.raises(RecordError, match="not whole or not JSON"):
        read_record(path)


@pytest.mark.parametrize("name", ["cell_id", "layers", "sparsity.model", "cost.seconds"])
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    record = make_record()
    *path, last = name.split(".")
    place = record
    for part in path:
        place = place[part]
    del place[last]
    write_json(tmp_path / "result.json", record)
    with pytest.raises(RecordError, match=f"{name}.* is missing"):
        read_record(tmp_path / "result.json")


def test_absent_files_and_pickling(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read") as error:
        read_record(tmp_path / "absent.json")
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.path, again.reason) == (error.value.path, error.value.reason)
