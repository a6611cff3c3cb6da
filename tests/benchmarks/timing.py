"""Rows of the table, and timing that is fair on a machine with a past."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seven_bench.training.environment import _processor

OUT = Path("outputs/bench")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """`value` in `unit` against `bound`; `at_most` says on which side of it is good.

    `ours` and `reference` are what the value was made of, in words.
    """

    name: str
    value: float | None
    unit: str
    bound: float | None = None
    at_most: bool = True
    ours: str = ""
    reference: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None or self.bound is None:
            return ""
        good = self.value <= self.bound if self.at_most else self.value >= self.bound
        return "yes" if good else "NO"


def interleaved(
    ways: dict[str, Callable[[], object]], repeats: int, warm: int = 1
) -> dict[str, float]:
    """Median seconds of each way. They take turns, so that a slow minute hits all of them; a GPU is
    waited for.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm + repeats):
        for name, way in ways.items():
            wait()
            began = time.perf_counter()
            way()
            wait()
            if turn >= warm:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_memory(anew: bool = False) -> int:
    """Most memory that this process has held, in bytes; `anew` begins with what it holds now."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) * 1024


def in_words(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1e3:.2f} ms"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def hardware() -> str:
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ", no GPU"
    threads = f"{torch.get_num_threads()} threads"
    return f"{_processor()}{gpu}; {threads}, torch {torch.__version__}, {platform.system()}"


def write(group: str, rows: list[Row]) -> None:
    """Writes a group's JSON, then the table of all groups that are there."""
    OUT.mkdir(parents=True, exist_ok=True)
    found = {"hardware": hardware(), "rows": [{**asdict(r), "met": r.verdict} for r in rows]}
    (OUT / f"{group}.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "table.md").write_text(table())


def table() -> str:
    """The Markdown table of every group measured so far."""
    lines, last = [], None
    for path in sorted(OUT.glob("*.json")):
        found = json.loads(path.read_text())
        if found["hardware"] != last:
            last = found["hardware"]
            lines += ["", f"{last}", "", "| what | value | bound | met | ours | reference |"]
            lines += ["|---|---|---|---|---|---|"]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in found["rows"]]
    return "\n".join(lines).strip() + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of a group's JSON in words: name, value, bound, met, ours, reference."""
    value = NOT_MEASURED if row["value"] is None else f"{row['value']:.3g} {row['unit']}".strip()
    sign = "<=" if row["at_most"] else ">="
    bound = "" if row["bound"] is None else f"{sign} {row['bound']:g}"
    return [row["name"], value, bound, row["met"], row["ours"], row["reference"]]
