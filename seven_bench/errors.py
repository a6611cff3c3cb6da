"""The one kind of error that a user causes and can mend, and how to install what is missing."""

from __future__ import annotations

import re
import shlex


class ConfigError(ValueError):
    """A setting that cannot work: the message names the key, the value and what is allowed."""


def install_line(extra: str) -> str:
    """A command that installs what an extra needs. No index has this package, so the line names
    the packages that it declares; in a clone whose metadata does not know the extra, the clone.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        declared = requires("seven-bench") or []
    except PackageNotFoundError:
        declared = []
    of_extra = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]")
    needed = [line.partition(";")[0].strip() for line in declared if of_extra.search(line)]
    return f"pip install {shlex.join(needed) if needed else f'-e .[{extra}] (a clone)'}"
