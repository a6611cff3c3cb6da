"""A run's folder: who works on it, what state it is in, and when it is complete."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from seven_bench.store.atomic import remove_drafts, replace_file
from seven_bench.store.files import CONFIG, LOCK, MASKS, NEEDED, RECORD, STATUS
from seven_bench.store.record import RecordError, read_record, write_json

HEARTBEAT = 15.0  # seconds between two signs of life
STALE = 5 * HEARTBEAT


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Nested settings with `change` made to every text among them."""
    if isinstance(value, Mapping):
        return {name: _each_text(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def without_home(value: Any) -> Any:
    """Settings, or a text, in which "~" stands for the user's home: files travel."""
    home = os.path.expanduser("~").rstrip("/")
    if not home:  # the home is the root: nobody's name is in it
        return value
    path = re.compile(
        rf"(?<![\w./~-]){re.escape(home)}(?=/|$)"
    )  # not in the middle of another path
    return _each_text(value, lambda text: path.sub("~", text))


def with_home(value: Any) -> Any:
    """Settings in which paths that begin with "~" are made out: undoes `without_home`."""
    return _each_text(
        value, lambda text: os.path.expanduser(text) if re.match("~(/|$)", text) else text
    )


class BusyError(RuntimeError):
    """Another process works on this run."""


class RunFolder:
    """The folder `path`, made when it is claimed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, weights: bool = False) -> dict[str, Any] | None:
        """The record, when the run is complete and its files are whole; None otherwise.

        Args:
            weights: read the weights' files too, to the last bit; else their size is looked at.
        """
        record = self._read(weights)
        return None if isinstance(record, str) else record

    def damage(self, weights: bool = False) -> str | None:
        """What is wrong with a run that has a record, in a line; None where nothing is."""
        found = self._read(weights)
        return found if isinstance(found, str) else None

    def _read(self, weights: bool) -> dict[str, Any] | str | None:
        """The record, or why it does not count, or None where there is none."""
        path = self.path / RECORD
        if not path.is_file():
            return None
        try:
            record = read_record(path)
        except RecordError as error:
            return f"{path.name} {error.reason}"
        if missing := [name for name in NEEDED if not (self.path / name).is_file()]:
            return f"{missing[0]} is missing"
        for name, written in record.get("integrity", {}).get("files", {}).items():
            if (fault := self._fault(name, written, weights)) is not None:
                return f"{name} {fault}"
        return record

    def _fault(self, name: str, written: dict[str, Any], weights: bool) -> str | None:
        try:
            if (size := (self.path / name).stat().st_size) != written["bytes"]:
                return f"has {size:,} bytes of {written['bytes']:,}"
            if (weights or name in (CONFIG, MASKS)) and self._sha256(name) != written["sha256"]:
                return "does not fit its checksum"
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        return None

    def _sha256(self, name: str) -> str:
        with (self.path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes what the run is made with; a path in the user's home begins with "~" there."""
        text = yaml.safe_dump(without_home(config), sort_keys=False)
        replace_file(self.path / CONFIG, text.encode())

    def read_config(self) -> dict[str, Any]:
        """The config, its folders absolute again."""
        config: dict[str, Any] = with_home(yaml.safe_load((self.path / CONFIG).read_text("utf-8")))
        return config

    def fingerprints(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Size and SHA-256 of files, for `integrity.files` of the record."""
        return {
            name: {"bytes": (self.path / name).stat().st_size, "sha256": self._sha256(name)}
            for name in names
        }

    def state(self) -> str:
        """`done`, `failed`, `running`, `stale` (no sign of life for long) or `new`."""
        if self.record() is not None:
            return "done"
        status = self._read_status()
        state = status.get("state", "new")
        if state == "running" and time.time() - status["heartbeat"] > STALE:
            return "stale"
        return "failed" if state == "done" else str(state)  # its files are gone or damaged

    def reason(self) -> str:
        """Why the run failed, in a line."""
        return self.damage() or str(self._read_status().get("reason", "its record is missing"))

    def _read_status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads((self.path / STATUS).read_text())
        except (OSError, ValueError):
            return {}
        return status

    @contextmanager
    def claim(self, wait: bool) -> Iterator[None]:
        """Holds the run for this process; keeps `status.json` up to date meanwhile.

        The lock is the operating system's: it goes with the process, however that ends.

        Raises: BusyError when another process holds it and `wait` is false.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK, timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(f"{self.path} is being worked on by another process") from error
        stop = threading.Event()
        started = time.time()
        beat = threading.Thread(target=self._beat, args=(stop, started), daemon=True)
        try:
            remove_drafts(self.path)
            self._status("running", started)
            beat.start()
            yield
            stop.set()
            beat.join()
            self._status("done", started)
        except BaseException as error:
            stop.set()
            beat.join()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            self._status("failed", started, reason=without_home(reason))
            raise
        finally:
            lock.release()

    def _beat(self, stop: threading.Event, started: float) -> None:
        while not stop.wait(HEARTBEAT):
            self._status("running", started)

    def _status(self, state: str, started: float, **more: Any) -> None:
        status = {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": started,
            "heartbeat": time.time(),
            **more,
        }
        write_json(self.path / STATUS, status)
