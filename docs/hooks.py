"""What the build puts into pages, so that nothing is written twice.

`<!-- readme: HEADING -->` is a section of the README without its subsections, and
`<!-- file: PATH -->` a file below docs/ as code. `<!-- methods -->`, `<!-- papers -->` and
`<!-- record -->` are tables of what the installed configuration and the record's schema say.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seven_bench.commands.list import choices, to_markdown
from seven_bench.store.schema import FIELDS

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
MARKER = re.compile(r"^<!-- (readme|file|methods|papers|record)(?:: (.+?))? -->$", re.MULTILINE)
KINDS = {".py": "python", ".yaml": "yaml", ".toml": "toml"}


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of any level.

    Raises: ValueError when there is no such heading, or more than one.
    """
    parts = re.split(r"^#+ (.+)$", _without_code_comments(text), flags=re.MULTILINE)
    found = [body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title == heading]
    if len(found) != 1:
        raise ValueError(f"README has {len(found)} sections {heading!r}")
    return found[0].replace(_HASH, "#").strip()


_HASH = "\x00"  # stands for a comment's sign in code, which is no heading


def _without_code_comments(text: str) -> str:
    def hidden(block: re.Match[str]) -> str:
        return re.sub(r"^#", _HASH, block[0], flags=re.MULTILINE)

    return re.sub(r"^```.*?^```$", hidden, text, flags=re.MULTILINE | re.DOTALL)


def _readme(heading: str) -> str:
    body = section(README.read_text(encoding="utf-8"), heading)
    body = re.sub(r"<!-- methods.*?<!-- /methods -->", _methods, body, flags=re.DOTALL)
    return re.sub(r"^<!-- .*? -->\n", "", body, flags=re.MULTILINE)


def _file(path: str) -> str:
    name = Path(path)
    text = (DOCS / path).read_text(encoding="utf-8").rstrip()
    return f"`{path}`\n\n```{KINDS.get(name.suffix, '')}\n{text}\n```"


def _methods(_: Any = "") -> str:
    return to_markdown(choices("pruner")).strip()


def _papers(_: str) -> str:
    suites = [choice for choice in choices("experiment") if choice.name.startswith("paper/")]
    rows = [f"| `experiment={suite.name}` | {suite.title} |" for suite in suites]
    return "\n".join(["| suite | what it aims at |", "| --- | --- |", *rows])


def _record(_: str) -> str:
    rows = [f"| `{name}` | {words} |" for name, words in FIELDS.items()]
    return "\n".join(["| field | holds |", "| --- | --- |", *rows])


PARTS: dict[str, Callable[[str], str]] = {
    "readme": _readme, "file": _file, "methods": _methods, "papers": _papers, "record": _record,
}  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page's text."""
    return MARKER.sub(lambda found: PARTS[found[1]](found[2] or ""), markdown)
