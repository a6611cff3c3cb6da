"""The console that tables are printed on, and text that is safe to print."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

from seven_bench.interrupts import in_worker, sweep_folder

if TYPE_CHECKING:
    from rich.console import Console

WIPE = "\r\x1b[K"  # clears the line that the cursor is on
PIPE_WIDTH = 160  # columns of a file or a pipe, which has no width of its own
suite_words = ""  # how far the sweep is that this process does runs of; its runs' bars show it


#: What moves a cursor, changes colours or the direction of writing, or is half a character.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Text in one line that does nothing to a terminal: what would is shown by its number."""
    return _ACTING.sub(lambda found: ascii(found[0])[1:-1], str(text))


def console(**options: Any) -> Console:
    """Rich's console: as wide as the terminal; `PIPE_WIDTH` without one, unless COLUMNS is set."""
    from rich.console import Console

    made = Console(**options)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def say(line: str) -> None:
    """Prints a line of a job's. From another process than the sweep's it takes the place of the
    line of progress that may stand there.
    """
    wiped = WIPE if in_worker() and sys.stdout.isatty() else ""
    print(wiped + line, flush=True)


def show_live(line: str = "") -> None:
    """Puts a line of progress on the terminal at stderr in place of the last one; "" takes it away.

    The cursor stays before it, so that what others print takes its place.
    """
    width = shutil.get_terminal_size().columns - 1
    print(f"{WIPE}{line[:width]}\r" if line else WIPE, end="", file=sys.stderr, flush=True)


class Once(logging.Filter):
    """Lets a message through once a command, whichever of its runs and processes says it again.

    Our own warnings always come: they are about one run.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING and record.name.partition(".")[0] == "seven_bench":
            return True
        key = hashlib.sha256(f"{record.name} {record.getMessage()}".encode()).hexdigest()[:16]
        if key in _told:
            return False
        _told.add(key)
        if (folder := sweep_folder()) is None:
            return True
        try:
            (folder / f"told-{key}").touch(exist_ok=False)
        except FileExistsError:  # another process of the sweep has said it
            return False
        except OSError:  # the sweep is over
            return True
        return True


_told: set[str] = set()  # by this process
