"""What README and pages have from elsewhere, so that nothing is written twice.

Between `<!-- KIND: ARGUMENT -->` and `<!-- /KIND -->` stands what is made of the installed
configuration, the record's schema, a file below docs/ or the table of `cost.md`: `python
docs/hooks.py` writes it, and a test holds it. `readme` differs: on disk a page only links to that
part of the README, and the site's page has it whole.
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
PAGES = DOCS / "pages"
KINDS = {".py": "python", ".yaml": "yaml", ".toml": "toml"}

# What the README shows of cost.md: how the rows' names begin there.
HEADLINES = (
    "seven step, MiniLM, batch 32, 64 tokens / dense training step",
    "seven step, MiniLM, batch 32, 64 tokens: the published way / ours",
    "selection and masks, 85M scores, distinct / torch.kthvalue alone",
    "training loop, MiniLM, batch 32, 64 tokens: steps a second / bare loop",
    "packed file, BERT-base, sparsity 0.9: bytes / dense bytes of the prunable weights",
    "inference, MiniLM, batch 32, 64 tokens, sparsity 0.9: ",
    "inference, BERT-base, batch 32, 64 tokens, sparsity 0.9: ",
    "inference, BERT-base, batch 32, 64 tokens, 2 threads, half the heads and neurons: "
    "smaller / dense",
)
HEADLINES_GPU = (
    "selection and masks, 85M scores, distinct / torch.topk alone",
    "seven step, BERT-base, batch 32, 128 tokens, bf16 / dense training step",
    "inference, BERT-base, batch 32, 64 tokens, bf16: 2:4 / dense",
)


def filled(text: str) -> str:
    """The text with all that is made between its marks made anew, but for parts of the README."""
    for kind, make in MADE.items():
        text = _replaced(text, kind, make)
    return text


def _replaced(text: str, kind: str, make: Callable[[str], str]) -> str:
    def whole(found: re.Match[str]) -> str:
        return f"{found[1]}\n{make(found[2] or '')}\n{found[3]}"

    mark = rf"^(<!-- {kind}(?:: (.+?))? -->)\n.*?^(<!-- /{kind} -->)$"
    return re.sub(mark, whole, text, flags=re.MULTILINE | re.DOTALL)


def block(text: str, mark: str) -> str:
    """What stands between a mark and its end.

    Raises: ValueError when it is not there exactly once.
    """
    found = re.findall(rf"^<!-- {mark}(?::.*?)? -->\n(.*?)^<!-- /{mark} -->$", text, re.M | re.S)
    if len(found) != 1:
        raise ValueError(f"{mark!r} is marked {len(found)} times")
    return str(found[0]).strip()


def _readme(mark: str) -> str:
    text = README.read_text(encoding="utf-8")
    if mark != ".":
        return block(text, mark)
    return text.split("\n", 1)[1]  # its title is the page's


def _file(path: str) -> str:
    text = (DOCS / path).read_text(encoding="utf-8").rstrip()
    return f"`{path}`\n\n```{KINDS.get(Path(path).suffix, '')}\n{text}\n```"


def _methods(_: str) -> str:
    return to_markdown(choices("pruner")).strip()


def _papers(_: str) -> str:
    suites = [choice for choice in choices("experiment") if choice.name.startswith("paper/")]
    rows = [f"| `experiment={suite.name}` | {suite.title} |" for suite in suites]
    return "\n".join(["| suite | what it aims at |", "| --- | --- |", *rows])


def _record(_: str) -> str:
    rows = [f"| `{name}` | {words} |" for name, words in FIELDS.items()]
    return "\n".join(["| field | may be |", "| --- | --- |", *rows])


def _cost(_: str) -> str:
    text = (PAGES / "cost.md").read_text(encoding="utf-8")
    lines = ["| on | what | value |", "| --- | --- | ---: |"]
    for where, mark, names in (("CPU", "bench", HEADLINES), ("H100", "bench gpu", HEADLINES_GPU)):
        rows = [line.removeprefix("| ").split(" | ") for line in block(text, mark).splitlines()]
        for name in names:
            found = [row for row in rows if row[0].startswith(name)]
            if len(found) != 1:
                raise ValueError(f"cost.md has {len(found)} rows {name!r}")
            lines.append(f"| {where} | {found[0][0]} | {found[0][1]} |")
    return "\n".join(lines)


MADE: dict[str, Callable[[str], str]] = {
    "file": _file, "methods": _methods, "papers": _papers, "record": _record, "cost": _cost,
}  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page's text."""
    text = _replaced(filled(markdown), "readme", _readme)
    text = text.replace("](docs/pages/", "](").replace("](../../README.md", "](index.md")
    text = re.sub(r"\[([^\]]+)\]\((?:tests/|[A-Z]+\.)[^)]*\)", r"\1", text)  # is not in the site
    return re.sub(r"^<!-- .*? -->\n?", "\n", text, flags=re.MULTILINE)


def main() -> None:
    """Writes all that is made, and says where something was new."""
    for path in (README, *sorted(PAGES.glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            path.write_text(filled(text), encoding="utf-8")
            print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
