"""On what the runs were computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from seven_bench.results.sections.section import PageContent, Section

_MARKUP = r"""
<section aria-labelledby="environment-title">
  <h2 id="environment-title">Where it ran</h2>
  <ul class="environments">
  {% for text, runs in environments[:12] %}
    <li>{{ text or "not recorded" }} <span class="count">{{ runs }} run{{ "s" if runs != 1 }}</span></li>
  {% endfor %}
  {% if environments | length > 12 %}<li>and {{ environments | length - 12 }} more, in <code>results.csv</code></li>{% endif %}
  </ul>
</section>
"""


def _context(content: PageContent) -> dict[str, Any]:
    """Distinct machines, code versions and library versions, with their number of runs."""
    names = [n for n in content.records if n.startswith("environment.")]
    rows = content.records[names].to_dict("records")
    counts = pd.Series([_describe(row) for row in rows], dtype=object).value_counts()
    return {"environments": [(str(text), int(number)) for text, number in counts.items()]}


def _describe(row: Mapping[Any, Any]) -> str:
    parts = []
    for name, value in row.items():
        if value is None or (isinstance(value, float) and math.isnan(value)) or value == {}:
            continue
        label = name.removeprefix("environment.").removeprefix("versions.")
        if isinstance(value, bool):
            parts.append(label if value else f"not {label}")
        else:
            parts.append(f"{label} {value}")
    return ", ".join(parts)


SECTION = Section(_MARKUP, context=_context)
