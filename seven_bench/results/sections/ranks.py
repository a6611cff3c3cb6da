"""Average ranks of methods over tasks."""

from __future__ import annotations

from typing import Any

import pandas as pd

from seven_bench.results.sections.section import PageContent, Section
from seven_bench.results.statistics import WANTED_BLOCKS, Ranking
from seven_bench.results.tables import format_sparsity

_MARKUP = r"""
<section aria-labelledby="ranks-title">
  <h2 id="ranks-title">Ranks across tasks</h2>
  {% for family in ranks %}
  <h3>{{ family.title }}</h3>
  {% if family.rankings %}
  <div class="scroll" role="group" tabindex="0" aria-label="Average ranks, {{ family.title }}">
  <table>
    <thead><tr><th scope="col">Method</th>{% for level, _ in family.rankings %}<th scope="col">{{ level | sparsity }}</th>{% endfor %}</tr></thead>
    <tbody>
    {% for method, row in family.ranks.iterrows() %}
      <tr><th scope="row">{{ method }}</th>{% for rank in row %}<td>{{ "%.2f" | format(rank) if rank == rank else "–" }}</td>{% endfor %}</tr>
    {% endfor %}
      <tr class="foot"><th scope="row">Data sets</th>{% for _, ranking in family.rankings %}<td>{{ ranking.blocks }}</td>{% endfor %}</tr>
      <tr><th scope="row">Friedman p</th>{% for _, ranking in family.rankings %}<td>{{ "%.2g" | format(ranking.p) }}</td>{% endfor %}</tr>
    </tbody>
  </table>
  </div>
  <p class="note">Average rank over data sets at each sparsity, 1 the best. The critical-difference diagrams are among the figures.{% if family.few %} About ten data sets are wanted; with fewer, read the ranks with care.{% endif %}</p>
  {% endif %}
  {% for words, levels in family.told.items() %}
  <p class="note">Sparsity {{ levels | join(", ") }}: {{ words }}.</p>
  {% endfor %}
  {% else %}
  <p class="note">These records hold one task for each model and start. Ranks compare methods over data sets, about ten of them.</p>
  {% endfor %}
</section>
"""


def _context(content: PageContent) -> dict[str, Any]:
    """One table a title: average ranks by method and sparsity; what is too few is only told."""
    titles: dict[str, list[tuple[float, Ranking]]] = {}
    for title, sparsity, ranking in content.ranks:
        titles.setdefault(title, []).append((sparsity, ranking))
    tables = []
    for title, levels in titles.items():
        ranked = [(level, ranking) for level, ranking in levels if ranking.nemenyi is not None]
        by_level = pd.DataFrame({level: ranking.ranks for level, ranking in ranked})
        if ranked:
            by_level = by_level.sort_values(by_level.columns[-1])
        told: dict[str, list[str]] = {}
        for level, ranking in levels:
            if ranking.nemenyi is None:
                told.setdefault(ranking.words, []).append(format_sparsity(level))
        few = any(ranking.blocks < WANTED_BLOCKS for _, ranking in ranked)
        tables.append(
            {"few": few, "title": title, "rankings": ranked, "ranks": by_level, "told": told}
        )
    return {"ranks": tables}


SECTION = Section(_MARKUP, context=_context)
