"""A full disk, a folder that cannot be written, a process killed while it writes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seven_bench.errors import ConfigError
from seven_bench.running.run import run
from seven_bench.settings.identity import identify
from seven_bench.store import atomic
from seven_bench.store.files import CURVES, MASKS, MODEL, PREDICTIONS, RECORD, STATUS
from seven_bench.store.masks import write_masks
from seven_bench.store.predictions import Predictions, write_predictions
from seven_bench.store.record import write_record
from seven_bench.store.run_folder import RunFolder
from seven_bench.store.tensors import write_tensors
from tests.conftest import SHORT
from tests.results.synthetic import make_record

Write = Callable[[Path], object]
WRITERS: dict[str, Write] = {
    "bytes": lambda path: atomic.replace_file(path, b"new"),
    "record": lambda path: write_record(path, make_record()),
    "tensors": lambda path: write_tensors({"a": torch.zeros(3)}, path),
    "masks": lambda path: write_masks({"a": torch.ones(3) > 0}, path),
    "predictions": lambda path: write_predictions(Predictions.of_scores([1], [2], "one"), path),
}


class Disk:
    """A disk that is full from the `room`-th file on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.fsync = room, os.fsync
        monkeypatch.setattr(atomic.os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(descriptor)


@pytest.mark.parametrize("name", WRITERS)
def test_the_path_is_named_and_the_old_file_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    Disk(monkeypatch, room=0)
    with pytest.raises(OSError, match="No space left on device") as error:
        WRITERS[name](path)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "a partial file is left"


def test_a_move_that_fails_names_where_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(OSError, match="No space left") as error, atomic.replacing(path) as draft:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/made-first", None, str(draft))
    assert error.value.filename == str(path) and list(tmp_path.iterdir()) == []


def test_safetensors_own_error_is_the_disks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o555)
    target = tmp_path / "a" / "file"
    if os.access(target.parent, os.W_OK):  # root may write anywhere
        target = Path("/proc/self/file")
    with pytest.raises(OSError, match="file") as error:
        write_tensors({"a": torch.zeros(3)}, target)
    assert error.value.filename == str(target)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_run_is_failed_or_new_and_never_running(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        Disk(patch, room)
        with pytest.raises(OSError, match="No space left"), folder.claim(wait=False):
            folder.write_config({"seed": 1})
            atomic.replace_file(folder.path / "data", b"0")
    assert folder.state() in ("failed", "new")
    names = {path.name for path in folder.path.iterdir()}
    assert names <= {".lock", STATUS, "config.yaml"}, "a partial file is left"


@pytest.mark.parametrize("room", [1, 4, 7])
def test_a_full_disk_ends_a_run_and_a_rerun_mends_it(
    room: int, make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("pruner=magnitude", "start=init", "sparsity=0.5", *SHORT)
    folder = RunFolder(identify(config).folder(config.output_root))
    with monkeypatch.context() as patch:
        Disk(patch, room)
        with pytest.raises(OSError, match="No space left") as error:
            run(config)
    assert str(folder.path) in str(error.value)
    assert folder.state() in ("failed", "new")
    (folder.path / f".{RECORD}.0123.tmp").write_text("{")  # as a killed process leaves it
    run(config)
    assert folder.state() == "done"
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".tmp")]
    mine = {path.name for path in folder.path.iterdir()}
    whole = make_config(
        "pruner=magnitude", "start=init", "sparsity=0.5", *SHORT, f"output_root={tmp_path}/other"
    )
    run(whole)
    theirs = RunFolder(identify(whole).folder(whole.output_root)).path
    assert mine == {path.name for path in theirs.iterdir()}
    for name in (MASKS, MODEL, PREDICTIONS, CURVES):
        assert (folder.path / name).read_bytes() == (theirs / name).read_bytes(), name


def test_a_finished_run_in_a_read_only_folder_is_already_done(
    make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("pruner=magnitude", "start=init", "sparsity=0.5", *SHORT)
    record = run(make_config(*words))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        for module, name in ((tempfile, "TemporaryFile"), (os, "replace"), (os, "mkdir")):
            patch.setattr(module, name, refuse)
        assert run(make_config(*words)) == record
        with pytest.raises(ConfigError, match=r"cannot be written .Read-only file system"):
            make_config(*words, "seed=1")
