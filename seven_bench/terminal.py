"""The console that tables are printed on, and text that is safe to print."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160  # columns of a file or a pipe, which has no width of its own


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
