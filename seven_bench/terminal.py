"""The console that tables are printed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160  # columns of a file or a pipe, which has no width of its own


def console(**options: Any) -> Console:
    """Rich's console: as wide as the terminal; `PIPE_WIDTH` without one, unless COLUMNS is set."""
    from rich.console import Console

    made = Console(**options)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made
