"""A section is one file and one name in a list; nothing else knows it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from seven_bench.commands.report import write_report
from seven_bench.results import page, sections
from seven_bench.results.sections.section import Section

from .synthetic import make_record, write_run

SHARED = {"section", "numbers"}
NAMES = {module.name for module in pkgutil.iter_modules(sections.__path__)} - SHARED


def test_every_file_of_the_folder_is_on_the_page() -> None:
    found = {name: importlib.import_module(f"{sections.__name__}.{name}").SECTION for name in NAMES}
    assert len(found) == len(sections.SECTIONS)
    assert all(section in sections.SECTIONS for section in found.values())


@pytest.mark.parametrize("section", sections.SECTIONS)
def test_what_a_script_draws_is_in_its_own_markup(section: Section) -> None:
    if section.script:
        assert section.script.count("addSection({") == 1
        assert re.search('<(section|figure) class="scripted"', section.markup)


def test_a_new_section_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = Section(
        "<section><h2>Seeds</h2><p>{{ seeds | join(', ') }}</p></section>",
        script="addSection({ draw() { document.title = String(group.most); } });",
        context=lambda content: {"seeds": sorted(set(content.records["pruner"]))},
        fill=lambda payload, content: payload["groups"][0].update(most=41),
    )
    monkeypatch.setattr(page, "SECTIONS", (*sections.SECTIONS, made_up))
    write_run(tmp_path / "outputs", make_record(pruner="<b>"))
    text = write_report([tmp_path / "outputs"], tmp_path / "report").page.read_text()
    assert "<h2>Seeds</h2><p>&lt;b&gt;</p>" in text
    assert '"most":41' in text and "document.title" in text
