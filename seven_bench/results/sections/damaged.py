"""What was left out."""

from __future__ import annotations

from seven_bench.results.sections.section import Section

_MARKUP = r"""
{% if content.damaged %}
<section aria-labelledby="damaged">
  <h2 id="damaged">Left out</h2>
  <p>These files could not be used. Nothing of them is in the numbers above.</p>
  <ul class="damaged">
  {% for path, reason in content.damaged %}
    <li><code>{{ path }}</code> {{ reason }}</li>
  {% endfor %}
  </ul>
</section>
{% endif %}
"""

SECTION = Section(_MARKUP)
