"""A run that several processes share: starting them, passing signals on, telling what went wrong.

Started by us with torch's launcher of processes, not by Lightning, which would run the whole
command line again in each of them: a multirun would then start anew in every one.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from seven_bench import interrupts
from seven_bench.errors import ConfigError
from seven_bench.settings.conf import declared_arguments

log = logging.getLogger(__name__)
WORKER = "seven_bench.running.worker"  # by name: it imports the run that starts it


class Processes(SubprocessContext):
    """Torch's processes under the handling of signals that is ours."""

    def start(self) -> None:
        """Starts them, without torch's own handlers of signals."""
        self._start()  # type: ignore[no-untyped-call]

    def close(self, death_sig: signal.Signals | None = None, timeout: int = 5) -> None:
        """Ends them; by force, for one may wait for another that is no more."""
        super().close(death_sig or signal.SIGKILL, timeout)


def share_out(folder: Path, processes: int) -> None:
    """Runs the work of a claimed folder in several processes and waits for them.

    Raises: ConfigError, ValueError or RuntimeError with the message of the process that failed
        first; the others are ended then. Interrupted, when they have been told and are done.
    """
    source = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH", ""))))
    shared = {"WORLD_SIZE": str(processes), "NODE_RANK": "0", "PYTHONPATH": search}
    ranks = [str(rank) for rank in range(processes)]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # we tell it
    with tempfile.TemporaryDirectory(prefix="seven_bench_") as place, interrupts.deferred():
        arguments = (
            "-m",
            WORKER,
            str(folder),
            f"{place}/meeting",
            os.getpid(),
            *declared_arguments(),
        )
        started = Processes(
            "run",
            sys.executable,
            args=dict.fromkeys(range(processes), arguments),
            envs={int(r): {**shared, "RANK": r, "LOCAL_RANK": r} for r in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=place),
        )
        try:
            started.start()
            failures = _wait(started)
        finally:
            started.close()
        interrupts.check()
        if failures:
            raise _error(min(failures.values(), key=_when))


def _wait(started: Processes) -> dict[int, ProcessFailure]:
    """Waits for the end of all, or of the first to fail; passes a signal on to them once."""
    told = None
    while (result := started.wait(timeout=0)) is None:
        now = time.monotonic()
        if (number := interrupts.pending()) is not None and told is None:
            told = now
            for process in started.pids().values():
                os.kill(process, number)
        if told is not None and now - told > interrupts.GRACE:
            return {}
        time.sleep(0.05)
    return result.failures


def _when(failure: ProcessFailure) -> float:
    """When a process failed, finer than the second that torch keeps."""
    path = Path(failure.error_file)
    return path.stat().st_mtime if path.is_file() else math.inf


def _error(failure: ProcessFailure) -> Exception:
    """The error of a process, as it would have been here."""
    found: Any = failure.error_file_data
    if not found:  # it was killed
        return RuntimeError(f"a process of this run ended with code {failure.exitcode}")
    told = found["message"]
    log.debug("%s", told["extraInfo"]["py_callstack"])
    kind, _, words = told["message"].partition(": ")
    known = {"ConfigError": ConfigError, "ValueError": ValueError}
    return known.get(kind, RuntimeError)(words.split("\n", 1)[0])
