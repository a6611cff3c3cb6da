"""Where runs differ from: splits, seeds and draws of calibration."""

from __future__ import annotations

from typing import Any

from seven_bench.results.sections.section import PageContent, Section
from seven_bench.results.variance import ABOUT, tabulate_variance, tell

_MARKUP = r"""
{% if variance %}
<section aria-labelledby="variance-title">
  <h2 id="variance-title">Where runs differ from</h2>
  <p class="note">{{ variance_about }}</p>
  {% for table, rows in variance %}
  <h3>{{ table.title }}</h3>
  <div class="scroll" role="group" tabindex="0" aria-label="Variance components, {{ table.title }}">
  <table>
    <thead><tr><th scope="col">Method</th><th scope="col">Sparsity</th><th scope="col">Runs</th>{% for source in table.sources %}<th scope="col">{{ source | capitalize }}</th>{% endfor %}</tr></thead>
    <tbody>
    {% for row in rows %}
      <tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% endfor %}
</section>
{% endif %}
"""


def _context(content: PageContent) -> dict[str, Any]:
    tables = tabulate_variance(content.groups)
    told = [(table, [tell(row, table) for row in table.rows]) for table in tables]
    return {"variance": told, "variance_about": ABOUT}


SECTION = Section(_MARKUP, context=_context)
