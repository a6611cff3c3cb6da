"""The tables, for a reader without scripts."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
<noscript>
<p class="note">The charts and the links to single runs need JavaScript. The tables do not.</p>
{% for table in content.tables %}
<section>
  <h2>{{ table.title }}</h2>
  <div class="scroll" role="group" tabindex="0" aria-label="{{ table.title }}">
  <table>
    <caption>{{ table.caption }}</caption>
    <thead><tr><th scope="col">Method</th>{% for s in table.sparsities %}<th scope="col">{{ s | sparsity }}</th>{% else %}<th scope="col">dense</th>{% endfor %}</tr></thead>
    <tbody>
    {% for row in table.rows %}
      <tr{% if row.whole %} class="whole"{% endif %}><th scope="row">{{ row.label }}</th>
      {%- for cell in row.cells %}<td{% if cell and cell.best %} class="best"{% elif cell and cell.near %} class="near"{% endif %}>
        {%- if cell %}<b>{{ value(cell.summary.mean, table.metric) }}</b>
        {%- if cell.summary.n > 1 %} <small>±&nbsp;{{ value(cell.summary.std, table.metric) }}</small>{% endif %}
        {%- if cell.summary.n %} <small>({{ cell.summary.n }})</small>{% endif %}
        {%- else %}–{% endif %}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
</section>
{% endfor %}
</noscript>
"""

SECTION = Section(_MARKUP)
