from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seven_bench.store import atomic
from seven_bench.store.record import (
    RecordError,
    is_sealed,
    read_record,
    write_json,
    write_record,
)
from tests.results.synthetic import make_record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = make_record(layers={"blocks.0.attn.qkv.weight": {"kept": 3, "total": 8}})
    written = write_record(tmp_path / "deep" / "result.json", record)
    assert read_record(tmp_path / "deep" / "result.json") == written
    assert written == {**record, "integrity": {"record": written["integrity"]["record"]}}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_record(path, make_record())
    written = path.read_bytes()
    for position in range(len(written)):
        content = bytearray(written)
        content[position] ^= 1 << (position % 8)
        path.write_bytes(content)
        try:
            read_record(path)
        except RecordError:
            continue
        raise AssertionError(
            f"a flipped bit at {position} passes: {written[position - 9 :][:20]!r}"
        )


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
        ({"environment": []}, "environment is [], expected an object"),
        ({"schema_version": True}, "has schema_version true; this reader knows 1"),
        ({"seed": 10**30}, "seed is 1000000000000000000000000000000, expected a whole number from"),
        ({"metrics__loss": 10**400}, "metrics.loss is too large a number"),
        ({"metrics__loss": [0.1]}, "metrics.loss is [0.1], expected text, a number, true, false"),
        ({"metrics__majority": "0.1"}, 'metrics.majority is "0.1", expected a finite number'),
        ({"cost__seconds__total": [3]}, "cost.seconds.total is [3], expected a finite number"),
        ({"efficiency": {"macs": "many"}}, 'efficiency.macs is "many", expected a finite number'),
        ({"model": "a" * 301, "run_id": "a", "cell_id": "a"}, 'model is "aaaaa'),
        ({"timing": "a\x1b[31mb"}, 'timing is "a\\u001b[31mb", which holds a control character'),
        ({"note": "a" * 100_001}, "note is"),
        ({"note": {"b" * 301: 1}}, "note has the key"),
        (
            {"note": [[[[[[[[[[[[1]]]]]]]]]]]]},
            "note.0.0.0.0.0.0.0.0.0.0.0 is nested deeper than 12",
        ),
        ({"sparsity.target": 0.5}, 'has a field named "sparsity.target": names here hold no dot'),
        ({"integrity": {"files": {}}}, "integrity.record is missing"),
        ({"integrity": {"record": "0", "files": {"a": 3}}}, "integrity.files is 3, expected"),
    ],
)
def test_an_invalid_field_is_named_in_one_line(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    record = make_record(**{n: value for n, value in changes.items() if "." not in n})
    record |= {n: value for n, value in changes.items() if "." in n}
    write_json(tmp_path / "result.json", record)
    with pytest.raises(RecordError) as error:
        read_record(tmp_path / "result.json")
    assert error.value.reason.startswith(reason)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    for name in ("value", "loss"):
        whole = json.dumps(make_record(metric__value=0.25, metrics__loss=0.75))
        path.write_text(whole.replace("0.25" if name == "value" else "0.75", text))
        with pytest.raises(RecordError, match=rf"{name} is (NaN|-?Infinity|infinite), expected"):
            read_record(path)


def test_without_a_seal_a_record_is_read_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, make_record())
    with pytest.raises(RecordError, match=r"has no seal.*--unsealed reads it"):
        read_record(path)
    record = read_record(path, unsealed=True)
    assert record == make_record() and not is_sealed(record)
    assert is_sealed(write_record(path, record))


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(RecordError, match=r"is not a file|cannot be read"):
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
