"""Ends what a sweep leaves behind when it is killed: `python guard.py MARK`, run as a file.

A launcher's worker that is being started when the sweep is killed waits for a parent that is no
more. So a guard in a session of its own waits for the end of the process that started it, and ends
every process whose environment says that it is of this sweep. It imports nothing that takes time,
of this package neither. It reads /proc, so it is for Linux.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

VARIABLE = "SEVEN_BENCH_SWEEP"  # in the environment of the sweep's jobs; its value is the mark
BY_ITSELF = 1.0  # seconds that processes are given to notice, and to tidy up
TRACKER = b"resource_tracker"  # frees semaphores when all others are gone: it is given longer
LONGER = 2.5
LONGEST = 10.0
PAUSE = 0.2


def main(mark: str, parent: int) -> None:
    """Waits for the parent's end; then ends what has the mark, and removes the sweep's folder."""
    _wait(parent)
    entry = f"{VARIABLE}={mark}".encode()
    began, quiet = time.monotonic(), 0
    while (passed := time.monotonic() - began) < LONGEST and (quiet < 3 or passed < BY_ITSELF):
        found = marked(entry)
        quiet = 0 if found else quiet + 1
        for process, told in found.items():
            if passed > (LONGER if TRACKER in told else BY_ITSELF):
                _end(process)
        time.sleep(PAUSE)
    _remove(mark.partition(":")[2])


def _wait(parent: int) -> None:
    """Until the pipe from the parent is closed, or, where others have inherited it, the parent has
    ended.
    """
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    with suppress(OSError):  # it has ended already, or this kernel is an old one
        poll.register(os.pidfd_open(parent), select.POLLIN)
    if os.getppid() == parent:
        poll.poll()


def marked(entry: bytes) -> dict[int, bytes]:
    """Processes with this entry in the environment they were started with, and their commands."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if entry in _read(f"/proc/{name}/environ").split(b"\0"):
                found[int(name)] = _read(f"/proc/{name}/cmdline")
        except OSError:  # another user's, or gone
            continue
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _end(process: int) -> None:
    with suppress(OSError):
        os.kill(process, signal.SIGKILL)


def _remove(folder: str) -> None:
    """The folder in which the sweep's jobs said that they run: files alone."""
    with suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
