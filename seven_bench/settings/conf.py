"""The installed configuration: where it lies, and single choices out of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


def conf_dir() -> Path:
    """The folder of configs: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


HERE = "@_here_"  # in a file's defaults: another file's keys beside its own


@cache
def choice(name: str) -> dict[str, Any]:
    """What a file of `conf/` says, as `pruner/dense`, with what its defaults bring along: of files
    that interpolate nothing.
    """
    own: dict[str, Any] = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
    shared: dict[str, Any] = {}
    for entry in own.pop("defaults", []):
        if entry.endswith(HERE):
            shared |= choice(entry.removeprefix("/").removesuffix(HERE))
    return {**shared, **own}
