"""Steady and noisy weights, where runs were analysed."""

from __future__ import annotations

from typing import Any

from seven_bench.results.sections.section import PageContent, Section
from seven_bench.results.sentinel_rows import tabulate_sentinels

_MARKUP = r"""
{% if sentinels or sentinels_damaged %}
{% macro share(pair) %}{% if pair[0] == pair[0] and pair[1] == pair[1] %}{{ "%.0f" | format(100 * pair[0]) }} / {{ "%.0f" | format(100 * pair[1]) }}{% else %}–{% endif %}{% endmacro %}
{% macro number(value) %}{{ "%.3f" | format(value) if value == value else "–" }}{% endmacro %}
<section aria-labelledby="sentinels-title">
  <h2 id="sentinels-title">Sentinels</h2>
  <p class="note">Among weights of like sensitivity |w|&nbsp;E|g|, sentinels are the half whose gradients have the higher signal-to-noise ratio (GSNR, (E&nbsp;g)² over Var&nbsp;g), temporary sentinels the rest. Cells read: % of the sentinels kept / % of the temporary ones kept. A method that looks at sensitivity alone keeps both alike; one that prefers steady gradients keeps more of the first.</p>
  {% for table in sentinels %}
  <h3>{{ table.title }}</h3>
  <div class="scroll" role="group" tabindex="0" aria-label="Sentinels, {{ table.title }}">
  <table>
    <thead>
      <tr><th scope="col">Method</th><th scope="col">Sparsity</th><th scope="col">Near the cut</th>
      {%- for decile in ["Top tenth", "2nd", "3rd", "4th"] %}<th scope="col">{{ decile }}</th>{% endfor %}
      <th scope="col">GSNR kept</th><th scope="col">by sensitivity</th><th scope="col">c kept</th><th scope="col">Seeds</th></tr>
    </thead>
    <tbody>
    {% for row in table.rows %}
      <tr><th scope="row">{{ row.method }}</th><td>{{ row.sparsity | sparsity }}</td><td><b>{{ share(row.cut) }}</b></td>
      {%- for pair in row.deciles[:4] %}<td>{{ share(pair) }}</td>{% endfor %}
      <td>{{ number(row.gsnr) }}</td><td>{{ number(row.by_sensitivity) }}</td><td>{{ number(row.evenness) }}</td><td>{{ row.seeds }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <p class="note">Near the cut are the places around the number of weights kept, half as many on either side as there are to the nearer end; tenths are of sensitivity, the highest first; the rest are in <code>sentinels.json</code> of each run. “By sensitivity” is the GSNR of as many weights chosen by sensitivity alone; c is E|g| over the root of E&nbsp;g². {{ table.caption }}</p>
  {% for line in table.doubts %}
  <p class="note"><b>Beware:</b> {{ line }}</p>
  {% endfor %}
  {% endfor %}
  {% for path, reason in sentinels_damaged %}
  <p class="note"><code>{{ path }}</code> {{ reason }}.</p>
  {% endfor %}
</section>
{% endif %}
"""


def _context(content: PageContent) -> dict[str, Any]:
    tables, damaged = tabulate_sentinels(content.groups)
    return {"sentinels": tables, "sentinels_damaged": damaged}


SECTION = Section(_MARKUP, context=_context)
