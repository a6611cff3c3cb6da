"""Offline W&B runs read back, through W&B's own command (its Python reader left with 0.30)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT = 120.0  # seconds for one run's file


class WandbReadError(RuntimeError):
    """W&B's command is missing, or could not read a run."""


@dataclass(frozen=True)
class OfflineRun:
    """One offline run as W&B holds it. `state` is running, finished, failed or crashed."""

    path: Path
    name: str
    group: str
    job_type: str
    state: str
    exit_code: int | None
    config: dict[str, Any]
    summary: dict[str, Any]
    tags: list[str]


def read_offline_runs(folder: str | Path) -> tuple[list[OfflineRun], list[tuple[Path, str]]]:
    """All offline runs below a folder, oldest first, and those that could not be read with why.

    Raises: WandbReadError when W&B's command is not there.
    """
    command = shutil.which("wandb", path=str(Path(sys.executable).parent)) or shutil.which("wandb")
    if command is None:
        raise WandbReadError("reading W&B files needs a package: pip install 'wandb>=0.30,<0.32'")
    runs, unread = [], []
    for file in sorted(Path(folder).rglob("offline-run-*/run-*.wandb")):
        try:
            runs.append(_read(command, file.parent))
        except WandbReadError as error:
            unread.append((file.parent, str(error)))
    return runs, unread


def _read(command: str, path: Path) -> OfflineRun:
    whole = json.loads(_inspect(command, "--summary", "--json", str(path)))
    begun: dict[str, Any] = {}
    for line in _inspect(command, "--json", str(path)).splitlines():
        entry = json.loads(line)
        if entry["type"] == "run":
            begun = entry["run"]
            break
    return OfflineRun(
        path=path,
        name=whole["name"],
        group=_first(begun, "run_group", "group"),
        job_type=_first(begun, "job_type"),
        state=whole["state"],
        exit_code=whole.get("exit_code"),
        config={key: value for key, value in whole["config"].items() if key != "_wandb"},
        summary=whole["summary"],
        tags=[str(tag) for tag in begun.get("tags") or []],
    )


def _first(entry: dict[str, Any], *keys: str) -> str:
    return next((str(entry[key]) for key in keys if entry.get(key)), "")


def _inspect(command: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [command, "leet", "inspect", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        told = (error.stderr or error.stdout or "no reason given").strip().splitlines()
        raise WandbReadError(told[-1] if told else "no reason given") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WandbReadError(str(error)) from error
    return done.stdout
