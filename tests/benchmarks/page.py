"""The measured rows of `outputs/bench` in docs/pages/cost.md, between its marks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.timing import OUT, cells

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "pages" / "cost.md"
GPU = "gpu"


def write(groups: Sequence[str]) -> None:
    """Puts what was measured into its table: the GPU's, and that of the other `groups` when all of
    them were; and into the README what it shows of them.
    """
    text = PAGE.read_text()
    found = {path.stem: json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"))}
    gpu = found.pop(GPU, None)
    if found.keys() >= set(groups):
        rows = [row for name in sorted(groups) for row in found[name]["rows"]]
        text = _between(text, "bench", _table(rows))
    if gpu is not None:
        text = _between(text, "bench gpu", f"{gpu['hardware']}\n\n{_table(gpu['rows'])}")
    PAGE.write_text(text)
    subprocess.run([sys.executable, str(DOCS / "hooks.py")], check=True)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| what | value | bound | ours | reference |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        name, value, bound, _, *told = cells(row)
        lines.append("| " + " | ".join([name, value, bound, *told]) + " |")
    return "\n".join(lines)


def _between(text: str, mark: str, content: str) -> str:
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    head, rest = text.split(begin, 1)
    return head + begin + content + "\n" + end + rest.split(end, 1)[1]
