"""A run's folder: who works on it, what state it is in, and when it is complete."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from seven_bench.interrupts import Interrupted
from seven_bench.store.atomic import remove_drafts, replace_file
from seven_bench.store.files import CONFIG, LOCK, RECORD, STATUS
from seven_bench.store.finished import RunError, check_run, read_config
from seven_bench.store.home import with_home, without_home
from seven_bench.store.record import write_json

HEARTBEAT = 15.0  # seconds between two signs of life
STALE = 5 * HEARTBEAT
ENDED = (KeyboardInterrupt, Interrupted)  # by a signal: no failure of the run's


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
        if not os.path.lexists(self.path / RECORD):
            return None
        try:
            return check_run(self.path, weights=weights)
        except RunError as error:
            return error.reason

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes what the run is made with; a path in the user's home begins with "~" there."""
        text = yaml.safe_dump(without_home(config), sort_keys=False)
        replace_file(self.path / CONFIG, text.encode())

    def read_config(self) -> dict[str, Any]:
        """The config, its folders absolute again."""
        config: dict[str, Any] = with_home(read_config(self.path / CONFIG))
        return config

    def state(self) -> str:
        """`done`, `failed`, `interrupted`, `running`, `stale` (no sign of life for long), `new`."""
        if self.record() is not None:
            return "done"
        status = self.status()
        state = status.get("state", "new")
        if state == "running" and not time.time() - status.get("heartbeat", 0) <= STALE:
            return "stale"
        return "failed" if state == "done" else str(state)  # its files are gone or damaged

    def reason(self) -> str:
        """Why the run failed, in a line."""
        return self.damage() or str(self.status().get("reason", "its record is missing"))

    def status(self) -> dict[str, Any]:
        """What was last written of the work on it; empty where nothing was."""
        try:
            status: Any = json.loads((self.path / STATUS).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        sound = isinstance(status, dict) and isinstance(status.get("heartbeat", 0), int | float)
        return status if sound else {}

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
            if beat.ident is not None:  # it has begun
                beat.join()
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            state = "interrupted" if isinstance(error, ENDED) else "failed"
            self._end(state, started, without_home(reason))
            raise
        finally:
            lock.release()

    def _beat(self, stop: threading.Event, started: float) -> None:
        while not stop.wait(HEARTBEAT):
            with suppress(OSError):  # a full disk ends the run where its work is written
                self._status("running", started)

    def _end(self, state: str, started: float, reason: str) -> None:
        """A full disk has no room for a new file: then the old one goes, which says "running"."""
        try:
            self._status(state, started, reason=reason)
        except OSError:
            (self.path / STATUS).unlink(missing_ok=True)
            with suppress(OSError):  # there may be room now
                self._status(state, started, reason=reason)

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
