"""Paths in the user's home begin with "~" in what a run writes: files travel."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any


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
