"""Signals that end a command, and processes that end with their parent.

SIGINT and SIGTERM become `Interrupted`: at once, or within `deferred` when the work at hand asks
for it with `check`, so that it can be kept. A sweep passes them on to the processes that its
launcher runs jobs in, and waits for those. Nothing heavy is imported here: it must hold before
anything slow begins.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from seven_bench import guard

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 20.0  # seconds that other processes have to write a checkpoint
ONCE = 1.0  # seconds in which a signal that comes again is the same: groups and leaders are told
PATIENCE = 5.0  # seconds after which a moment is taken that loses some work
SWEEP = guard.VARIABLE  # "PID:FOLDER" of the sweep, for its jobs: where they say they run
STOP = "stop"  # in that folder: no further job begins
PR_SET_PDEATHSIG = 1  # prctl(2)


class Interrupted(BaseException):
    """A signal asks this process to end. Not an error: nothing catches it but to clean up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def code(self) -> int:
        """The exit code that shells expect."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}"


class InterruptedJob(RuntimeError):
    """A job of a launcher's process was interrupted: an ordinary error, which the launcher hands
    back while the other jobs end in order.
    """


@dataclass
class _State:
    """Of this process; signals are too."""

    watching: bool = False  # whether the signals are to be ours
    received: int | None = None
    since: float = 0.0
    deferring: bool = False
    working: bool = True  # False in a launcher's process between two jobs
    told_twice: bool = False  # the terminal and the parent both tell a worker
    jobs: Path | None = None  # where jobs of other processes say that they run
    guard: subprocess.Popen[bytes] | None = None  # of the last sweep


_state = _State()


@contextmanager
def watched() -> Iterator[None]:
    """Within, signals raise `Interrupted`; after it, they do what they did before."""
    before, watching = _install(), _state.watching
    _state.received, _state.watching = None, True
    try:
        yield
    finally:
        _state.watching = watching
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_again() -> None:
    """Takes the signals back from a library that has put handlers of its own over ours."""
    if _state.watching:
        _install()


@contextmanager
def kept() -> Iterator[None]:
    """Within, a library that asks for these signals does not get them."""
    before = signal.signal

    def refuse(number: int, handler: Any) -> Any:
        if number in SIGNALS and handler is not _handle and signal.getsignal(number) is _handle:
            return _handle
        return before(number, handler)

    signal.signal = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = before


@contextmanager
def deferred() -> Iterator[None]:
    """Within, a first signal waits until `check` is called, a second one does not."""
    before, _state.deferring = _state.deferring, True
    try:
        yield
    finally:
        _state.deferring = before


def pending() -> int | None:
    """The signal that asks for an end, if one has."""
    return _state.received


def check(patience: float = 0.0) -> None:
    """Raises `Interrupted` when a signal has come, and that more than `patience` seconds ago."""
    if _state.received is not None and time.monotonic() - _state.since >= patience:
        raise Interrupted(_state.received)


def _install() -> dict[int, signal.Handlers | None]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, _handle) for number in SIGNALS}  # type: ignore[misc]


def _handle(number: int, _frame: FrameType | None) -> None:
    if _state.received is None:
        _state.received, _state.since = number, time.monotonic()
        if _state.jobs is not None:
            _pass_on(_state.jobs)
        if _state.deferring or not _state.working:
            return
    elif _state.told_twice or time.monotonic() - _state.since < ONCE:
        return
    raise Interrupted(_state.received)


# ---- A sweep and the jobs that its launcher runs in other processes


@contextmanager
def passed_on() -> Iterator[None]:
    """Within, a signal is passed on to jobs in other processes before it raises here."""
    with tempfile.TemporaryDirectory(prefix="seven_bench_", ignore_cleanup_errors=True) as folder:
        mark = f"{os.getpid()}:{folder}"
        _start_guard(mark)
        os.environ[SWEEP] = mark
        _state.jobs = Path(folder)
        try:
            yield
        finally:
            _state.jobs = None
            del os.environ[SWEEP]


def _start_guard(mark: str) -> None:
    """A process that ends those of the sweep when this one is killed.

    It stays until this one ends: a launcher's workers may do so too, though they are idle.
    """
    _end_guard()
    if sys.platform != "linux":
        return
    words = [sys.executable, "-I", "-S", guard.__file__, mark, str(os.getpid())]
    none = subprocess.DEVNULL
    with suppress(OSError):  # without room for one, jobs still look for their parent themselves
        _state.guard = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=none, stderr=none, cwd="/", start_new_session=True
        )


@atexit.register
def _end_guard() -> None:
    if _state.guard is not None:
        with _state.guard as running:  # closes the pipe and waits
            running.kill()
        _state.guard = None


def sweep_folder() -> Path | None:
    """A folder that all processes of this sweep on this machine share; None outside of one."""
    folder = os.environ.get(SWEEP, "").partition(":")[2]
    return Path(folder) if folder and os.path.isdir(folder) else None


def in_worker() -> bool:
    """Whether this is a process that a launcher does a sweep's runs in, and not the sweep's own."""
    main = os.environ.get(SWEEP, "").partition(":")[0]
    return sweep_folder() is not None and int(main) != os.getpid()


@contextmanager
def job() -> Iterator[None]:
    """One job of a sweep. In a process of a launcher it listens for signals while it runs, raises
    InterruptedJob for them, and ends with the sweep's process.
    """
    main, folder = os.environ.get(SWEEP, "0:").partition(":")[0], sweep_folder()
    if folder is None or not in_worker():
        yield
        return
    if (folder / STOP).exists():
        raise InterruptedJob("the sweep was interrupted")
    mark = folder / str(os.getpid())
    _install()
    if not _state.told_twice:  # the first job of this process
        _state.told_twice = _state.watching = True
        threading.Thread(target=_follow, args=(int(main),), daemon=True).start()
    _state.received = None
    mark.touch()
    _state.working = True
    try:
        with kept():
            yield
    except Interrupted as error:
        raise InterruptedJob(str(error)) from None
    finally:
        _state.working = False
        mark.unlink(missing_ok=True)


def _pass_on(folder: Path) -> None:
    """Tells every job that runs, and waits until none does; after `GRACE` seconds they are ended.

    By SIGTERM, whatever this process was told: Ray's processes do not hear SIGINT.
    """
    (folder / STOP).touch()
    told: set[int] = set()
    running: set[int] = set()
    end = time.monotonic() + GRACE
    while time.monotonic() < end:
        running = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
        for process in running - told:
            try:
                os.kill(process, signal.SIGTERM)
            except ProcessLookupError:
                (folder / str(process)).unlink(missing_ok=True)
        told |= running
        if not running:
            return
        time.sleep(0.05)
    for process in running:  # a launcher would wait for them
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


# ---- Ending with the parent


def end_with_parent(parent: int) -> None:
    """Ends this process when its parent has, however that ended; at once if it has already.

    To be called first of all, before anything slow is imported. On Linux the kernel sees to it
    (prctl(2), which counts the parent's thread that started this process); elsewhere a thread.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _follow(process: int) -> None:
    """Ends this process when the other is no more, or when whoever started this one is gone."""
    parent = os.getppid()
    while os.getppid() == parent and _lives(process):
        time.sleep(0.5)
    os._exit(1)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
