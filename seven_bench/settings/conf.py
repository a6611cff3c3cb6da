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


@cache
def choice(name: str) -> Any:
    """What a file of `conf/` says, as `pruner/dense`: of files that interpolate nothing."""
    return yaml.safe_load((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))
