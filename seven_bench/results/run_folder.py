"""A run's folder: who works on it, what state it is in, and when it is complete."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from seven_bench.results.record import RecordError, read_record, write_json

HEARTBEAT = 15.0  # seconds between two signs of life
STALE = 5 * HEARTBEAT
NEEDED = ("result.json", "config.yaml", "masks.safetensors", "model.safetensors")


class BusyError(RuntimeError):
    """Another process works on this run."""


class RunFolder:
    """The folder `path`, made when it is claimed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self) -> dict[str, Any] | None:
        """The record, when the run is complete and its files are there; None otherwise."""
        if not all((self.path / name).is_file() for name in NEEDED):
            return None
        try:
            return read_record(self.path / "result.json")
        except RecordError:
            return None

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
        return str(self._read_status().get("reason", "its files are missing or damaged"))

    def _read_status(self) -> dict[str, Any]:
        try:
            status: dict[str, Any] = json.loads((self.path / "status.json").read_text())
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
        lock = FileLock(self.path / ".lock", timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout as error:
            raise BusyError(f"{self.path} is being worked on by another process") from error
        stop = threading.Event()
        started = time.time()
        beat = threading.Thread(target=self._beat, args=(stop, started), daemon=True)
        try:
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
            self._status("failed", started, reason=reason)
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
        write_json(self.path / "status.json", status)
